//! This node's Node object.
#![forbid(unsafe_code)]

use k8s_openapi::api::core::v1::Node;

use super::{Interner, label_of};
use crate::model::NodeInfo;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// An empty zone is no zone (rule D4).
pub(super) fn convert(object: &Node, interner: &mut Interner) -> NodeInfo {
    let zone = label_of(&object.metadata, ZONE_LABEL).filter(|zone| !zone.is_empty());
    NodeInfo {
        zone: zone.map(|zone| interner.intern(zone)),
    }
}

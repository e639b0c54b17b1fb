//! This node's Node object.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

use super::{Interner, address, label_of};
use crate::model::{IpNet, NodeInfo, Standing};

/// Set by the cluster autoscaler on nodes that it is about to delete.
const DELETION_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// An empty zone is no zone (rule D4).
pub(super) fn convert(object: &Node, interner: &mut Interner) -> NodeInfo {
    let zone = label_of(&object.metadata, ZONE_LABEL).filter(|zone| !zone.is_empty());
    NodeInfo {
        zone: zone.map(|zone| interner.intern(zone)),
        primary_v4: addresses(object).find_map(|addr| match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }),
        primary_v6: addresses(object).find_map(|addr| match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(addr),
        }),
        standing: standing(object),
        pod_cidrs: pod_cidrs(object),
    }
}

/// Rule J12.
fn standing(object: &Node) -> Standing {
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let mut taints = taints.unwrap_or(&[]).iter();
    let doomed = taints.any(|taint| taint.key == DELETION_TAINT);
    if doomed || object.metadata.deletion_timestamp.is_some() {
        Standing::Leaving
    } else {
        Standing::Staying
    }
}

/// `spec.podCIDRs`, or `spec.podCIDR` where only that is set.
fn pod_cidrs(object: &Node) -> Box<[IpNet]> {
    let Some(spec) = &object.spec else {
        return Box::default();
    };
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let listed = spec.pod_cidrs.clone().filter(|listed| !listed.is_empty());
    let listed = listed.or_else(|| spec.pod_cidr.clone().map(|only| vec![only]));
    super::networks("Node", name, &listed.unwrap_or_default())
}

/// Internal addresses first (rule L2). What is no address, such as a host name, is left
/// out.
fn addresses(object: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    let status = object.status.as_ref();
    let listed = status
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or(&[]);
    ["InternalIP", "ExternalIP"]
        .into_iter()
        .flat_map(move |kind| {
            let of_kind = listed.iter().filter(move |entry| entry.type_ == kind);
            of_kind.filter_map(|entry| address::parse(&entry.address))
        })
}

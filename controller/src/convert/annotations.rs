//! Annotations: those that this proxy defines, and one of the control plane's.
#![forbid(unsafe_code)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{ForwardingMode, ObjectName};

/// Pins the length of a Service's Maglev tables: a prime that [`maglev::check_len`]
/// accepts. Without it the length follows the number of backends.
pub const TABLE_LENGTH: &str = "lb/maglev-table-length";

/// Chooses how packets from outside reach backends on other nodes: `snat`, `dsr` or
/// `hybrid`. Without it the node's default counts.
pub const FORWARDING_MODE: &str = "lb/forwarding-mode";

/// When the change of a Service or a pod happened that led to an EndpointSlice.
const LAST_CHANGE_TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The largest length that can be pinned, 4 MiB of table: an annotation is open to
/// everyone who may edit a Service, and every node pays for it.
const MAX_PINNED_LEN: u32 = maglev::LADDER[maglev::LADDER.len() - 1];

/// The pinned length; an unusable one is ignored with a log.
pub(super) fn table_length(metadata: &ObjectMeta, object: &ObjectName) -> Option<u32> {
    let text = value(metadata, TABLE_LENGTH)?;
    let len = text
        .parse()
        .ok()
        .and_then(|len| maglev::check_len(len).ok());
    let len = len.filter(|len| (2..=MAX_PINNED_LEN).contains(len));
    if len.is_none() {
        tracing::warn!(
            %object,
            annotation = TABLE_LENGTH,
            value = text,
            "ignoring a table length that is not a prime of at most {MAX_PINNED_LEN}"
        );
    }
    len
}

/// The forwarding mode; an unusable one is ignored with a log.
pub(super) fn forwarding_mode(
    metadata: &ObjectMeta,
    object: &ObjectName,
) -> Option<ForwardingMode> {
    let text = value(metadata, FORWARDING_MODE)?;
    text.parse()
        .inspect_err(|problem| {
            tracing::warn!(
                %object,
                annotation = FORWARDING_MODE,
                value = text,
                %problem,
                "ignoring a forwarding mode"
            );
        })
        .ok()
}

/// Nanoseconds since the Unix epoch; `None` if it is not known.
pub(super) fn last_change_trigger(metadata: &ObjectMeta) -> Option<u64> {
    let at: jiff::Timestamp = value(metadata, LAST_CHANGE_TRIGGER)?.parse().ok()?;
    at.as_nanosecond().try_into().ok()
}

fn value<'a>(metadata: &'a ObjectMeta, annotation: &str) -> Option<&'a str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(annotation).map(String::as_str)
}

//! Annotations that this proxy itself defines.
#![forbid(unsafe_code)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::ObjectName;

/// Pins the length of a Service's Maglev tables: a prime that [`maglev::check_len`]
/// accepts. Without it the length follows the number of backends.
pub const TABLE_LENGTH: &str = "lb/maglev-table-length";

/// The largest length that can be pinned, 4 MiB of table: an annotation is open to
/// everyone who may edit a Service, and every node pays for it.
const MAX_PINNED_LEN: u32 = maglev::LADDER[maglev::LADDER.len() - 1];

/// The pinned length; an unusable one is ignored with a log.
pub(super) fn table_length(metadata: &ObjectMeta, object: &ObjectName) -> Option<u32> {
    let text = metadata.annotations.as_ref()?.get(TABLE_LENGTH)?;
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

//! Annotations that this proxy itself defines.
#![forbid(unsafe_code)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::ObjectName;

/// Pins the length of a Service's Maglev tables: a prime of at most
/// [`MAX_TABLE_LENGTH`]. Without it the length follows the number of backends.
pub const TABLE_LENGTH: &str = "lb/maglev-table-length";

/// Largest length that can be pinned: the largest that Cilium offers.
const MAX_TABLE_LENGTH: u32 = 131_071;

/// The pinned length; an unusable one is ignored with a log.
pub(super) fn table_length(metadata: &ObjectMeta, object: &ObjectName) -> Option<u32> {
    let text = metadata.annotations.as_ref()?.get(TABLE_LENGTH)?;
    let len = text.parse().ok();
    let len = len.filter(|len| *len <= MAX_TABLE_LENGTH && is_prime(*len));
    if len.is_none() {
        tracing::warn!(
            %object,
            annotation = TABLE_LENGTH,
            value = text,
            "ignoring a table length that is not a prime of at most {MAX_TABLE_LENGTH}"
        );
    }
    len
}

/// Trial division: at most 362 steps below [`MAX_TABLE_LENGTH`].
fn is_prime(number: u32) -> bool {
    number >= 2 && !(2..=number.isqrt()).any(|divisor| number.is_multiple_of(divisor))
}

//! `spec.loadBalancerSourceRanges`.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

use super::address;
use crate::model::{IpNet, ObjectName};

/// The ranges that can be read, in their order; others are skipped with a log, empty ones
/// silently (rules A8, E28).
pub(super) fn source_ranges(object: &ObjectName, spec: &v1::ServiceSpec) -> Box<[IpNet]> {
    let texts = spec.load_balancer_source_ranges.iter().flatten();
    let texts = texts
        .map(|text| text.trim())
        .filter(|text| !text.is_empty());
    texts
        .filter_map(|text| {
            let range = parse(text);
            if range.is_none() {
                tracing::warn!(%object, text, "skipping an invalid source range");
            }
            range
        })
        .collect()
}

/// Reads `ADDRESS/LENGTH`; bits beyond the length are dropped. A range of v4-mapped
/// addresses is one of IPv4, as their packets are.
fn parse(text: &str) -> Option<IpNet> {
    let (addr, len) = text.split_once('/')?;
    if !len.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let len: u8 = len.parse().ok()?;
    let parsed = address::parse(addr)?;
    let mapped = addr.contains(':') && matches!(parsed, IpAddr::V4(_));
    let len = if mapped { len.checked_sub(96)? } else { len };
    IpNet::new(parsed, len).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_made_canonical() {
        for (text, canonical) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(parse(text), Some(canonical.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_range() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/8/8",
            "2001:db8::/129",
            "::ffff:10.0.0.0/95",
            "example.com/8",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

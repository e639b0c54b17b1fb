//! Port numbers, names and protocols.
#![forbid(unsafe_code)]

use crate::model::{ObjectName, Protocol};

/// A port number that traffic can have: 1 to 65535.
pub(super) fn number(value: i32) -> Option<u16> {
    u16::try_from(value).ok().filter(|port| *port != 0)
}

/// The name and protocol of a port, or `None`, with a log, if the API server would
/// have refused them.
pub(super) fn name_and_protocol<'a>(
    name: Option<&'a str>,
    protocol: Option<&str>,
    object: &ObjectName,
) -> Option<(&'a str, Protocol)> {
    let name = name.unwrap_or("");
    if !name.is_empty() && !is_dns_label(name) {
        tracing::warn!(%object, name, "skipping a port whose name is not a DNS label");
        return None;
    }
    let protocol = match protocol.unwrap_or("TCP") {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => {
            tracing::warn!(%object, name, protocol = other, "skipping a port of an unknown protocol");
            return None;
        }
    };
    Some((name, protocol))
}

/// RFC 1123 label: at most 63 lower-case letters, digits and inner hyphens.
fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_range_are_no_ports() {
        for (value, port) in [
            (i32::MIN, None),
            (-1, None),
            (0, None),
            (1, Some(1)),
            (65535, Some(65535)),
            (65536, None),
            (i32::MAX, None),
        ] {
            assert_eq!(number(value), port, "{value}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for name in ["http", "a", "9p", "dns-tcp", &"x".repeat(63)] {
            assert!(is_dns_label(name), "{name}");
        }
        for name in ["", "HTTP", "-a", "a-", "a.b", "a_b", "é", &"x".repeat(64)] {
            assert!(!is_dns_label(name), "{name}");
        }
    }
}

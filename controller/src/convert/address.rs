//! IP addresses as Kubernetes writes them.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

/// Reads an address, accepting leading zeros in decimal octets (rule A8), and returns
/// the one canonical form: a v4-mapped IPv6 address is IPv4, as in Go.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    let addr = text.parse().ok().or_else(|| sloppy(text))?;
    Some(IpAddr::to_canonical(&addr))
}

/// Octets with leading zeros, alone or at the end of an IPv6 address.
fn sloppy(text: &str) -> Option<IpAddr> {
    match text.rsplit_once(':') {
        None => sloppy_v4(text).map(IpAddr::V4),
        Some((head, tail)) => format!("{head}:{}", sloppy_v4(tail)?).parse().ok(),
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        // `u8::from_str` would take a sign.
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// The addresses that can be read and dialled; others are skipped with a log, empty ones
/// silently (rule A8). Repetitions are dropped.
///
/// The unspecified address stands for all addresses of a node where it is a key, and a
/// loopback address is every host's own: no Service may claim either.
pub(super) fn parse_vips(
    texts: impl Iterator<Item = impl AsRef<str>>,
    field: &'static str,
    object: &crate::model::ObjectName,
) -> Vec<IpAddr> {
    let mut addrs = Vec::new();
    for text in texts {
        let text = text.as_ref();
        if text.is_empty() {
            continue;
        }
        let addr = parse(text).filter(|addr| !addr.is_unspecified() && !addr.is_loopback());
        match addr {
            Some(addr) if addrs.contains(&addr) => {}
            Some(addr) => addrs.push(addr),
            None => tracing::warn!(%object, field, text, "skipping an invalid address"),
        }
    }
    addrs.shrink_to_fit();
    addrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        for (text, canonical) in [
            ("10.0.0.1", "10.0.0.1"),
            ("010.0.0.1", "10.0.0.1"),
            ("010.000.0000.001", "10.0.0.1"),
            ("fd00::0001", "fd00::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:010.0.0.01", "10.0.0.1"),
            ("64:ff9b::010.0.0.1", "64:ff9b::10.0.0.1"),
        ] {
            assert_eq!(parse(text), Some(canonical.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_address() {
        for text in [
            "",
            " ",
            "None",
            "10.0.0",
            "10.0.0.1.2",
            "10.0.0.256",
            "+10.0.0.1",
            "10..0.1",
            "0x0a.0.0.1",
            "10.0.0.1/32",
            "fe80::1%eth0",
            "fd00::1::2",
            "example.com",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}

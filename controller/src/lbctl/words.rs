//! The words for what maps hold as numbers. Numbers that no version writes read as
//! `unknown`.

use lb_ebpf::abi::{FrontendKind, Name, Protocol, Scope, SourceRangeKey};

/// What a number without a meaning reads as.
pub(super) const UNKNOWN: &str = "unknown";

/// `spec.type` of a Service.
pub(super) const fn service_type(number: u8) -> &'static str {
    match number {
        0 => "ClusterIP",
        1 => "NodePort",
        2 => "LoadBalancer",
        _ => UNKNOWN,
    }
}

/// A traffic policy.
pub(super) const fn policy(local: bool) -> &'static str {
    if local { "Local" } else { "Cluster" }
}

/// A protocol number.
pub(super) const fn protocol(number: u8) -> &'static str {
    match Protocol::from_number(number) {
        Some(Protocol::Tcp) => "TCP",
        Some(Protocol::Udp) => "UDP",
        Some(Protocol::Sctp) => "SCTP",
        None => UNKNOWN,
    }
}

/// An address family.
pub(super) const fn family(number: u8) -> &'static str {
    match number {
        4 => "IPv4",
        6 => "IPv6",
        _ => UNKNOWN,
    }
}

/// The kind in the flags of a frontend.
pub(super) const fn kind(flags: u32) -> &'static str {
    match FrontendKind::from_flags(flags) {
        Some(FrontendKind::ClusterIp) => "ClusterIP",
        Some(FrontendKind::NodePort) => "NodePort",
        Some(FrontendKind::ExternalIp) => "ExternalIP",
        Some(FrontendKind::LoadBalancer) => "LoadBalancer",
        None => UNKNOWN,
    }
}

/// Which traffic a frontend is for.
pub(super) const fn scope(number: u8) -> &'static str {
    if number == Scope::Internal as u8 {
        "internal"
    } else if number == Scope::External as u8 {
        "external"
    } else {
        UNKNOWN
    }
}

/// Forwarding of packets from outside.
pub(super) const fn forwarding(dsr: bool) -> &'static str {
    if dsr { "dsr" } else { "snat" }
}

/// A source range as in `spec.loadBalancerSourceRanges`.
pub(super) fn source_range(key: &SourceRangeKey) -> String {
    let addr = key.range.addr;
    let all = SourceRangeKey::FULL - 128;
    let len = key.prefix_len.saturating_sub(all);
    match len.checked_sub(96).filter(|_| addr.is_v4()) {
        Some(v4_len) => format!("{}/{v4_len}", addr.to_ip()),
        None => format!("{}/{len}", std::net::Ipv6Addr::from(addr.octets())),
    }
}

/// A set of backends.
pub(super) const fn set(local: bool) -> &'static str {
    if local { "local" } else { "cluster" }
}

/// A name, safe for a terminal: control characters become U+FFFD.
pub(super) fn name(name: &Name) -> String {
    clean(name.as_str())
}

/// The same of NUL-padded bytes.
pub(super) fn padded(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    clean(&String::from_utf8_lossy(
        bytes.get(..end).unwrap_or_default(),
    ))
}

fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A number of seconds in at most two units: `3h`, `1m 30s`, `2d 4h`.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (length, unit) in units {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        return "0s".into();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::{Addr, SourceRange, SourceRangeKey};

    use super::{clean, source_range, span};

    #[test]
    fn source_ranges_lose_their_mapping() {
        let shown = |addr: &str, prefix_len| {
            let addr = Addr::from(addr.parse::<std::net::IpAddr>().unwrap());
            let range = SourceRange {
                service_id: 7,
                addr,
            };
            source_range(&SourceRangeKey { prefix_len, range })
        };
        assert_eq!(shown("10.0.0.0", 32 + 96 + 8), "10.0.0.0/8");
        assert_eq!(shown("192.0.2.1", SourceRangeKey::FULL), "192.0.2.1/32");
        assert_eq!(shown("2001:db8::", 32 + 32), "2001:db8::/32");
        assert_eq!(shown("10.0.0.0", 32 + 90), "::ffff:10.0.0.0/90");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (90, "1m 30s"),
            (10_800, "3h"),
            (100_000, "1d 3h"),
            (86_401, "1d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}

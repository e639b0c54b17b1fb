//! What these proxies do not do, as data: tests of these rules are not asked of them.

use super::Mode;

/// Rules of `RULES.md` that kube-proxy's datapath of this mode does not have, or that this proxy
/// leaves out, with the reason.
pub fn lacks(mode: Mode) -> &'static [(&'static str, &'static str)] {
    match mode {
        Mode::Iptables => &IPTABLES,
        Mode::Nftables => &NFTABLES,
    }
}

const METRICS: &str = "this proxy counts nothing";
const SOCKETS: &str = "connected UDP sockets are translated packet by packet: none is ended";

const IPTABLES: [(&str, &str); 4] = [
    (
        "E3",
        "iptables leaves other ports of a ClusterIP to routing",
    ),
    ("I7", SOCKETS),
    ("J19", METRICS),
    ("J21", METRICS),
];

const NFTABLES: [(&str, &str); 5] = [
    (
        "E8",
        "nftables serves node ports at the node's primary address alone",
    ),
    ("E11", "nftables serves no node ports at loopback addresses"),
    ("I7", SOCKETS),
    ("J19", METRICS),
    ("J21", METRICS),
];

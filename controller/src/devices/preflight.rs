//! Settings of this host that stand in the way of packets, found at start and shown in
//! `lbctl status`. Only what the kernel says by itself is looked at.

use std::{fs, ops::RangeInclusive};

use super::reserve::overlap;

/// What is in the way, one sentence each. `uplinks` are names of devices; `v6` says whether
/// the node has IPv6.
pub fn problems(
    uplinks: &[&str],
    v6: bool,
    snat_ports: Option<&RangeInclusive<u16>>,
) -> Vec<String> {
    let mut problems = Vec::new();
    if sysctl("ipv4/ip_forward") == Some(0) {
        problems.push(
            "net.ipv4.ip_forward is off: packets for backends are forwarded only where XDP or TC \
             redirects them"
                .to_owned(),
        );
    }
    if v6 && sysctl("ipv6/conf/all/forwarding") == Some(0) {
        problems.push(
            "net.ipv6.conf.all.forwarding is off: packets for IPv6 backends are forwarded only \
             where XDP or TC redirects them"
                .to_owned(),
        );
    }
    let everywhere = sysctl("ipv4/conf/all/rp_filter");
    for uplink in uplinks {
        // The larger one counts; 1 is strict, 2 is loose.
        let here = sysctl(&format!("ipv4/conf/{uplink}/rp_filter"));
        if everywhere.max(here) == Some(1) {
            problems.push(format!(
                "rp_filter is strict at {uplink}: packets that come in there but would be \
                 answered through another device are dropped (2 is loose)"
            ));
        }
    }
    let ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    if let Some(ports) = snat_ports
        && let Some((first, last)) = overlap(&ephemeral.unwrap_or_default(), ports)
    {
        problems.push(format!(
            "the SNAT ports {}-{} overlap net.ipv4.ip_local_port_range ({first}-{last}): sockets \
             that had such a port before it was reserved collide with them",
            ports.start(),
            ports.end()
        ));
    }
    problems
}

fn sysctl(path: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?;
    text.trim().parse().ok()
}

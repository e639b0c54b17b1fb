//! kube-proxy's iptables mode: chains, their order and their names.
//!
//! `nat` chooses: KUBE-SERVICES and KUBE-NODEPORTS lead to KUBE-SVC-* (cluster set), KUBE-SVL-*
//! (local set), KUBE-EXT-* (external policy) or KUBE-FW-* (source ranges), and those to
//! KUBE-SEP-*, one an endpoint. `filter` refuses and drops what `nat` had no endpoint for.

mod apply;
mod endpoints;
mod service;
mod tables;

use lb_controller::{desired::DesiredService, model::Family};

pub use self::apply::{Applied, cleanup, script};
use self::{service::add, tables::Tables};
use super::{NodeFacts, service::ServiceView};

/// The mark of packets to masquerade.
const MASQUERADE: &str = "0x4000";

/// What `iptables-restore` and `ip6tables-restore` read.
pub fn render(services: &[DesiredService], facts: &NodeFacts) -> String {
    let of = |family, program| format!("# {program}\n{}", tables(services, facts, family));
    of(Family::V4, "iptables-restore") + &of(Family::V6, "ip6tables-restore")
}

fn tables(services: &[DesiredService], facts: &NodeFacts, family: Family) -> Tables {
    let mut tables = fixed(facts, family);
    let services = services.iter().map(ServiceView::of);
    for service in services.filter(|service| service.desired.key.family == family) {
        add(&mut tables, &service, facts);
    }
    node_ports(&mut tables, facts, family);
    tables
}

/// What is there without any Service.
fn fixed(facts: &NodeFacts, family: Family) -> Tables {
    let mut tables = Tables::default();
    for chain in [
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
    ] {
        tables.filter.declare(chain);
    }
    for chain in [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ",
    ] {
        tables.nat.declare(chain);
    }
    let mark = format!("{MASQUERADE}/{MASQUERADE}");
    let filter = &mut tables.filter;
    // What connection tracking cannot place would reach the client untranslated, which
    // would answer with a reset (rule G10).
    filter.rule("KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP");
    filter.rule("KUBE-FORWARD", &format!("-m mark --mark {mark} -j ACCEPT"));
    let known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    filter.rule("KUBE-FORWARD", known);
    if facts.localhost_node_ports && family == Family::V4 {
        // The chain is the kubelet's, which blocks what route_localnet would let in.
        filter.rule(
            "KUBE-FIREWALL",
            "-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT \
             -j DROP",
        );
    } else {
        filter.declare("KUBE-FIREWALL");
    }
    let nat = &mut tables.nat;
    let marking = format!("-j MARK --or-mark {MASQUERADE}");
    nat.rule("KUBE-MARK-MASQ", &marking);
    let unmarked = format!("-m mark ! --mark {mark} -j RETURN");
    nat.rule("KUBE-POSTROUTING", &unmarked);
    // The packet may pass again, through a tunnel.
    let unmarking = format!("-j MARK --xor-mark {MASQUERADE}");
    nat.rule("KUBE-POSTROUTING", &unmarking);
    nat.rule("KUBE-POSTROUTING", "-j MASQUERADE --random-fully");
    tables
}

/// The last rule of KUBE-SERVICES: addresses of this node (rules E8, E11).
fn node_ports(tables: &mut Tables, facts: &NodeFacts, family: Family) {
    let except = match family {
        Family::V4 if facts.localhost_node_ports => "",
        Family::V4 => "! -d 127.0.0.0/8 ",
        Family::V6 => "! -d ::1/128 ",
    };
    let rule = format!("{except}-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");
    tables.nat.rule("KUBE-SERVICES", &rule);
}

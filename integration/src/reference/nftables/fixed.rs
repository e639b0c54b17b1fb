//! What is there without any Service: hooks, checks, masquerading.

use lb_controller::model::Family;

use super::{super::NodeFacts, table::Table, word};

const MASQUERADE: &str = "0x4000";

/// Checks of sources come before DNAT, so that they see what was dialled; checks for missing
/// endpoints after it, where only what was not translated still has a VIP as its destination.
const HOOKS: [(&str, &str, &[&str]); 8] = [
    (
        "filter-prerouting-pre-dnat",
        "{ type filter hook prerouting priority -110; }",
        &["ct state new jump firewall-check"],
    ),
    (
        "filter-output-pre-dnat",
        "{ type filter hook output priority -110; }",
        &["ct state new jump firewall-check"],
    ),
    (
        "filter-input",
        "{ type filter hook input priority 0; }",
        &[
            "ct state new jump nodeport-endpoints-check",
            "ct state new jump service-endpoints-check",
        ],
    ),
    (
        "filter-forward",
        "{ type filter hook forward priority 0; }",
        &[
            // Rule G10.
            "ct state invalid drop",
            "ct state new jump service-endpoints-check",
            "ct state new jump cluster-ips-check",
        ],
    ),
    (
        "filter-output",
        "{ type filter hook output priority 0; }",
        &[
            "ct state new jump service-endpoints-check",
            "ct state new jump cluster-ips-check",
        ],
    ),
    (
        "nat-prerouting",
        "{ type nat hook prerouting priority -100; }",
        &["jump services"],
    ),
    (
        "nat-output",
        "{ type nat hook output priority -100; }",
        &["jump services"],
    ),
    (
        "nat-postrouting",
        "{ type nat hook postrouting priority 100; }",
        &["jump masquerading"],
    ),
];

/// The table without Services.
pub(super) fn table(facts: &NodeFacts, family: Family) -> Table {
    let mut table = Table::empty(family);
    for (chain, hook, rules) in HOOKS {
        table.base_chain(chain, hook);
        for rule in rules {
            table.rule(chain, *rule);
        }
    }
    sets(&mut table, facts);
    services(&mut table, facts);
    checks(&mut table, facts);
    table.rule(
        "mark-for-masquerade",
        format!("mark set mark or {MASQUERADE}"),
    );
    let ip = word(family);
    // Rule G2.
    table.rule(
        "masquerading",
        format!("{ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"),
    );
    let unmarked = format!("mark and {MASQUERADE} == 0 return");
    table.rule("masquerading", unmarked);
    let unmarking = format!("mark set mark xor {MASQUERADE}");
    table.rule("masquerading", unmarking);
    table.rule("masquerading", "masquerade fully-random");
    table
}

fn sets(table: &mut Table, facts: &NodeFacts) {
    let address = address_type(table.family);
    let vip = format!("type {address} . inet_proto . inet_service : verdict");
    for map in ["service-ips", "firewall-ips", "no-endpoint-services"] {
        table.set("map", map, &vip);
    }
    for map in ["service-nodeports", "no-endpoint-nodeports"] {
        table.set("map", map, "type inet_proto . inet_service : verdict");
    }
    table.set("set", "cluster-ips", &format!("type {address}"));
    let hairpin = format!("type {address} . {address} . inet_proto . inet_service");
    table.set("set", "hairpin-connections", &hairpin);
    if let Some(primary) = facts.node.primary(table.family) {
        table.set("set", "nodeport-ips", &format!("type {address}"));
        table.element("nodeport-ips", primary.to_string(), None);
    }
}

/// Which of a node's addresses have node ports: the primary one if it is known (rule E10).
fn node_addresses(table: &Table, facts: &NodeFacts) -> String {
    let ip = word(table.family);
    match facts.node.primary(table.family) {
        Some(_) => format!("{ip} daddr @nodeport-ips"),
        None if table.family == Family::V4 => "ip daddr != 127.0.0.0/8 fib daddr type local".into(),
        None => "ip6 daddr != ::1 fib daddr type local".into(),
    }
}

fn services(table: &mut Table, facts: &NodeFacts) {
    let ip = word(table.family);
    let node = node_addresses(table, facts);
    table.rule(
        "services",
        format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"),
    );
    table.rule(
        "services",
        format!("{node} meta l4proto . th dport vmap @service-nodeports"),
    );
}

fn checks(table: &mut Table, facts: &NodeFacts) {
    let ip = word(table.family);
    let node = node_addresses(table, facts);
    table.rule("reject-chain", "reject");
    table.rule(
        "firewall-check",
        format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips"),
    );
    table.rule(
        "service-endpoints-check",
        format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services"),
    );
    table.rule(
        "nodeport-endpoints-check",
        format!("{node} meta l4proto . th dport vmap @no-endpoint-nodeports"),
    );
    // Rule E3.
    let undefined = format!("{ip} daddr @cluster-ips reject");
    table.rule("cluster-ips-check", undefined);
    let family = table.family;
    let ranges = facts.service_cidrs.iter();
    for range in ranges.filter(|range| Family::of(range.addr()) == family) {
        table.rule("cluster-ips-check", format!("{ip} daddr {range} drop"));
    }
}

/// The type of addresses in sets.
pub(super) fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

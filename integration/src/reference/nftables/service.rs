//! Chains and elements of one Service port in one family.

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{BackendFlags, FrontendKind};

use super::{
    super::{NodeFacts, facts::LocalDetector, names, service::ServiceView},
    fixed::address_type,
    table::Table,
    word,
};

/// The chains of a Service port.
struct Chains {
    cluster: String,
    local: String,
    external: String,
    firewall: String,
}

/// Adds everything that `service` needs.
pub(super) fn add(table: &mut Table, service: &ServiceView<'_>, facts: &NodeFacts) {
    let base = names::base(service);
    let chains = Chains {
        cluster: format!("service-{base}"),
        local: format!("local-{base}"),
        external: format!("external-{base}"),
        firewall: format!("firewall-{base}"),
    };
    cluster_ip(table, service, facts, &chains);
    for kind in [FrontendKind::ExternalIp, FrontendKind::LoadBalancer] {
        for ip in service.addresses(kind) {
            vip(table, service, ip, &chains.external);
        }
    }
    node_port(table, service, &chains.external);
    firewall(table, service, &chains.firewall);
    if service.has_any && service.is_exposed() {
        external(table, service, facts, &chains);
    }
    for (chain, set) in [
        (&chains.cluster, &service.cluster),
        (&chains.local, &service.local),
    ] {
        if !set.is_empty() {
            choose(table, service, chain, set);
        }
    }
    for address in service.in_use() {
        endpoint(table, service, address);
    }
    hairpins(table, service);
}

/// The ClusterIP, which obeys the internal policy alone.
fn cluster_ip(table: &mut Table, service: &ServiceView<'_>, facts: &NodeFacts, chains: &Chains) {
    let chain = if service.internal_local() {
        &chains.local
    } else {
        &chains.cluster
    };
    let (ip, protocol, port) = (word(table.family), service.protocol(), service.desired.port);
    for address in service.addresses(FrontendKind::ClusterIp) {
        table.element("cluster-ips", address.to_string(), None);
        if service.internal().is_empty() {
            let refusal = Some(verdict(service));
            table.element("no-endpoint-services", key(service, address), refusal);
            continue;
        }
        let found = Some(format!("goto {chain}"));
        table.element("service-ips", key(service, address), found);
        // Rule G4.
        if let Some(strangers) = source(table, facts, false) {
            let dialled = format!("{ip} daddr {address} {protocol} dport {port}");
            table.rule(
                chain,
                format!("{dialled} {strangers} jump mark-for-masquerade"),
            );
        }
    }
}

/// An external IP or a load balancer's.
fn vip(table: &mut Table, service: &ServiceView<'_>, ip: IpAddr, chain: &str) {
    if service.has_any {
        let found = Some(format!("goto {chain}"));
        table.element("service-ips", key(service, ip), found);
    }
    if service.external().is_empty() {
        let refusal = Some(verdict(service));
        table.element("no-endpoint-services", key(service, ip), refusal);
    }
}

fn node_port(table: &mut Table, service: &ServiceView<'_>, chain: &str) {
    let Some(port) = service.node_port() else {
        return;
    };
    let key = format!("{} . {port}", service.protocol());
    if service.has_any {
        let found = Some(format!("goto {chain}"));
        table.element("service-nodeports", key.clone(), found);
    }
    if service.external().is_empty() {
        table.element("no-endpoint-nodeports", key, Some(verdict(service)));
    }
}

/// Rules E26 to E29; unlike iptables, also without endpoints (rule E31).
fn firewall(table: &mut Table, service: &ServiceView<'_>, chain: &str) {
    let vips = service.addresses(FrontendKind::LoadBalancer);
    if service.source_ranges().is_empty() || vips.is_empty() {
        return;
    }
    for ip in vips {
        let check = Some(format!("goto {chain}"));
        table.element("firewall-ips", key(service, ip), check);
    }
    let ip = word(table.family);
    // A rule a range: ranges may overlap, elements of a set may not.
    for range in service.source_ranges() {
        table.rule(chain, format!("{ip} saddr {range} return"));
    }
    table.rule(chain, "drop");
}

/// What happens at every frontend but the ClusterIP.
fn external(table: &mut Table, service: &ServiceView<'_>, facts: &NodeFacts, chains: &Chains) {
    let chain = &chains.external;
    table.chain(chain);
    if service.external_local() {
        // Rules F1 and F2: pods of this node and its own processes meet the cluster set.
        if !service.cluster.is_empty() {
            let cluster = &chains.cluster;
            if let Some(pods) = source(table, facts, true) {
                table.rule(chain, format!("{pods} goto {cluster}"));
            }
            table.rule(chain, "fib saddr type local jump mark-for-masquerade");
            table.rule(chain, format!("fib saddr type local goto {cluster}"));
        }
        if !service.local.is_empty() {
            table.rule(chain, format!("goto {}", chains.local));
        }
    } else {
        // Rule F5.
        table.rule(chain, "jump mark-for-masquerade");
        if !service.cluster.is_empty() {
            table.rule(chain, format!("goto {}", chains.cluster));
        }
    }
}

/// Leads to the remembered endpoint (rule H1), else to any with the same chance (rule C15).
fn choose(table: &mut Table, service: &ServiceView<'_>, chain: &str, endpoints: &[SocketAddr]) {
    let chains: Vec<String> = endpoints
        .iter()
        .map(|&endpoint| names::endpoint_base(service, endpoint))
        .collect();
    if service.affinity().is_some() {
        let ip = word(table.family);
        for base in &chains {
            let remembered = format!("{ip} saddr @affinity-{base} goto endpoint-{base}");
            table.rule(chain, remembered);
        }
    }
    let ways = chains.iter().enumerate();
    let ways: Vec<String> = ways
        .map(|(index, base)| format!("{index} : goto endpoint-{base}"))
        .collect();
    let (count, ways) = (ways.len(), ways.join(", "));
    table.rule(
        chain,
        format!("numgen random mod {count} vmap {{ {ways} }}"),
    );
}

fn endpoint(table: &mut Table, service: &ServiceView<'_>, address: SocketAddr) {
    let base = names::endpoint_base(service, address);
    let chain = format!("endpoint-{base}");
    if let Some(seconds) = service.affinity() {
        let (ip, affinity) = (word(table.family), format!("affinity-{base}"));
        // Here and not in the set, whose properties cannot be changed.
        let remember = format!("update @{affinity} {{ {ip} saddr timeout {seconds}s }}");
        let kind = address_type(table.family);
        let declaration = format!("type {kind}; size 65535; flags dynamic,timeout");
        table.dynamic_set(&affinity, &declaration);
        table.rule(&chain, remember);
    }
    let protocol = service.protocol();
    table.rule(&chain, format!("meta l4proto {protocol} dnat to {address}"));
}

/// Local endpoints that may dial themselves (rule G2).
fn hairpins(table: &mut Table, service: &ServiceView<'_>) {
    let in_use = service.in_use();
    let backends = service.desired.backends.iter();
    let local = backends.filter(|backend| backend.flags & BackendFlags::LOCAL != 0);
    for backend in local {
        let (ip, port) = (backend.addr, backend.port);
        if in_use.contains(&SocketAddr::new(ip, port)) {
            let key = format!("{ip} . {ip} . {} . {port}", service.protocol());
            table.element("hairpin-connections", key, None);
        }
    }
}

/// Rules C11 and C12.
fn verdict(service: &ServiceView<'_>) -> String {
    let verdict = if service.has_any {
        "drop"
    } else {
        "goto reject-chain"
    };
    verdict.to_owned()
}

fn key(service: &ServiceView<'_>, ip: IpAddr) -> String {
    format!("{ip} . {} . {}", service.protocol(), service.desired.port)
}

/// Matches packets of this node's pods, or all others; nothing without a detector.
fn source(table: &Table, facts: &NodeFacts, pods: bool) -> Option<String> {
    let is = if pods { "" } else { "!= " };
    match &facts.local {
        LocalDetector::None => None,
        LocalDetector::ClusterCidr(ranges) => {
            let range = LocalDetector::cidr(ranges, table.family)?;
            Some(format!("{} saddr {is}{range}", word(table.family)))
        }
        LocalDetector::InterfacePrefix(prefix) => Some(format!("iifname {is}\"{prefix}*\"")),
        LocalDetector::Bridge(name) => Some(format!("iifname {is}\"{name}\"")),
    }
}

//! The rules of one Service port in one family.

use std::net::IpAddr;

use lb_controller::model::Family;
use lb_ebpf::abi::FrontendKind;

use super::{
    super::{NodeFacts, facts::LocalDetector, names, service::ServiceView},
    endpoints,
    tables::Tables,
};

/// The chains of a Service port.
struct Chains {
    cluster: String,
    local: String,
    external: String,
    firewall: String,
}

/// Adds everything that `service` needs.
pub(super) fn add(tables: &mut Tables, service: &ServiceView<'_>, facts: &NodeFacts) {
    let chains = Chains {
        cluster: names::chain("SVC", service),
        local: names::chain("SVL", service),
        external: names::chain("EXT", service),
        firewall: names::chain("FW", service),
    };
    cluster_ip(tables, service, facts, &chains);
    let restricted = service.has_any && !service.source_ranges().is_empty();
    for ip in service.addresses(FrontendKind::ExternalIp) {
        vip(tables, service, ip, &chains.external);
    }
    for ip in service.addresses(FrontendKind::LoadBalancer) {
        if restricted {
            vip(tables, service, ip, &chains.firewall);
            let dropped = format!("{}-j DROP", destination(service, ip));
            tables.filter.rule("KUBE-PROXY-FIREWALL", &dropped);
        } else {
            vip(tables, service, ip, &chains.external);
        }
    }
    node_port(tables, service, &chains.external);
    if service.has_any && service.is_exposed() {
        external(tables, service, facts, &chains);
    }
    if restricted && !service.addresses(FrontendKind::LoadBalancer).is_empty() {
        for range in service.source_ranges() {
            let admitted = format!("-s {range} -j {}", chains.external);
            tables.nat.rule(&chains.firewall, &admitted);
        }
    }
    for (chain, set) in [
        (&chains.cluster, &service.cluster),
        (&chains.local, &service.local),
    ] {
        if !set.is_empty() {
            endpoints::choose(tables, service, chain, set);
        }
    }
    for endpoint in service.in_use() {
        endpoints::endpoint(tables, service, endpoint);
    }
}

/// The ClusterIP, which obeys the internal policy alone.
fn cluster_ip(tables: &mut Tables, service: &ServiceView<'_>, facts: &NodeFacts, chains: &Chains) {
    let chain = if service.internal_local() {
        &chains.local
    } else {
        &chains.cluster
    };
    for ip in service.addresses(FrontendKind::ClusterIp) {
        let to = destination(service, ip);
        if service.internal().is_empty() {
            let refusal = format!("{to}-j {}", verdict(service));
            tables.filter.rule("KUBE-SERVICES", &refusal);
            continue;
        }
        tables.nat.rule("KUBE-SERVICES", &format!("{to}-j {chain}"));
        // Rule G4.
        if let Some(strangers) = source(facts, service, false) {
            let marking = format!("{strangers}{to}-j KUBE-MARK-MASQ");
            tables.nat.rule(chain, &marking);
        }
    }
}

/// An external IP or a load balancer's.
fn vip(tables: &mut Tables, service: &ServiceView<'_>, ip: IpAddr, chain: &str) {
    let to = destination(service, ip);
    if service.has_any {
        tables.nat.rule("KUBE-SERVICES", &format!("{to}-j {chain}"));
    }
    if service.external().is_empty() {
        let refusal = format!("{to}-j {}", verdict(service));
        tables.filter.rule("KUBE-EXTERNAL-SERVICES", &refusal);
    }
}

fn node_port(tables: &mut Tables, service: &ServiceView<'_>, chain: &str) {
    let Some(port) = service.node_port() else {
        return;
    };
    let protocol = service.protocol();
    let to = format!("-p {protocol} -m {protocol} --dport {port} ");
    if service.has_any {
        tables
            .nat
            .rule("KUBE-NODEPORTS", &format!("{to}-j {chain}"));
    }
    if service.external().is_empty() {
        let verdict = verdict(service);
        let refusal = format!("-m addrtype --dst-type LOCAL {to}-j {verdict}");
        tables.filter.rule("KUBE-EXTERNAL-SERVICES", &refusal);
    }
}

/// What happens at every frontend but the ClusterIP.
fn external(tables: &mut Tables, service: &ServiceView<'_>, facts: &NodeFacts, chains: &Chains) {
    let nat = &mut tables.nat;
    nat.declare(&chains.external);
    if service.external_local() {
        // Rules F1 and F2: pods of this node and its own processes meet the cluster set.
        if !service.cluster.is_empty() {
            if let Some(pods) = source(facts, service, true) {
                nat.rule(&chains.external, &format!("{pods}-j {}", chains.cluster));
            }
            // The VIP may be an address of this node, and then its source.
            let own = "-m addrtype --src-type LOCAL";
            nat.rule(&chains.external, &format!("{own} -j KUBE-MARK-MASQ"));
            nat.rule(&chains.external, &format!("{own} -j {}", chains.cluster));
        }
        if !service.local.is_empty() {
            nat.rule(&chains.external, &format!("-j {}", chains.local));
        }
    } else {
        // Rule F5.
        nat.rule(&chains.external, "-j KUBE-MARK-MASQ");
        if !service.cluster.is_empty() {
            nat.rule(&chains.external, &format!("-j {}", chains.cluster));
        }
    }
}

/// Rules C11 and C12.
fn verdict(service: &ServiceView<'_>) -> &'static str {
    if service.has_any { "DROP" } else { "REJECT" }
}

fn destination(service: &ServiceView<'_>, ip: IpAddr) -> String {
    let (protocol, port) = (service.protocol(), service.desired.port);
    format!("-d {ip} -p {protocol} -m {protocol} --dport {port} ")
}

/// Matches packets of this node's pods, or all others; nothing without a detector.
fn source(facts: &NodeFacts, service: &ServiceView<'_>, pods: bool) -> Option<String> {
    let not = if pods { "" } else { "! " };
    let family: Family = service.desired.key.family;
    match &facts.local {
        LocalDetector::None => None,
        LocalDetector::ClusterCidr(ranges) => {
            let range = LocalDetector::cidr(ranges, family)?;
            Some(format!("{not}-s {range} "))
        }
        LocalDetector::InterfacePrefix(prefix) => Some(format!("{not}-i {prefix}+ ")),
        LocalDetector::Bridge(name) => Some(format!("{not}-i {name} ")),
    }
}

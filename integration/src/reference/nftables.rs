//! kube-proxy's nftables mode: tables `ip kube-proxy` and `ip6 kube-proxy`.
//!
//! Verdict maps find the chain of a frontend in one lookup: `service-ips`, `service-nodeports`,
//! `firewall-ips`, `no-endpoint-services`, `no-endpoint-nodeports`. Affinity is a set with
//! time-outs per endpoint. `cluster-ips` refuses the ports that a ClusterIP does not have.

mod apply;
mod fixed;
mod service;
mod table;

use lb_controller::{desired::DesiredService, model::Family};

pub use self::apply::{Applied, cleanup};
use self::table::Table;
use super::{NodeFacts, service::ServiceView};

/// What `nft -f` reads, into an empty namespace.
pub fn render(services: &[DesiredService], facts: &NodeFacts) -> String {
    let of = |family| table(services, facts, family).transaction(&Table::empty(family));
    of(Family::V4) + &of(Family::V6)
}

fn table(services: &[DesiredService], facts: &NodeFacts, family: Family) -> Table {
    let mut table = fixed::table(facts, family);
    let services = services.iter().map(ServiceView::of);
    for service in services.filter(|service| service.desired.key.family == family) {
        service::add(&mut table, &service, facts);
    }
    table
}

/// The word for addresses of a family, in expressions.
fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

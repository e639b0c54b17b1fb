//! The cases, one file a topic. Each file begins with the table of its cases.

#![expect(clippy::unwrap_used, reason = "cases fail as tests do")]

mod affinity;
mod conntrack;
mod external_addresses;
mod external_policy;
mod fidelity;
mod flows;
mod health;
mod invalid_packets;
mod load_balancers;
mod metrics;
mod networking;
mod node_ports;
mod paths;
mod pods;
mod policy;
mod restarts;
mod rolling_update;
mod second_family;
mod services;
mod slices;
mod topology;
mod types_and_labels;
mod undefined;

use super::Case;

/// All cases, by topic.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        services::CASES,
        slices::CASES,
        types_and_labels::CASES,
        affinity::CASES,
        policy::CASES,
        topology::CASES,
        external_policy::CASES,
        external_addresses::CASES,
        node_ports::CASES,
        load_balancers::CASES,
        health::CASES,
        metrics::CASES,
        rolling_update::CASES,
        networking::CASES,
        second_family::CASES,
        pods::CASES,
        conntrack::CASES,
        invalid_packets::CASES,
        fidelity::CASES,
        undefined::CASES,
        flows::CASES,
        paths::CASES,
        restarts::CASES,
    ]
    .into_iter()
    .flatten()
}

//! The cases, one file a topic. Each file begins with the table of its cases.

#![expect(clippy::unwrap_used, reason = "cases fail as tests do")]

mod affinity;
mod conntrack;
mod external_policy;
mod fidelity;
mod invalid_packets;
mod load_balancers;
mod networking;
mod node_ports;
mod pods;
mod policy;
mod rolling_update;
mod second_family;
mod services;
mod slices;
mod topology;
mod types_and_labels;

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
        node_ports::CASES,
        load_balancers::CASES,
        rolling_update::CASES,
        networking::CASES,
        second_family::CASES,
        pods::CASES,
        conntrack::CASES,
        invalid_packets::CASES,
        fidelity::CASES,
    ]
    .into_iter()
    .flatten()
}

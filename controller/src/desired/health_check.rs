//! What load balancers are told of a Service at its health-check node port.
//!
//! Input: a Service and its EndpointSlices. Output: the port, and how many addresses of
//! this node are ready, by family (rules J1, J3). Each family is answered for itself, as
//! each is balanced for itself: a dual-stack pod weighs 1, not 2.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, net::IpAddr};

use crate::model::{EndpointSlice, Family, Service, ServiceType, TrafficPolicy};

/// A server that a Service needs on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Ready endpoints of this node by family, as in [`Family::ALL`]; `None` for a family
    /// that the Service does not have.
    pub local_endpoints: [Option<u32>; 2],
}

/// `None` if the Service needs no server (rules J1, J9).
pub fn health_check(service: &Service, slices: &[&EndpointSlice]) -> Option<HealthCheck> {
    let needed = service.service_type == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local
        && service.health_check_node_port != 0;
    let count = |family| {
        service.cluster_ip(family)?;
        Some(local_endpoints(slices, family).len() as u32)
    };
    needed.then(|| HealthCheck {
        port: service.health_check_node_port,
        local_endpoints: Family::ALL.map(count),
    })
}

/// Addresses, whatever the number of ports at each.
fn local_endpoints(slices: &[&EndpointSlice], family: Family) -> BTreeSet<IpAddr> {
    let slices = slices.iter().filter(|slice| slice.family == family);
    slices
        .filter(|slice| !slice.ports.is_empty())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.local && endpoint.ready)
        .map(|endpoint| endpoint.addr)
        .collect()
}

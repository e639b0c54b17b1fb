//! Endpoint selection: which endpoints a Service port has and what each is used for.
//!
//! Input: the EndpointSlices of a Service. Output: every endpoint of one port, sorted,
//! flagged with its conditions and with its membership in `clusterEP` and `localEP`
//! (semantics B5–B13, C4–C9, D2–D6).
#![forbid(unsafe_code)]

use std::{cmp::Reverse, net::IpAddr};

use lb_ebpf::abi::BackendFlags;

use super::{DesiredBackend, frontends::SetsInUse};
use crate::model::{Endpoint, EndpointSlice, Family, NodeHint, ServicePort};

/// The endpoints of a Service port.
pub(super) struct Selection {
    /// All of them, sorted by address and port, without duplicates.
    pub(super) backends: Vec<DesiredBackend>,
    /// Rule C9: an endpoint could serve somewhere in the cluster.
    pub(super) has_any: bool,
}

/// Where an endpoint listens for one Service port.
struct Candidate<'a> {
    addr: IpAddr,
    port: u16,
    endpoint: &'a Endpoint,
}

/// How hints restrict the cluster set (rule D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology<'a> {
    Unrestricted,
    SameNode,
    SameZone(&'a str),
}

/// Selects the endpoints of `port`; `zone` is this node's.
pub(super) fn select(
    slices: &[&EndpointSlice],
    port: &ServicePort,
    family: Family,
    uses: SetsInUse,
    zone: Option<&str>,
) -> Selection {
    let candidates = candidates(slices, port, family);
    let endpoints = || candidates.iter().map(|candidate| candidate.endpoint);

    let topology = topology(endpoints, zone);
    let cluster_ready = endpoints().any(|e| e.ready && topology.admits(e));
    let local_ready = endpoints().any(|e| e.local && e.ready);

    let in_cluster_set = |e: &Endpoint| {
        uses.cluster
            && if cluster_ready {
                e.ready && topology.admits(e)
            } else {
                serves_while_terminating(e)
            }
    };
    // Rule C6: this fallback is independent of the cluster set's.
    let in_local_set = |e: &Endpoint| {
        uses.local
            && e.local
            && if local_ready {
                e.ready
            } else {
                serves_while_terminating(e)
            }
    };

    let has_any = endpoints()
        .any(|e| in_cluster_set(e) || (uses.local && (e.ready || serves_while_terminating(e))));
    let backends = candidates
        .iter()
        .map(
            |&Candidate {
                 addr,
                 port,
                 endpoint,
             }| {
                let mut flags = condition_flags(endpoint);
                if in_cluster_set(endpoint) {
                    flags |= BackendFlags::IN_CLUSTER_SET;
                }
                if in_local_set(endpoint) {
                    flags |= BackendFlags::IN_LOCAL_SET;
                }
                let zone = endpoint.zone.clone();
                DesiredBackend {
                    addr,
                    port,
                    flags,
                    zone,
                }
            },
        )
        .collect();
    Selection { backends, has_any }
}

/// Union over the slices (rule B5), matched by port name and protocol (rule B6).
fn candidates<'a>(
    slices: &[&'a EndpointSlice],
    port: &ServicePort,
    family: Family,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        let ports = slice
            .ports
            .iter()
            .filter(|candidate| candidate.name == port.name && candidate.protocol == port.protocol);
        for slice_port in ports {
            found.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                addr: endpoint.addr,
                port: slice_port.port,
                endpoint,
            }));
        }
    }
    found.sort_unstable_by(|a, b| {
        (a.addr, a.port)
            .cmp(&(b.addr, b.port))
            .then_with(|| preference(a.endpoint).cmp(&preference(b.endpoint)))
    });
    found.dedup_by_key(|candidate| (candidate.addr, candidate.port));
    found
}

/// Orders duplicates of one address and port, the one to keep first: one that is not
/// terminating (rule B11). The rule leaves ties to chance; here everything that could
/// differ decides, so that all orders of slices give one result.
fn preference(endpoint: &Endpoint) -> impl Ord + '_ {
    let better = (
        !endpoint.terminating,
        endpoint.ready,
        endpoint.serving,
        endpoint.local,
        endpoint.node_hint as u8,
    );
    (Reverse(better), &endpoint.zone, &endpoint.zone_hints)
}

/// Rule D2, decided over the ready endpoints.
fn topology<'a, 'z, I>(endpoints: impl Fn() -> I, zone: Option<&'z str>) -> Topology<'z>
where
    I: Iterator<Item = &'a Endpoint>,
{
    let ready = || endpoints().filter(|endpoint| endpoint.ready);
    if ready().all(|e| e.node_hint != NodeHint::None)
        && ready().any(|e| Topology::SameNode.admits(e))
    {
        return Topology::SameNode;
    }
    // Rule D4: without a zone of its own the node cannot prefer one.
    let Some(zone) = zone else {
        return Topology::Unrestricted;
    };
    let same_zone = Topology::SameZone(zone);
    if ready().all(|e| !e.zone_hints.is_empty()) && ready().any(|e| same_zone.admits(e)) {
        return same_zone;
    }
    Topology::Unrestricted
}

impl Topology<'_> {
    /// Rule D6: one fitting hint among several is enough.
    fn admits(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Unrestricted => true,
            Self::SameNode => endpoint.node_hint == NodeHint::This,
            Self::SameZone(zone) => endpoint.zone_hints.iter().any(|hint| **hint == *zone),
        }
    }
}

/// What a set falls back to when no ready endpoint is in it (rules C4, C5).
const fn serves_while_terminating(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

fn condition_flags(endpoint: &Endpoint) -> u32 {
    [
        (endpoint.ready, BackendFlags::READY),
        (endpoint.serving, BackendFlags::SERVING),
        (endpoint.terminating, BackendFlags::TERMINATING),
        (endpoint.local, BackendFlags::LOCAL),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .fold(BackendFlags::USED, |flags, (_, flag)| flags | flag)
}

//! Desired services in few words, and arbitrary ones.

use std::net::IpAddr;

use lb_ebpf::abi::{BackendFlags, FrontendFlags, FrontendKind, Scope};
use proptest::{prelude::*, sample::subsequence};

use super::driver::Desired;
use crate::{
    desired::{
        BackendSet, DesiredBackend, DesiredFrontend, DesiredService, Forwarding, ServicePortKey,
    },
    model::{Family, IpNet, ObjectName, Protocol, ServiceType, TrafficPolicy},
};

pub(super) const SERVES: u32 = BackendFlags::USED | BackendFlags::READY | BackendFlags::SERVING;
pub(super) const MEMBER: u32 = SERVES | BackendFlags::IN_CLUSTER_SET;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn name(name: &str) -> ObjectName {
    ObjectName {
        namespace: "default".into(),
        name: name.into(),
    }
}

pub(super) fn backend(addr: &str, flags: u32) -> DesiredBackend {
    DesiredBackend {
        addr: ip(addr),
        port: 8080,
        flags,
        zone: None,
    }
}

pub(super) fn frontend(addr: &str, port: u16) -> DesiredFrontend {
    DesiredFrontend {
        addr: ip(addr),
        port,
        scope: Scope::Internal,
        kind: FrontendKind::ClusterIp,
        set: BackendSet::Cluster,
        drop_when_empty: false,
        flags: 0,
    }
}

/// A TCP service port `vip`:80 named http with `backends` in its cluster set.
pub(super) fn service(owner: &str, vip: &str, backends: &[&str]) -> DesiredService {
    DesiredService {
        key: ServicePortKey {
            service: name(owner),
            port_name: "http".into(),
            protocol: Protocol::Tcp,
            family: Family::V4,
        },
        port: 80,
        service_type: ServiceType::ClusterIp,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: 0,
        pinned_len: Some(13),
        forwarding: Forwarding::Snat,
        source_ranges: Box::default(),
        frontends: vec![frontend(vip, 80)],
        backends: backends.iter().map(|b| backend(b, MEMBER)).collect(),
    }
}

pub(super) fn one(service: DesiredService) -> Desired {
    Desired::from([(service.key.service.clone(), vec![service])])
}

pub(super) fn ranges(texts: &[&str]) -> Box<[IpNet]> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A load-balancer VIP whose local set serves packets from outside: its two entries.
pub(super) fn local_vip(addr: &str, port: u16, flags: u32) -> [DesiredFrontend; 2] {
    let internal = DesiredFrontend {
        kind: FrontendKind::LoadBalancer,
        flags: flags | FrontendFlags::EXTERNAL_DIFFERS,
        ..frontend(addr, port)
    };
    let external = DesiredFrontend {
        scope: Scope::External,
        set: BackendSet::Local,
        drop_when_empty: true,
        flags,
        ..internal
    };
    [external, internal]
}

/// The NodePort of an IPv4 service.
pub(super) fn node_port(port: u16) -> DesiredFrontend {
    DesiredFrontend {
        kind: FrontendKind::NodePort,
        ..frontend("0.0.0.0", port)
    }
}

fn arbitrary_backends() -> impl Strategy<Value = Vec<DesiredBackend>> {
    let sets = [
        MEMBER,
        MEMBER | BackendFlags::IN_LOCAL_SET | BackendFlags::LOCAL,
        SERVES | BackendFlags::IN_LOCAL_SET,
        SERVES,
        BackendFlags::USED | BackendFlags::TERMINATING,
    ];
    let zones: [Option<&str>; 3] = [None, Some("a"), Some("b")];
    let chosen = subsequence((1..7u16).collect::<Vec<_>>(), 0..6);
    chosen.prop_flat_map(move |hosts| {
        let details = (
            prop::sample::select(sets.to_vec()),
            prop::sample::select(zones.to_vec()),
        );
        prop::collection::vec(details, hosts.len()).prop_map(move |details| {
            let backends = hosts.iter().zip(details);
            let build = |(host, (flags, zone)): (&u16, (u32, Option<&str>))| DesiredBackend {
                addr: ip(&format!("10.1.0.{host}")),
                port: 8000 + host,
                flags,
                zone: zone.map(Into::into),
            };
            backends.map(build).collect()
        })
    })
}

/// What is told of a service, and decides nothing here.
fn arbitrary_description() -> impl Strategy<Value = (ServiceType, TrafficPolicy, TrafficPolicy)> {
    use ServiceType::{ClusterIp, LoadBalancer, NodePort};
    let policy = prop::sample::select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let types = vec![ClusterIp, NodePort, LoadBalancer];
    (prop::sample::select(types), policy.clone(), policy)
}

/// A service port; its addresses come from a small pool, so that Services conflict.
fn arbitrary_port(
    owner: ObjectName,
    port_name: &'static str,
    port: u16,
) -> impl Strategy<Value = DesiredService> {
    let hosts = [1, 2, 3].map(|host| (Just(host), any::<bool>(), any::<bool>()));
    let vips = subsequence(hosts.to_vec(), 0..4).prop_flat_map(|vips| vips);
    let details = (any::<bool>(), any::<bool>(), any::<bool>());
    let pinned = prop::sample::select(vec![Some(7), Some(13), Some(3), None]);
    let affinity = prop::sample::select(vec![0, 0, 30]);
    let sources = subsequence(vec!["10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32"], 0..=2);
    let backends = arbitrary_backends();
    let described = arbitrary_description();
    (
        vips, details, pinned, affinity, sources, backends, described,
    )
        .prop_map(
            move |(vips, details, pinned_len, affinity_secs, sources, backends, described)| {
                let (udp, dsr, at_nodes) = details;
                let (service_type, internal_policy, external_policy) = described;
                let mut frontends = Vec::new();
                let restricted = if sources.is_empty() {
                    0
                } else {
                    FrontendFlags::SOURCE_RANGES
                };
                for (host, local, balanced) in vips {
                    let addr = format!("10.96.0.{host}");
                    let flags = if balanced { restricted } else { 0 };
                    let vip = local_vip(&addr, port, flags);
                    if local {
                        frontends.extend(vip);
                    } else {
                        frontends.push(DesiredFrontend {
                            flags,
                            ..frontend(&addr, port)
                        });
                    }
                }
                if at_nodes {
                    frontends.push(node_port(30_000 + port));
                }
                DesiredService {
                    key: ServicePortKey {
                        service: owner.clone(),
                        port_name: port_name.into(),
                        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                        family: Family::V4,
                    },
                    port,
                    service_type,
                    internal_policy,
                    external_policy,
                    affinity_secs,
                    pinned_len,
                    forwarding: if dsr {
                        Forwarding::Dsr
                    } else {
                        Forwarding::Snat
                    },
                    source_ranges: ranges(&sources),
                    frontends,
                    backends,
                }
            },
        )
}

/// A Service with up to two ports, whose names may be swapped.
fn arbitrary_service(owner: ObjectName) -> impl Strategy<Value = Vec<DesiredService>> {
    let (a, b) = (owner.clone(), owner);
    (any::<bool>(), 0usize..3).prop_flat_map(move |(swapped, ports)| {
        let (first, second) = if swapped { ("b", "a") } else { ("a", "b") };
        (
            arbitrary_port(a.clone(), first, 80),
            arbitrary_port(b.clone(), second, 81),
        )
            .prop_map(move |(x, y)| [x, y].into_iter().take(ports).collect())
    })
}

/// A few Services of three that change together; an empty one is deleted.
pub(super) fn arbitrary_change() -> impl Strategy<Value = Desired> {
    subsequence(vec!["a", "b", "c"], 1..=3).prop_flat_map(|names| {
        let services: Vec<_> = names.iter().map(|n| arbitrary_service(name(n))).collect();
        services.prop_map(move |services| names.iter().map(|n| name(n)).zip(services).collect())
    })
}

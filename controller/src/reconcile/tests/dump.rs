//! The desired state and the maps as text that people read: one line a frontend, names and
//! not numbers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use lb_ebpf::abi::{
    Addr, BackendFlags, FILTER_WORDS, FrontendFlags, FrontendKey, NODE_PORT_WORDS, Name, Port,
    Scope, SourceRangeKey,
};
use zerocopy::FromZeros;

use crate::{
    desired::{BackendSet, DesiredFrontend, DesiredService, Forwarding},
    lbctl::{Canonical, Filter, canonical, snapshot::Snapshot},
    model::TrafficPolicy,
    plan::{Capacity, tests::memory::Memory},
};

/// What is wanted: each service port, what clients dial there, and whom they reach.
pub(super) fn desired(services: &[DesiredService]) -> String {
    let mut out = String::new();
    for service in services {
        let key = &service.key;
        let _ = write!(
            out,
            "{}:{} {}/{} IPv{} {}",
            key.service,
            key.port_name,
            service.port,
            format!("{:?}", key.protocol).to_uppercase(),
            key.family.number(),
            word(service.service_type),
        );
        let facts = [
            (service.internal_policy == TrafficPolicy::Local).then(|| "internal=Local".into()),
            (service.external_policy == TrafficPolicy::Local).then(|| "external=Local".into()),
            (service.affinity_secs != 0).then(|| format!("affinity={}s", service.affinity_secs)),
            service.pinned_len.map(|len| format!("table-length={len}")),
            (service.forwarding == Forwarding::Dsr).then(|| "forwarding=dsr".into()),
        ];
        for fact in facts.into_iter().flatten() {
            let _ = write!(out, " {fact}");
        }
        out.push('\n');
        for frontend in &service.frontends {
            let _ = writeln!(out, "  {}", desired_frontend(service, frontend));
        }
    }
    out
}

/// A type or kind in Kubernetes' spelling.
fn word(kind: impl std::fmt::Debug) -> String {
    format!("{kind:?}").replace("Ip", "IP")
}

fn desired_frontend(service: &DesiredService, frontend: &DesiredFrontend) -> String {
    let (set, flag) = match frontend.set {
        BackendSet::Cluster => ("cluster", BackendFlags::IN_CLUSTER_SET),
        BackendSet::Local => ("local", BackendFlags::IN_LOCAL_SET),
    };
    let members = service.backends.iter().filter(|b| b.flags & flag != 0);
    let members: Vec<_> = members
        .map(|b| SocketAddr::new(b.addr, b.port).to_string())
        .collect();
    let target = match (members.is_empty(), frontend.drop_when_empty) {
        (false, _) => format!("{set} {}", members.join(" ")),
        (true, true) => format!("{set} drop"),
        (true, false) => format!("{set} refuse"),
    };
    let mut kind = word(frontend.kind);
    if frontend.scope == Scope::External {
        kind.push_str(" from outside");
    }
    if frontend.flags & FrontendFlags::SOURCE_RANGES != 0 {
        let ranges: Vec<_> = service
            .source_ranges
            .iter()
            .map(ToString::to_string)
            .collect();
        let _ = write!(kind, " for {}", ranges.join(","));
    }
    format!(
        "{} {kind} -> {target}",
        dialled(frontend.addr, frontend.port)
    )
}

/// `*` is every address of the node.
fn dialled(addr: IpAddr, port: u16) -> String {
    if addr.is_unspecified() {
        format!("*:{port}")
    } else {
        SocketAddr::new(addr, port).to_string()
    }
}

/// What is programmed, by way of `lbctl dump --canonical`, with the entries of each table.
pub(super) fn maps(snapshot: &Snapshot) -> String {
    let canonical = canonical(snapshot, &Filter::default());
    let mut out = String::new();
    for service in &canonical.services {
        let _ = write!(
            out,
            "{}/{}:{} {}/{} {} {}",
            service.namespace,
            service.name,
            service.port_name,
            service.port,
            service.protocol,
            service.family,
            service.r#type
        );
        let affinity = Some(service.affinity_seconds).filter(|seconds| *seconds != 0);
        for (word, list) in [
            (
                "affinity",
                affinity.map_or_else(String::new, |seconds| format!("{seconds}s")),
            ),
            ("admits", service.source_ranges.join(",")),
            ("dsr-at", join(&service.dsr_backends)),
        ] {
            if !list.is_empty() {
                let _ = write!(out, " {word} {list}");
            }
        }
        out.push('\n');
        for frontend in &service.frontends {
            let key = FrontendKey {
                addr: Addr::from(frontend.address),
                port: Port::new(frontend.port),
                protocol: protocol_number(frontend.protocol),
                scope: u8::from(frontend.scope == "external"),
            };
            let _ = writeln!(
                out,
                "  {} {} {}{} -> {} {}",
                dialled(frontend.address, frontend.port),
                frontend.kind,
                frontend.scope,
                frontend
                    .flags
                    .iter()
                    .fold(String::new(), |all, flag| all + " " + flag),
                frontend.set,
                table(snapshot, &key, frontend.when_empty),
            );
        }
        for backend in &service.backends {
            let at = SocketAddr::new(backend.address, backend.port);
            let zone = Some(&backend.zone).filter(|zone| !zone.is_empty());
            let zone = zone.map_or_else(String::new, |zone| format!(" zone={zone}"));
            let _ = writeln!(out, "  backend {at} {}{zone}", backend.flags.join(" "));
        }
    }
    out
}

fn join(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn protocol_number(word: &str) -> u8 {
    match word {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        other => panic!("no protocol: {other}"),
    }
}

/// How the entries of a frontend's table are shared out.
fn table(snapshot: &Snapshot, key: &FrontendKey, when_empty: &str) -> String {
    let found = snapshot.frontends.iter().find(|(other, _)| other == key);
    let (_, entry) = found.expect("what was listed is there");
    let mut shares = BTreeMap::<SocketAddr, usize>::new();
    for slot in snapshot.entries(entry.table) {
        let backend = snapshot.backends[slot as usize];
        let at = SocketAddr::new(backend.addr.to_ip(), backend.port.get());
        *shares.entry(at).or_default() += 1;
    }
    if shares.is_empty() {
        return when_empty.to_owned();
    }
    let shares: Vec<_> = shares
        .iter()
        .map(|(at, share)| format!("{at}×{share}"))
        .collect();
    format!("{} of {}", shares.join(" "), entry.table.len())
}

/// The canonical dump: equal for equal states, whatever their history.
pub(super) fn of(memory: &Memory) -> Canonical {
    canonical(&snapshot(memory), &Filter::default())
}

fn words(set: &BTreeMap<u32, u64>, len: u32) -> Vec<u64> {
    let mut words = vec![0; len as usize];
    for (word, bits) in set {
        words[*word as usize] = *bits;
    }
    words
}

/// Maps in memory, as if they had been copied from the kernel.
pub(super) fn snapshot(memory: &Memory) -> Snapshot {
    let copy = memory.snapshot();
    let mut frontends = copy.frontends;
    frontends.sort_by_key(|(key, _)| (key.addr.octets(), key.port.get(), key.protocol, key.scope));
    let mut source_ranges = copy.source_ranges;
    source_ranges
        .sort_by_key(|key: &SourceRangeKey| (key.range.service_id, key.prefix_len, key.range.addr));
    let mut local_backends = copy.local_backends;
    local_backends.sort_by_key(|(key, _)| (key.service_id, key.addr.octets()));
    let zones: Vec<(u32, Name)> = copy.zones;
    Snapshot {
        epoch: 1,
        status: FromZeros::new_zeroed(),
        infos: copy.infos,
        service_stats: Vec::new(),
        frontends,
        backends: copy.backends,
        backend_stats: Vec::new(),
        zones,
        filter: words(&memory.filter, FILTER_WORDS),
        node_ports: words(&memory.node_ports, NODE_PORT_WORDS),
        source_ranges,
        local_backends,
        affinity: (0, 0),
        capacity: Capacity {
            services: 0,
            frontends: 0,
            backends: 0,
            maglev: 0,
        },
        zones_capacity: 0,
        slab: Box::new(memory.maglev.clone()),
        config: FromZeros::new_zeroed(),
        devices: Vec::new(),
        service_ranges: lb_ebpf::abi::ServiceRanges::NONE,
        events: Vec::new(),
    }
}

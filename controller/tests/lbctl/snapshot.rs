//! A fixed programmed state, numbered as one likes.

use std::{collections::HashMap, net::IpAddr, path::PathBuf};

use lb_controller::{
    kernel::Features,
    lbctl::{Facts, LinkState, ProgramFact, snapshot::Snapshot},
    plan::Capacity,
};
use lb_ebpf::{
    abi::{
        ABI_VERSION, Addr, BackendEntry, BackendFlags, BackendStats, FILTER_WORDS, FrontendFlags,
        FrontendKey, FrontendKind, Name, Port, Protocol, Scope, ServiceEntry, ServiceInfo,
        ServiceStats, Status, StatusFlags, TableRef,
    },
    hash::filter_bit,
};

const READY: u32 = BackendFlags::READY | BackendFlags::SERVING;
const CLUSTER: u32 = BackendFlags::IN_CLUSTER_SET;
const LOCAL: u32 = BackendFlags::LOCAL;

/// The order in which things were programmed: what canonical dumps must not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub(crate) first_id: u32,
    pub(crate) id_step: u32,
    pub(crate) first_slot: u32,
    pub(crate) slot_step: u32,
    pub(crate) first_offset: u32,
    pub(crate) generation: u32,
}

pub(crate) const USUAL: Numbering = Numbering {
    first_id: 0,
    id_step: 1,
    first_slot: 0,
    slot_step: 1,
    first_offset: 0,
    generation: 1,
};

/// Everything elsewhere, in reverse order.
pub(crate) const OTHER: Numbering = Numbering {
    first_id: 40,
    id_step: u32::MAX,
    first_slot: 30,
    slot_step: u32::MAX,
    first_offset: 500,
    generation: 9,
};

struct Builder {
    numbering: Numbering,
    snapshot: Snapshot,
    slab: Vec<u32>,
    next_id: u32,
    next_slot: u32,
    next_offset: u32,
}

/// Address, port, flags, zone, (opened, closed).
type Backend<'a> = (&'a str, u16, u32, u16, (u64, u64));

/// What one service port is made of.
struct ServicePort<'a> {
    name: (&'a str, &'a str, &'a str),
    port: (u16, Protocol),
    service_type: u8,
    local_policies: u8,
    affinity_secs: u32,
    pinned_len: u32,
    /// Address, kind, flags.
    frontends: &'a [(&'a str, Scope, FrontendKind, u32)],
    backends: &'a [Backend<'a>],
    /// Indices of backends.
    cluster_table: &'a [usize],
    local_table: &'a [usize],
    stats: ServiceStats,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name of the test")
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    out[..text.len()].copy_from_slice(text.as_bytes());
    out
}

impl Builder {
    fn new(numbering: Numbering) -> Self {
        let snapshot = Snapshot {
            epoch: 2,
            status: Status {
                abi_version: ABI_VERSION,
                flags: StatusFlags::READY | StatusFlags::SYNCED,
                started_at: 1_700_000_000_000_000_000,
                last_sync_at: 1_700_000_100_000_000_000,
                syncs: 12,
                failed_syncs: 1,
                pid: 4711,
                frontends: 0,
                services: 0,
                backends: 0,
                maglev_entries: 0,
                maglev_capacity: 1024,
                zone: 1,
                reserved: 0,
                node_name: padded("node-1"),
                version: padded("0.1.0"),
                source: padded("files"),
            },
            infos: Vec::new(),
            service_stats: vec![ServiceStats::default(); 64],
            frontends: Vec::new(),
            backends: vec![BackendEntry::FREE; 64],
            backend_stats: vec![BackendStats::default(); 64],
            zones: vec![(1, name("zone-a")), (2, name("zone-b"))],
            filter: vec![0; FILTER_WORDS as usize],
            affinity: (3, 65_536),
            capacity: Capacity {
                services: 64,
                frontends: 128,
                backends: 64,
                maglev: 1024,
            },
            zones_capacity: 65_535,
            slab: Box::new(Vec::<u32>::new()),
        };
        Self {
            numbering,
            snapshot,
            slab: vec![0; 1024],
            next_id: numbering.first_id,
            next_slot: numbering.first_slot,
            next_offset: numbering.first_offset,
        }
    }

    fn table(&mut self, slots: &[u32], indices: &[usize]) -> TableRef {
        if indices.is_empty() {
            return TableRef::EMPTY;
        }
        let offset = self.next_offset;
        for (entry, index) in self.slab[offset as usize..].iter_mut().zip(indices) {
            *entry = slots[*index];
        }
        self.next_offset += indices.len() as u32;
        TableRef::new(offset, indices.len() as u32)
    }

    fn add(&mut self, port: &ServicePort<'_>) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(self.numbering.id_step);
        let mut slots = Vec::new();
        for (addr, number, flags, zone, (opened, closed)) in port.backends {
            let slot = self.next_slot;
            self.next_slot = slot.wrapping_add(self.numbering.slot_step);
            slots.push(slot);
            self.snapshot.backends[slot as usize] = BackendEntry {
                addr: Addr::from(ip(addr)),
                port: Port::new(*number),
                zone: *zone,
                flags: BackendFlags::USED | flags,
                service_id: id,
                generation: self.numbering.generation,
            };
            self.snapshot.backend_stats[slot as usize] = BackendStats {
                opened: *opened,
                closed: *closed,
            };
        }
        let cluster_table = self.table(&slots, port.cluster_table);
        let local_table = self.table(&slots, port.local_table);
        self.snapshot.service_stats[id as usize] = port.stats;
        for (addr, scope, kind, flags) in port.frontends {
            let key = FrontendKey {
                addr: Addr::from(ip(addr)),
                port: Port::new(port.port.0),
                protocol: port.port.1 as u8,
                scope: *scope as u8,
            };
            let local = flags & FrontendFlags::LOCAL_SET != 0;
            let entry = ServiceEntry {
                table: if local { local_table } else { cluster_table },
                service_id: id,
                flags: *kind as u32 | flags,
                affinity_secs: port.affinity_secs,
                seal: 0,
            };
            self.snapshot.frontends.push((key, entry.sealed(&key)));
            let (word, bit) = filter_bit(&key);
            self.snapshot.filter[word as usize] |= bit;
        }
        let family = if ip(port.frontends[0].0).is_ipv4() {
            4
        } else {
            6
        };
        let info = ServiceInfo {
            namespace: name(port.name.0),
            name: name(port.name.1),
            port_name: name(port.name.2),
            cluster_table,
            local_table,
            port: Port::new(port.port.0),
            protocol: port.port.1 as u8,
            family,
            service_type: port.service_type,
            local_policies: port.local_policies,
            affinity_secs: port.affinity_secs,
            pinned_len: port.pinned_len,
            ..ServiceInfo::FREE
        };
        self.snapshot.infos.push((id, info));
    }

    fn build(mut self) -> Snapshot {
        self.snapshot.slab = Box::new(self.slab);
        self.snapshot.infos.sort_by_key(|(id, _)| *id);
        self.snapshot
            .frontends
            .sort_by_key(|(key, _)| (key.addr.octets(), key.port.get(), key.protocol, key.scope));
        self.snapshot
    }
}

const fn stats(opened: u64, affinity_hits: u64, refused: u64, dropped: u64) -> ServiceStats {
    ServiceStats {
        opened,
        affinity_hits,
        refused,
        dropped,
        shared_backends: 0,
        untracked: 0,
    }
}

/// Every state of backends, both families, both sets, refusal and drop.
pub(crate) fn cluster(numbering: Numbering) -> Snapshot {
    let mut builder = Builder::new(numbering);
    let cluster_ip = (Scope::Internal, FrontendKind::ClusterIp);
    builder.add(&ServicePort {
        name: ("shop", "web", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 10_800,
        pinned_len: 0,
        frontends: &[("10.96.0.10", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[
            ("10.244.1.5", 8080, READY | CLUSTER | LOCAL, 1, (6102, 6092)),
            ("10.244.2.7", 8080, READY | CLUSTER, 2, (5998, 5996)),
            (
                "10.244.2.8",
                8080,
                BackendFlags::SERVING | BackendFlags::TERMINATING,
                2,
                (311, 308),
            ),
            ("10.244.3.1", 8080, 0, 0, (0, 0)),
            ("10.244.3.2", 8080, BackendFlags::TERMINATING, 0, (7, 7)),
        ],
        cluster_table: &[0, 1, 1, 0, 1, 0, 0],
        local_table: &[],
        stats: stats(12_418, 377, 0, 0),
    });
    builder.add(&ServicePort {
        name: ("shop", "web", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 10_800,
        pinned_len: 0,
        frontends: &[("fd00:10:96::10", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[("fd00:10:244:1::7", 8080, READY | CLUSTER, 1, (44, 40))],
        cluster_table: &[0],
        local_table: &[],
        stats: stats(44, 2, 0, 0),
    });
    builder.add(&ServicePort {
        name: ("default", "empty", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 0,
        pinned_len: 0,
        frontends: &[("10.96.0.11", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[],
        cluster_table: &[],
        local_table: &[],
        stats: stats(0, 0, 19, 0),
    });
    builder.add(&ServicePort {
        name: ("kube-system", "node-cache", ""),
        port: (53, Protocol::Udp),
        service_type: 0,
        local_policies: 1,
        affinity_secs: 0,
        pinned_len: 0,
        frontends: &[(
            "10.96.0.12",
            cluster_ip.0,
            cluster_ip.1,
            FrontendFlags::LOCAL_SET | FrontendFlags::DROP,
        )],
        backends: &[("10.244.3.9", 53, READY, 0, (0, 0))],
        cluster_table: &[],
        local_table: &[],
        stats: stats(0, 0, 0, 5),
    });
    builder.add(&ServicePort {
        name: ("shop", "api", "grpc"),
        port: (9000, Protocol::Tcp),
        service_type: 2,
        local_policies: 2,
        affinity_secs: 0,
        pinned_len: 11,
        frontends: &[
            ("10.96.0.13", cluster_ip.0, cluster_ip.1, 0),
            (
                "192.0.2.40",
                Scope::External,
                FrontendKind::LoadBalancer,
                FrontendFlags::LOCAL_SET,
            ),
        ],
        backends: &[
            (
                "10.244.1.9",
                9000,
                READY | CLUSTER | LOCAL | BackendFlags::IN_LOCAL_SET,
                1,
                (1000, 0),
            ),
            ("10.244.4.4", 9000, READY | CLUSTER, 2, (990, 990)),
        ],
        cluster_table: &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
        local_table: &[0],
        stats: stats(1990, 0, 0, 0),
    });
    builder.build()
}

/// What a kernel could say beside it.
pub(crate) fn facts() -> Facts {
    let attached = |name, id| ProgramFact {
        name,
        state: LinkState::Attached,
        id: Some(id),
        tag: Some("9d4f6f319f789cf1".into()),
        cgroup_id: Some(1),
        cgroup: Some(PathBuf::from("/sys/fs/cgroup")),
    };
    Facts {
        now_ns: 1_700_003_700_000_000_000,
        kernel: "6.1.0-21-amd64".into(),
        features: Features {
            set_retval: true,
            tcx: true,
        },
        pins: PathBuf::from("/sys/fs/bpf/lb/abi1"),
        controller: Some(4711),
        programs: vec![attached("lb_release", 51), attached("lb_connect4", 52)],
        memory: HashMap::from([
            ("SERVICES", 12_345),
            ("MAGLEV", 8 << 20),
            ("CONNECTED", 480),
        ]),
    }
}

//! Builds a programmed state, service port by service port.

use std::net::IpAddr;

use lb_controller::{lbctl::snapshot::Snapshot, plan::Capacity};
use lb_ebpf::{
    abi::{
        ABI_VERSION, Addr, BackendEntry, BackendFlags, BackendStats, Collected, Config, Device,
        DeviceClass, DeviceFlags, EventKey, FILTER_WORDS, FrontendFlags, FrontendKey, FrontendKind,
        LocalBackendKey, NODE_PORT_WORDS, Name, PacketEvent, Port, Protocol, Scope, ServiceEntry,
        ServiceInfo, ServiceRanges, ServiceStats, SourceRange, SourceRangeKey, Status, StatusFlags,
        TableRef,
    },
    hash::{filter_bit, node_port_bit},
};
use zerocopy::FromZeros;

use crate::snapshot::Numbering;

/// Where every NodePort is.
const NODE_PORT: u16 = 30_900;

/// A state in the making.
pub(crate) struct Builder {
    numbering: Numbering,
    snapshot: Snapshot,
    slab: Vec<u32>,
    next_id: u32,
    next_slot: u32,
    next_offset: u32,
}

/// Address, port, flags, zone, (opened, closed).
pub(crate) type Backend<'a> = (&'a str, u16, u32, u16, (u64, u64));

/// What one service port is made of.
pub(crate) struct ServicePort<'a> {
    pub(crate) name: (&'a str, &'a str, &'a str),
    pub(crate) port: (u16, Protocol),
    pub(crate) service_type: u8,
    pub(crate) local_policies: u8,
    pub(crate) affinity_secs: u32,
    pub(crate) pinned_len: u32,
    /// 0 SNAT, 1 DSR.
    pub(crate) forwarding: u8,
    /// Network and length, of IPv4.
    pub(crate) source_ranges: &'a [(&'a str, u32)],
    /// Address, kind, flags; NodePorts are at [`NODE_PORT`].
    pub(crate) frontends: &'a [(&'a str, Scope, FrontendKind, u32)],
    pub(crate) backends: &'a [Backend<'a>],
    /// Indices of backends.
    pub(crate) cluster_table: &'a [usize],
    pub(crate) local_table: &'a [usize],
    pub(crate) stats: ServiceStats,
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
    pub(crate) fn new(numbering: Numbering) -> Self {
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
                flows: Collected {
                    runs: 41,
                    last_run_at: 1_700_003_693_000_000_000,
                    last_run_ns: 1_234_567,
                    deleted: 812,
                    restored: 2,
                    revived: 1,
                    refused: 0,
                    evicted: 37,
                },
            },
            infos: Vec::new(),
            service_stats: vec![ServiceStats::default(); 64],
            frontends: Vec::new(),
            backends: vec![BackendEntry::FREE; 64],
            backend_stats: vec![BackendStats::default(); 64],
            zones: vec![(1, name("zone-a")), (2, name("zone-b"))],
            filter: vec![0; FILTER_WORDS as usize],
            node_ports: vec![0; NODE_PORT_WORDS as usize],
            source_ranges: Vec::new(),
            local_backends: Vec::new(),
            affinity: (3, 65_536),
            capacity: Capacity {
                services: 64,
                frontends: 128,
                backends: 64,
                maglev: 1024,
            },
            zones_capacity: 65_535,
            config: Config::new_zeroed(),
            service_ranges: ServiceRanges::NONE,
            devices: devices(),
            events: events(),
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

    pub(crate) fn add(&mut self, port: &ServicePort<'_>) {
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
                port: Port::new(if *kind == FrontendKind::NodePort {
                    NODE_PORT
                } else {
                    port.port.0
                }),
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
            if *kind == FrontendKind::NodePort {
                let bit = node_port_bit(key.protocol, NODE_PORT);
                let (word, bit) = bit.expect("a known protocol");
                self.snapshot.node_ports[word as usize] |= bit;
            } else {
                let (word, bit) = filter_bit(&key);
                self.snapshot.filter[word as usize] |= bit;
            }
        }
        for (network, len) in port.source_ranges {
            self.snapshot.source_ranges.push(SourceRangeKey {
                prefix_len: 32 + 96 + len,
                range: SourceRange {
                    service_id: id,
                    addr: Addr::from(ip(network)),
                },
            });
        }
        for slot in slots {
            let backend = self.snapshot.backends[slot as usize];
            if port.forwarding == 1 && backend.has(BackendFlags::LOCAL) {
                let key = LocalBackendKey {
                    addr: backend.addr,
                    service_id: id,
                };
                self.snapshot.local_backends.push((key, slot));
            }
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
            forwarding: port.forwarding,
            ..ServiceInfo::FREE
        };
        self.snapshot.infos.push((id, info));
    }

    pub(crate) fn build(mut self) -> Snapshot {
        self.snapshot.slab = Box::new(self.slab);
        self.snapshot.infos.sort_by_key(|(id, _)| *id);
        self.snapshot
            .source_ranges
            .sort_by_key(|key| (key.range.service_id, key.prefix_len, key.range.addr));
        self.snapshot
            .frontends
            .sort_by_key(|(key, _)| (key.addr.octets(), key.port.get(), key.protocol, key.scope));
        self.snapshot
    }
}

fn devices() -> Vec<(u32, Device)> {
    let device = |name: &str, class, flags, v4: &str, v6: &str| Device {
        class,
        flags,
        mtu: 1500,
        reserved: 0,
        snat_v4: ip(v4).into(),
        snat_v6: ip(v6).into(),
        name: padded(name),
    };
    let uplink = DeviceClass::Uplink as u32;
    let redirect = DeviceFlags::XDP_REDIRECT;
    let pod = DeviceClass::PodFacing as u32;
    vec![
        (
            2,
            device("eth0", uplink, redirect, "192.0.2.10", "2001:db8::10"),
        ),
        (3, device("eth1", uplink, 0, "10.0.0.10", "::")),
        (7, device("veth1", pod, 0, "192.0.2.10", "2001:db8::10")),
    ]
}

/// `eth0` has index 2 and `veth1` has 7; nothing is known of 1000009.
fn events() -> Vec<(EventKey, u64)> {
    let event = |event: PacketEvent, ifindex, detail, count| {
        let key = EventKey {
            ifindex,
            event: event as u32,
            detail,
        };
        (key, count)
    };
    let of_another_version = EventKey {
        ifindex: 2,
        event: 4711,
        detail: 0,
    };
    vec![
        event(PacketEvent::SourceRange, 2, 0, 17),
        event(PacketEvent::PortsExhausted, 2, 8, 3),
        event(PacketEvent::Refused, 7, 0, 400),
        event(PacketEvent::Refused, 1_000_009, 0, 4),
        event(PacketEvent::Opened, 2, 0, 90_000),
        event(PacketEvent::MidStream, 7, 0, 2),
        (of_another_version, 5),
    ]
}

pub(crate) const fn stats(
    opened: u64,
    affinity_hits: u64,
    refused: u64,
    dropped: u64,
) -> ServiceStats {
    ServiceStats {
        opened,
        affinity_hits,
        refused,
        dropped,
        shared_backends: 0,
        untracked: 0,
    }
}

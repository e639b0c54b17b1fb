//! What is programmed at the node and what its packets have left: the contents of all maps
//! as plain collections. Rows make one; the host pipeline runs on it, and the kernel's maps
//! are filled from it and read back into one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use lb_ebpf::{
    abi::{
        Addr, AddressRange, AffinityEntry, AffinityKey, BackendEntry, BackendFlags, Config,
        ConfigFlags, ConntrackEntry, ConntrackKey, Device, EventKey, FragmentKey, FragmentPorts,
        FrontendFlags, FrontendKey, FrontendKind, LocalBackendKey, Port, Protocol, RejectBudget,
        Scope, ServiceEntry, ServiceRange, ServiceRanges, TICK_NS, TableRef,
    },
    hash::filter_bit,
    open::source_key,
    tables::FlowState,
};

pub use super::service::Service;
use super::{flow::Flow, topology};

/// The tick in which rows happen. The kernel's own is subtracted and this one added.
pub const NOW: u32 = 1_000_000;
/// The same as a clock.
pub const NOW_NS: u64 = NOW as u64 * TICK_NS;

/// Entries of `CONNTRACK`.
pub const CONNTRACK_CAPACITY: usize = 64;
/// Number of the service that rows are about.
pub const SERVICE: u32 = 1;
/// First port of the SNAT range.
pub const SNAT_PORT: u16 = 60_000;

/// Lifetimes of rows, in ticks: all different.
pub const LIFETIMES: [u32; 6] = [60, 1000, 50, 10, 30, 180];

/// The contents of all maps. Ticks count from [`NOW`].
#[derive(Clone, Debug, Default)]
pub struct World {
    /// `SERVICES`.
    pub services: HashMap<FrontendKey, ServiceEntry>,
    /// Ports with a bit in `NODE_PORTS`, by protocol.
    pub node_ports: HashSet<(u8, u16)>,
    /// `NODE_ADDRESSES`.
    pub node_addresses: HashMap<Addr, u32>,
    /// `MAGLEV`.
    pub slots: Vec<u32>,
    /// `BACKENDS`.
    pub backends: Vec<BackendEntry>,
    /// `AFFINITY`.
    pub affinity: HashMap<AffinityKey, AffinityEntry>,
    /// `DEVICES`.
    pub devices: HashMap<u32, Device>,
    /// `SOURCE_RANGES`: service, network, bits of the (v4-mapped) network.
    pub ranges: Vec<(u32, Addr, u32)>,
    /// `LOCAL_BACKENDS`.
    pub local_backends: HashMap<LocalBackendKey, u32>,
    /// `VIPS`.
    pub vips: HashMap<Addr, u32>,
    /// Places of `SERVICE_RANGES`, of both families.
    pub service_ranges: Vec<ServiceRange>,
    /// `CONFIG`; `None` before [`World::node`].
    pub config: Option<Config>,
    /// `CONNTRACK` and `HALF_OPEN`.
    pub flows: Flows,
    /// Bits of `FLOW_SOURCES`.
    pub flow_sources: HashSet<(u32, u64)>,
    /// `FRAGMENTS`.
    pub fragments: HashMap<FragmentKey, FragmentPorts>,
    /// `EVENTS`, all CPUs together.
    pub events: HashMap<EventKey, u64>,
    /// `SERVICE_STATS`: opened, affinity hits, refused, dropped.
    pub service_stats: BTreeMap<u32, [u64; 4]>,
    /// `BACKEND_STATS`: opened.
    pub backend_stats: BTreeMap<u32, u64>,
    /// `REJECTS` of the CPU that rows run on.
    pub rejects: RejectBudget,
}

/// The two tables of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// `CONNTRACK`.
    pub proven: HashMap<ConntrackKey, ConntrackEntry>,
    /// `HALF_OPEN`.
    pub half_open: HashMap<ConntrackKey, ConntrackEntry>,
}

impl Flows {
    /// One of them.
    pub fn table(&self, table: FlowState) -> &HashMap<ConntrackKey, ConntrackEntry> {
        match table {
            FlowState::Proven => &self.proven,
            FlowState::HalfOpen => &self.half_open,
        }
    }

    /// One of them.
    pub fn table_mut(&mut self, table: FlowState) -> &mut HashMap<ConntrackKey, ConntrackEntry> {
        match table {
            FlowState::Proven => &mut self.proven,
            FlowState::HalfOpen => &mut self.half_open,
        }
    }
}

impl World {
    /// The node of [`topology`] without services.
    pub fn node() -> Self {
        let addresses = topology::addresses().into_iter();
        let devices = topology::Port::ALL.into_iter();
        let config = Config {
            host_netns: 1,
            flags: ConfigFlags::EXTERNAL_CLUSTER_IP,
            snat_first: u32::from(SNAT_PORT),
            // One port: which one is chosen does not depend on chance.
            snat_count: 1,
            takeover_until: 0,
            rejects_per_tick: 100,
            reserved: 0,
            lifetimes: LIFETIMES,
            local_v4: AddressRange::NONE,
            local_v6: AddressRange::NONE,
        };
        Self {
            node_addresses: addresses.map(|(ip, bits)| (Addr::from(ip), bits)).collect(),
            devices: devices
                .map(|port| (port.ifindex(), port.described()))
                .collect(),
            config: Some(config),
            ..Self::default()
        }
    }

    /// The node's settings.
    pub fn config(&self) -> Config {
        self.config.expect("a world is a node")
    }

    /// The same with other settings.
    #[must_use]
    pub fn configured(mut self, change: impl FnOnce(&mut Config)) -> Self {
        if let Some(config) = &mut self.config {
            change(config);
        }
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn with(mut self, service: &Service) -> Self {
        let internal = self.table(service, &service.backends);
        let external = service.external.as_ref().map(|(flags, backends)| {
            let table = self.table(service, backends);
            (*flags, table)
        });
        for (at, kind) in &service.frontends {
            let key = frontend(*at, service.protocol);
            let common = *kind as u32 | service.flags;
            let differs = if external.is_some() {
                FrontendFlags::EXTERNAL_DIFFERS
            } else {
                0
            };
            self.program(key, service, internal, common | differs);
            if let Some((flags, table)) = external {
                let key = key.in_scope(Scope::External);
                self.program(key, service, table, common | flags);
            }
            if *kind == FrontendKind::NodePort {
                self.node_ports.insert((service.protocol as u8, at.port()));
            } else {
                *self.vips.entry(key.addr).or_default() |= kind.bit();
            }
        }
        self
    }

    fn program(&mut self, key: FrontendKey, service: &Service, table: TableRef, flags: u32) {
        let entry = ServiceEntry {
            table,
            service_id: service.id,
            flags,
            affinity_secs: service.affinity,
            seal: 0,
        };
        self.services.insert(key, entry.sealed(&key));
    }

    /// A table over `backends`, which become backends of the service.
    fn table(&mut self, service: &Service, backends: &[SocketAddr]) -> TableRef {
        let table = TableRef::new(self.slots.len() as u32, backends.len() as u32);
        for at in backends {
            let slot = self.slot(service.id, *at).unwrap_or_else(|| {
                self.backends.push(backend(service.id, *at));
                self.backends.len() as u32 - 1
            });
            self.slots.push(slot);
            let dsr = service.flags & FrontendFlags::DSR != 0;
            if dsr && self.backends[slot as usize].has(BackendFlags::LOCAL) {
                let key = LocalBackendKey {
                    addr: Addr::from(at.ip()),
                    service_id: service.id,
                };
                self.local_backends.insert(key, slot);
            }
        }
        table
    }

    /// Slot of a backend.
    pub fn slot(&self, service: u32, at: SocketAddr) -> Option<u32> {
        let wanted = (service, Addr::from(at.ip()), Port::new(at.port()));
        let found = |b: &BackendEntry| (b.service_id, b.addr, b.port) == wanted;
        self.backends.iter().position(found).map(|slot| slot as u32)
    }

    /// Changes a backend.
    #[must_use]
    pub fn backend(mut self, slot: u32, change: impl FnOnce(&mut BackendEntry)) -> Self {
        change(&mut self.backends[slot as usize]);
        self
    }

    /// Removes the frontends at an address and port, filter bits and all.
    #[must_use]
    pub fn without(mut self, at: SocketAddr, protocol: Protocol) -> Self {
        for scope in [Scope::Internal, Scope::External] {
            let key = frontend(at, protocol).in_scope(scope);
            self.services.remove(&key);
        }
        self.node_ports.remove(&(protocol as u8, at.port()));
        self
    }

    /// Admits a network to a service.
    #[must_use]
    pub fn admit(mut self, service: u32, net: IpAddr, bits: u32) -> Self {
        let bits = if net.is_ipv4() { 96 + bits } else { bits };
        self.ranges.push((service, Addr::from(net), bits));
        self
    }

    /// Says that ClusterIPs are in a network; with `flags` of a [`ServiceRange`].
    #[must_use]
    pub fn service_range(mut self, net: IpAddr, bits: u32, flags: u32) -> Self {
        let bits = if net.is_ipv4() { 96 + bits } else { bits };
        self.service_ranges.push(ServiceRange {
            range: AddressRange::new(Addr::from(net), bits),
            flags,
            reserved: 0,
        });
        self
    }

    /// The element of `SERVICE_RANGES`.
    pub fn ranges_in_place(&self) -> ServiceRanges {
        let mut ranges = ServiceRanges::NONE;
        for place in &self.service_ranges {
            let (used, places) = if place.range.net.is_v4() {
                (&mut ranges.v4_used, &mut ranges.v4)
            } else {
                (&mut ranges.v6_used, &mut ranges.v6)
            };
            places[*used as usize] = *place;
            *used += 1;
        }
        ranges
    }

    /// A flow of `age` ticks ago, to the backend at `slot`.
    #[must_use]
    pub fn flow(mut self, flow: &Flow, slot: u32, age: u32) -> Self {
        for half in flow.halves() {
            let (generation, service_id) = self
                .backends
                .get(slot as usize)
                .map_or((1, 0), |backend| (backend.generation, backend.service_id));
            let becomes = half.becomes;
            let entry = ConntrackEntry {
                src: becomes.src,
                dst: becomes.dst,
                src_port: becomes.src_port,
                dst_port: becomes.dst_port,
                flags: half.flags,
                state: half.state,
                last_seen: NOW - age,
                created: NOW - age,
                service_id,
                slot,
                generation,
                ..ConntrackEntry::EMPTY
            };
            if half.key != flow.initiator {
                self.flow_sources.insert(filter_bit(&source_key(&half.key)));
            }
            let table = self.flows.table_mut(flow.table);
            table.insert(half.key, entry.sealed(&half.key));
        }
        self
    }

    /// Everything that is remembered becomes older by `ticks`.
    pub fn age(&mut self, ticks: u32) {
        self.shift(ticks.wrapping_neg());
    }

    /// Adds `ticks` to everything that is remembered.
    pub(crate) fn shift(&mut self, ticks: u32) {
        for table in [FlowState::Proven, FlowState::HalfOpen] {
            for entry in self.flows.table_mut(table).values_mut() {
                entry.last_seen = entry.last_seen.wrapping_add(ticks);
                entry.created = entry.created.wrapping_add(ticks);
            }
        }
        for ports in self.fragments.values_mut() {
            ports.seen = ports.seen.wrapping_add(ticks);
        }
        self.rejects.tick = self.rejects.tick.wrapping_add(ticks);
        let nanos = (i64::from(ticks as i32) * TICK_NS as i64) as u64;
        for entry in self.affinity.values_mut() {
            entry.last_used_ns = entry.last_used_ns.wrapping_add(nanos);
        }
    }

    /// Bits of `FILTER`.
    pub fn filter(&self) -> HashSet<(u32, u64)> {
        let bit = |key: &FrontendKey| {
            let node_port = key.addr.is_unspecified();
            (!node_port).then(|| filter_bit(key))
        };
        self.services.keys().filter_map(bit).collect()
    }
}

/// Key of a frontend.
pub fn frontend(at: SocketAddr, protocol: Protocol) -> FrontendKey {
    FrontendKey::internal(Addr::from(at.ip()), Port::new(at.port()), protocol)
}

/// A backend that takes everything; it is local if its address is in this node's pod range or
/// the node's own.
fn backend(service_id: u32, at: SocketAddr) -> BackendEntry {
    let query = lb_ebpf::route::Query {
        src: Addr::from(at.ip()),
        dst: Addr::from(at.ip()),
        src_port: Port::new(0),
        dst_port: Port::new(0),
        protocol: 0,
    };
    let local = match topology::route(&query) {
        lb_ebpf::route::Route::Local => true,
        lb_ebpf::route::Route::Hop(hop, _) => hop.ifindex == topology::Port::Pods.ifindex(),
        lb_ebpf::route::Route::None => false,
    };
    let sets = BackendFlags::IN_CLUSTER_SET | BackendFlags::IN_LOCAL_SET;
    let state = BackendFlags::USED | BackendFlags::READY | BackendFlags::SERVING;
    BackendEntry {
        addr: Addr::from(at.ip()),
        port: Port::new(at.port()),
        zone: 0,
        flags: state | sets | if local { BackendFlags::LOCAL } else { 0 },
        service_id,
        generation: 7,
    }
}

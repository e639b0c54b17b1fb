//! The traits of `lb_ebpf::tables` over plain collections.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    rc::Rc,
};

use lb_ebpf::{
    abi::{
        Addr, AddressRange, AffinityEntry, AffinityKey, BackendEntry, BackendFlags, ConnectedFlow,
        DATAGRAM_FLOWS, DatagramFlow, DatagramFlows, FrontendKey, Port, Protocol, ServiceEntry,
        TableRef,
    },
    hash::filter_bit,
    socket::{self, Verdict},
    tables::{BackendCounter, Environment, FlowTable, ServiceCounter, Socket, Tables},
};

pub(crate) const PORT: u16 = 80;
pub(crate) const BACKEND_PORT: u16 = 8080;
pub(crate) const HOST_NETNS: u64 = 1;
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MEMBER: u32 =
    BackendFlags::USED | BackendFlags::READY | BackendFlags::SERVING | BackendFlags::IN_CLUSTER_SET;

pub(crate) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().expect("an address"))
}

pub(crate) fn tcp(vip: &str) -> FrontendKey {
    FrontendKey::internal(addr(vip), Port::new(PORT), Protocol::Tcp)
}

pub(crate) fn udp(vip: &str) -> FrontendKey {
    FrontendKey::internal(addr(vip), Port::new(PORT), Protocol::Udp)
}

pub(crate) fn dialled(key: &FrontendKey) -> (Addr, Port) {
    (key.addr, key.port)
}

/// What is programmed, and what was counted.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) services: HashMap<FrontendKey, ServiceEntry>,
    pub(crate) filter: HashSet<(u32, u64)>,
    pub(crate) node_ports: HashSet<(u8, Port)>,
    pub(crate) node_addresses: HashMap<Addr, u32>,
    pub(crate) local_by_source: bool,
    pub(crate) vips: HashMap<Addr, u32>,
    /// Ranges with their flags.
    pub(crate) service_ranges: Vec<(AddressRange, u32)>,
    pub(crate) slots: Vec<u32>,
    pub(crate) backends: Vec<BackendEntry>,
    pub(crate) affinity: RefCell<HashMap<AffinityKey, AffinityEntry>>,
    /// Values that lookups give before the real one: what a concurrent writer leaves.
    pub(crate) torn: RefCell<VecDeque<ServiceEntry>>,
    pub(crate) lookups: Cell<u32>,
    service_counts: RefCell<HashMap<(u32, String), u64>>,
    backend_counts: RefCell<HashMap<(u32, String), u64>>,
}

impl World {
    /// Adds a service `id` at `key` with a backend at each of `backends`.
    pub(crate) fn serve(&mut self, id: u32, key: FrontendKey, backends: &[&str]) -> &mut Self {
        let first = self.backends.len() as u32;
        for backend in backends {
            self.backends.push(BackendEntry {
                addr: addr(backend),
                port: Port::new(BACKEND_PORT),
                zone: 0,
                flags: MEMBER,
                service_id: id,
                generation: 1,
            });
        }
        let slots: Vec<u32> = (first..self.backends.len() as u32).collect();
        self.program(id, key, &slots, 0, 0);
        self
    }

    /// Points `key` to a table over `slots`.
    pub(crate) fn program(
        &mut self,
        id: u32,
        key: FrontendKey,
        slots: &[u32],
        flags: u32,
        affinity_secs: u32,
    ) {
        let table = TableRef::new(self.slots.len() as u32, slots.len() as u32);
        self.slots.extend(slots);
        let entry = ServiceEntry {
            table,
            service_id: id,
            flags,
            affinity_secs,
            seal: 0,
        };
        self.filter.insert(filter_bit(&key));
        self.services.insert(key, entry.sealed(&key));
    }

    pub(crate) fn count(&self, id: u32, counter: ServiceCounter) -> u64 {
        let counts = self.service_counts.borrow();
        counts
            .get(&(id, format!("{counter:?}")))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn backend_count(&self, slot: u32, counter: BackendCounter) -> u64 {
        let counts = self.backend_counts.borrow();
        counts
            .get(&(slot, format!("{counter:?}")))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn slot_at(&self, at: (Addr, Port)) -> u32 {
        let found = self.backends.iter().position(|b| (b.addr, b.port) == at);
        found.expect("the address of a backend") as u32
    }
}

impl Tables for World {
    fn may_be_frontend(&self, key: &FrontendKey) -> bool {
        self.filter.contains(&filter_bit(key))
    }

    fn may_be_node_port(&self, key: &FrontendKey) -> bool {
        self.node_ports.contains(&(key.protocol, key.port))
    }

    fn node_address(&self, addr: &Addr) -> u32 {
        self.node_addresses.get(addr).copied().unwrap_or(0)
    }

    fn host_netns(&self) -> u64 {
        HOST_NETNS
    }

    fn local_by_source(&self) -> bool {
        self.local_by_source
    }

    fn service_range(&self, addr: &Addr) -> Option<u32> {
        let mut ranges = self.service_ranges.iter();
        let found = ranges.find(|(range, _)| range.contains(addr));
        found.map(|(_, flags)| *flags)
    }

    fn vip(&self, addr: &Addr) -> u32 {
        self.vips.get(addr).copied().unwrap_or(0)
    }

    fn service(&self, key: &FrontendKey) -> Option<ServiceEntry> {
        self.lookups.set(self.lookups.get() + 1);
        let torn = self.torn.borrow_mut().pop_front();
        torn.or_else(|| self.services.get(key).copied())
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.slots.get(index as usize).copied()
    }

    fn backend(&self, slot: u32) -> Option<BackendEntry> {
        self.backends.get(slot as usize).copied()
    }

    fn affinity(&self, key: &AffinityKey) -> Option<AffinityEntry> {
        self.affinity.borrow().get(key).copied()
    }

    fn remember(&self, key: &AffinityKey, entry: &AffinityEntry) {
        self.affinity.borrow_mut().insert(*key, *entry);
    }

    fn count_service(&self, service_id: u32, counter: ServiceCounter) {
        let key = (service_id, format!("{counter:?}"));
        *self.service_counts.borrow_mut().entry(key).or_default() += 1;
    }

    fn count_backend(&self, slot: u32, counter: BackendCounter) {
        let key = (slot, format!("{counter:?}"));
        *self.backend_counts.borrow_mut().entry(key).or_default() += 1;
    }
}

/// One socket, with the clock and the chance that its hooks see.
pub(crate) struct Sock {
    pub(crate) netns: u64,
    pub(crate) now: Cell<u64>,
    pub(crate) short_of_memory: Cell<bool>,
    seed: Cell<u64>,
    flow: RefCell<Option<ConnectedFlow>>,
    flows: RefCell<Option<Flows>>,
}

impl Sock {
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            netns: 7,
            now: Cell::new(1000 * SECOND),
            short_of_memory: Cell::new(false),
            seed: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            flow: RefCell::default(),
            flows: RefCell::default(),
        }
    }

    pub(crate) fn of_netns(self, netns: u64) -> Self {
        Self { netns, ..self }
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.now.set(self.now.get() + seconds * SECOND);
    }

    /// Where connect() leads; panics unless it is translated.
    pub(crate) fn connect(&self, world: &World, key: &FrontendKey) -> (Addr, Port) {
        match socket::connect(world, self, key) {
            Verdict::Translate(addr, port) => (addr, port),
            other => panic!("{other:?}"),
        }
    }

    /// Where a datagram goes; panics unless it is translated.
    pub(crate) fn send(&self, world: &World, key: &FrontendKey) -> (Addr, Port) {
        match socket::sendmsg(world, self, key) {
            Verdict::Translate(addr, port) => (addr, port),
            other => panic!("{other:?}"),
        }
    }

    /// Whom the application sees behind a datagram from `from`.
    pub(crate) fn receive(&self, from: (Addr, Port)) -> (Addr, Port) {
        socket::recvmsg(self, from.0, from.1).unwrap_or(from)
    }
}

impl Environment for Sock {
    fn now_ns(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u32 {
        // xorshift64*, Vigna 2016.
        let mut x = self.seed.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.seed.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn netns_cookie(&self) -> u64 {
        self.netns
    }
}

impl Socket for Sock {
    type Flows = Flows;

    fn connected(&self) -> Option<ConnectedFlow> {
        *self.flow.borrow()
    }

    fn set_connected(&self, flow: &ConnectedFlow) -> bool {
        if self.short_of_memory.get() {
            return false;
        }
        self.flow.replace(Some(*flow));
        true
    }

    fn forget_connected(&self) {
        self.flow.replace(None);
    }

    fn datagram(&self) -> Option<Flows> {
        self.flows.borrow().clone()
    }

    fn datagram_or_create(&self) -> Option<Flows> {
        if self.flows.borrow().is_none() && !self.short_of_memory.get() {
            let fresh = Flows(Rc::new(RefCell::new(DatagramFlows::EMPTY)));
            self.flows.replace(Some(fresh));
        }
        self.flows.borrow().clone()
    }
}

#[derive(Clone)]
pub(crate) struct Flows(Rc<RefCell<DatagramFlows>>);

impl Flows {
    fn flow(&self, index: usize) -> DatagramFlow {
        self.0.borrow().flows[index % DATAGRAM_FLOWS]
    }
}

impl FlowTable for Flows {
    fn state(&self, index: usize) -> u32 {
        self.flow(index).state
    }

    fn vip(&self, index: usize) -> (Addr, Port) {
        let flow = self.flow(index);
        (flow.vip, flow.vip_port)
    }

    fn backend(&self, index: usize) -> (Addr, Port) {
        let flow = self.flow(index);
        (flow.backend, flow.backend_port)
    }

    fn slot(&self, index: usize) -> (u32, u32) {
        let flow = self.flow(index);
        (flow.slot, flow.generation)
    }

    fn set_state(&self, index: usize, state: u32) {
        self.0.borrow_mut().flows[index % DATAGRAM_FLOWS].state = state;
    }

    fn oldest(&self) -> usize {
        self.0.borrow().oldest as usize
    }

    fn put(&self, index: usize, flow: &DatagramFlow) {
        let mut table = self.0.borrow_mut();
        table.flows[index % DATAGRAM_FLOWS] = *flow;
        if table.oldest as usize % DATAGRAM_FLOWS == index % DATAGRAM_FLOWS {
            table.oldest = index as u32 + 1;
        }
    }

    fn recent(&self) -> usize {
        self.0.borrow().recent as usize
    }

    fn set_recent(&self, index: usize) {
        self.0.borrow_mut().recent = index as u32;
    }
}

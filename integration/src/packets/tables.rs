//! The datapath's tables over a [`World`].

use std::cell::RefCell;

use lb_ebpf::{
    abi::{
        Addr, AffinityEntry, AffinityKey, BackendEntry, Config, ConfigFlags, ConntrackEntry,
        ConntrackKey, Device, EventKey, FragmentKey, FragmentPorts, FrontendKey, LocalBackendKey,
        PacketEvent, RejectBudget, ServiceEntry,
    },
    hash::filter_bit,
    tables::{BackendCounter, Conntrack, FlowState, PacketTables, Record, ServiceCounter, Tables},
};

use super::world::{CONNTRACK_CAPACITY, World};

/// Tables of one packet.
pub(crate) struct HostTables {
    world: RefCell<World>,
    /// Records that were looked up or stored, each in a place of its own: as in the kernel, a
    /// record that was replaced stays where it was, and writes to it change nothing any more.
    records: RefCell<Vec<Place>>,
}

/// A record: where it is stored as long as it is, and its contents.
struct Place {
    stored: Option<(FlowState, ConntrackKey)>,
    entry: ConntrackEntry,
}

impl HostTables {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world: RefCell::new(world),
            records: RefCell::default(),
        }
    }

    pub(crate) fn into_world(self) -> World {
        self.world.into_inner()
    }

    pub(crate) fn count(&self, ifindex: u32, event: PacketEvent, detail: u32) {
        let key = EventKey {
            ifindex,
            event: event as u32,
            detail,
        };
        *self.world.borrow_mut().events.entry(key).or_default() += 1;
    }

    /// Whatever is stored under the key is not any more.
    fn detach(&self, table: FlowState, key: &ConntrackKey) {
        for place in self.records.borrow_mut().iter_mut() {
            if place.stored == Some((table, *key)) {
                place.stored = None;
            }
        }
    }
}

impl Tables for &HostTables {
    fn may_be_frontend(&self, key: &FrontendKey) -> bool {
        self.world.borrow().filter().contains(&filter_bit(key))
    }

    fn may_be_node_port(&self, key: &FrontendKey) -> bool {
        let port = (key.protocol, key.port.get());
        self.world.borrow().node_ports.contains(&port)
    }

    fn node_address(&self, addr: &Addr) -> u32 {
        let world = self.world.borrow();
        world.node_addresses.get(addr).copied().unwrap_or(0)
    }

    fn host_netns(&self) -> u64 {
        self.world.borrow().config().host_netns
    }

    fn local_by_source(&self) -> bool {
        self.world.borrow().config().flags & ConfigFlags::LOCAL_BY_SOURCE != 0
    }

    fn service_range(&self, addr: &Addr) -> Option<u32> {
        self.world.borrow().ranges_in_place().find(addr)
    }

    fn vip(&self, addr: &Addr) -> u32 {
        self.world.borrow().vips.get(addr).copied().unwrap_or(0)
    }

    fn service(&self, key: &FrontendKey) -> Option<ServiceEntry> {
        self.world.borrow().services.get(key).copied()
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.world.borrow().slots.get(index as usize).copied()
    }

    fn backend(&self, slot: u32) -> Option<BackendEntry> {
        self.world.borrow().backends.get(slot as usize).copied()
    }

    fn affinity(&self, key: &AffinityKey) -> Option<AffinityEntry> {
        self.world.borrow().affinity.get(key).copied()
    }

    fn remember(&self, key: &AffinityKey, entry: &AffinityEntry) {
        self.world.borrow_mut().affinity.insert(*key, *entry);
    }

    fn count_service(&self, service_id: u32, counter: ServiceCounter) {
        let mut world = self.world.borrow_mut();
        let stats = world.service_stats.entry(service_id).or_default();
        let index = match counter {
            ServiceCounter::Opened => 0,
            ServiceCounter::AffinityHit => 1,
            ServiceCounter::Refused => 2,
            ServiceCounter::Dropped => 3,
            ServiceCounter::SharedBackend | ServiceCounter::Untracked => return,
        };
        stats[index] += 1;
    }

    fn count_backend(&self, slot: u32, counter: BackendCounter) {
        if counter == BackendCounter::Opened {
            let mut world = self.world.borrow_mut();
            *world.backend_stats.entry(slot).or_default() += 1;
        }
    }
}

/// Whether the first `bits` bits of two addresses are equal.
fn same_prefix(a: &Addr, b: &Addr, bits: u32) -> bool {
    let differs = u128::from_be_bytes(a.octets()) ^ u128::from_be_bytes(b.octets());
    bits == 0 || differs >> (128 - bits) == 0
}

impl PacketTables for &HostTables {
    fn config(&self) -> Config {
        self.world.borrow().config()
    }

    fn admits(&self, service_id: u32, source: &Addr) -> bool {
        let world = self.world.borrow();
        let mut ranges = world.ranges.iter();
        ranges.any(|(id, net, bits)| *id == service_id && same_prefix(net, source, *bits))
    }

    fn device(&self, ifindex: u32) -> Option<Device> {
        self.world.borrow().devices.get(&ifindex).copied()
    }

    fn local_backend(&self, key: &LocalBackendKey) -> Option<u32> {
        self.world.borrow().local_backends.get(key).copied()
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.world.borrow().fragments.get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, ports: &FragmentPorts) {
        self.world.borrow_mut().fragments.insert(*key, *ports);
    }

    fn may_be_flow_source(&self, key: &FrontendKey) -> bool {
        self.world.borrow().flow_sources.contains(&filter_bit(key))
    }

    fn mark_flow_source(&self, key: &FrontendKey) {
        let mut world = self.world.borrow_mut();
        world.flow_sources.insert(filter_bit(key));
    }

    fn may_refuse(&self, tick: u32, budget: u32) -> bool {
        let mut world = self.world.borrow_mut();
        if world.rejects.tick != tick {
            world.rejects = RejectBudget { tick, sent: 0 };
        }
        world.rejects.sent += 1;
        world.rejects.sent <= budget
    }
}

/// A record in place.
#[derive(Clone, Copy)]
pub(crate) struct HostRecord<'a> {
    tables: &'a HostTables,
    place: usize,
}

impl HostRecord<'_> {
    fn write(&self, change: impl Fn(&mut ConntrackEntry)) {
        let mut records = self.tables.records.borrow_mut();
        let place = &mut records[self.place];
        change(&mut place.entry);
        if let Some((table, key)) = place.stored {
            let mut world = self.tables.world.borrow_mut();
            world.flows.table_mut(table).insert(key, place.entry);
        }
    }
}

impl Record for HostRecord<'_> {
    fn read_into(&self, entry: &mut ConntrackEntry) {
        *entry = self.tables.records.borrow()[self.place].entry;
    }

    fn set_state(&self, state: u32) {
        self.write(|entry| entry.state = state);
    }

    fn set_last_seen(&self, tick: u32) {
        self.write(|entry| entry.last_seen = tick);
    }

    fn set_proof(&self, proof: u32, end: u32) {
        self.write(|entry| (entry.proof, entry.proof_end) = (proof, end));
    }
}

impl<'a> Conntrack for &'a HostTables {
    type Record = HostRecord<'a>;

    fn find(&self, table: FlowState, key: &ConntrackKey) -> Option<HostRecord<'a>> {
        let entry = *self.world.borrow().flows.table(table).get(key)?;
        let stored = Some((table, *key));
        let mut records = self.records.borrow_mut();
        let known = records.iter().position(|place| place.stored == stored);
        let place = known.unwrap_or_else(|| {
            records.push(Place { stored, entry });
            records.len() - 1
        });
        Some(HostRecord {
            tables: self,
            place,
        })
    }

    fn insert(
        &self,
        table: FlowState,
        key: &ConntrackKey,
        entry: &ConntrackEntry,
        replace: bool,
    ) -> bool {
        let mut world = self.world.borrow_mut();
        let records = world.flows.table_mut(table);
        let exists = records.contains_key(key);
        let full = table == FlowState::Proven && records.len() >= CONNTRACK_CAPACITY;
        if exists && !replace || !exists && full {
            return false;
        }
        records.insert(*key, *entry);
        drop(world);
        self.detach(table, key);
        true
    }

    fn remove(&self, table: FlowState, key: &ConntrackKey) {
        self.world.borrow_mut().flows.table_mut(table).remove(key);
        self.detach(table, key);
    }
}

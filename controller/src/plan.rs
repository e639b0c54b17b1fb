//! The plan: what to write so that the maps become as desired.
//!
//! [`Planner`] mirrors what is programmed and owns the indices: service ids, backend
//! slots, regions of the slab. [`Planner::plan`] compares one Service with its mirror
//! and adds the difference to a [`Batch`]; it does no IO, so the same sequence of calls
//! from an empty start gives byte-identical maps.
#![forbid(unsafe_code)]

mod backends;
mod batch;
mod encode;
mod filter;
mod fixed;
mod frontends;
mod indices;
mod members;
mod restore;
mod service;
mod slab;
mod vips;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

pub use batch::{Batch, GoneBackend};
pub use filter::Retired;
use lb_ebpf::abi::{
    Addr, AddressRange, BackendEntry, FrontendKey, MAX_ZONES, Name, ServiceEntry, ServiceRange,
    TableRef,
};
use maglev::Builder;
pub use restore::{Orphans, Snapshot};
pub use service::needs;

use self::{
    filter::Filter, fixed::FixedMap, indices::Indices, members::Prefix, slab::Slab, vips::Vips,
};
use crate::{
    desired::ServicePortKey,
    model::{Family, IpNet, ObjectName, Protocol},
};

/// Capacities of the maps, in elements (Maglev: in entries of 4 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// `SERVICE_STATS`, `SERVICE_INFO`: services.
    pub services: u32,
    /// `SERVICES`: frontends.
    pub frontends: u32,
    /// `BACKENDS`: backend slots.
    pub backends: u32,
    /// `MAGLEV`: entries.
    pub maglev: u32,
}

/// Capacities of maps that never grow, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `SOURCE_RANGES`.
    pub source_ranges: u32,
    /// `LOCAL_BACKENDS`.
    pub local_backends: u32,
}

/// What is in use, in the units of [`Capacity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Services.
    pub services: u32,
    /// Frontends.
    pub frontends: u32,
    /// Backend slots.
    pub backends: u32,
    /// Maglev entries.
    pub maglev: u32,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.services += other.services;
        self.frontends += other.frontends;
        self.backends += other.backends;
        self.maglev += other.maglev;
    }
}

/// The maps are too small for a Service: they must grow before it can be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the maps have no room left: {needed:?} more are needed")]
pub struct NoRoom {
    /// What this Service needs beyond what is in use.
    pub needed: Usage,
    /// Whether no free region of the slab was long enough.
    pub slab: bool,
}

/// One service port in one family, as it is programmed.
#[derive(Clone, Debug)]
pub(crate) struct Programmed {
    id: u32,
    port_name: Arc<str>,
    protocol: Protocol,
    family: Family,
    attributes: encode::Attributes,
    cluster_table: TableRef,
    local_table: TableRef,
    frontends: Vec<(FrontendKey, ServiceEntry)>,
    /// Slots of its backends, ordered by address and port.
    slots: Vec<u32>,
}

impl Programmed {
    fn is(&self, key: &ServicePortKey) -> bool {
        self.family == key.family
            && self.protocol == key.protocol
            && self.port_name == key.port_name
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Planner {
    services: HashMap<ObjectName, Vec<Programmed>>,
    /// Who holds each frontend, by its internal entry.
    owners: HashMap<FrontendKey, ObjectName>,
    /// Who else wants it: two Services may claim one address (external IPs, hand-made
    /// ClusterIPs); the name that sorts first holds it.
    waiting: HashMap<FrontendKey, BTreeSet<ObjectName>>,
    ids: Indices,
    slots: Indices,
    slab: Slab,
    max_frontends: u32,
    /// Entries of `SERVICES` that belong to a service.
    entries: usize,
    /// Mirror of `BACKENDS`; free slots keep their generation.
    backends: Vec<BackendEntry>,
    filter: Filter,
    vips: Vips,
    /// Mirror of `SOURCE_RANGES`.
    source_ranges: FixedMap<Prefix, ()>,
    /// Mirror of `LOCAL_BACKENDS`.
    local_backends: FixedMap<Addr, u32>,
    /// Zone names by id - 1. Zones are few and never forgotten.
    zones: Vec<Arc<str>>,
    builder: Builder,
    /// Frontends of no service that a restore has found and no sweep has removed yet.
    orphan_frontends: u32,
    /// After a restore: a crash may have come between a change of flags and the table
    /// that follows from it, so each table is written again once (equal entries are not
    /// stored).
    distrust_tables: bool,
}

impl Planner {
    /// Nothing programmed.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            services: HashMap::new(),
            owners: HashMap::new(),
            waiting: HashMap::new(),
            ids: Indices::new(capacity.services),
            slots: Indices::new(capacity.backends),
            slab: Slab::new(capacity.maglev),
            max_frontends: capacity.frontends,
            entries: 0,
            backends: Vec::new(),
            filter: Filter::default(),
            vips: Vips::default(),
            source_ranges: FixedMap::default(),
            local_backends: FixedMap::default(),
            zones: Vec::new(),
            builder: Builder::new(),
            orphan_frontends: 0,
            distrust_tables: false,
        }
    }

    /// What is in use, with what waits for a grace period or for the sweep.
    pub fn usage(&self) -> Usage {
        Usage {
            services: self.ids.used(),
            frontends: self.entries as u32 + self.orphan_frontends,
            backends: self.slots.used(),
            maglev: self.slab.used(),
        }
    }

    /// The maps have grown.
    pub fn grow(&mut self, capacity: Capacity) {
        self.ids.grow(capacity.services);
        self.slots.grow(capacity.backends);
        self.slab.grow(capacity.maglev);
        self.max_frontends = self.max_frontends.max(capacity.frontends);
    }

    /// Says how large the maps are that never grow; without it they have no limit.
    pub fn limit(&mut self, limits: Limits) {
        self.source_ranges.set_capacity(limits.source_ranges);
        self.local_backends.set_capacity(limits.local_backends);
    }

    /// Says which networks were set aside for ClusterIPs; false if they are more than the
    /// programs can look at. The narrowest are left out.
    pub fn set_service_cidrs(&mut self, networks: &[IpNet]) -> bool {
        let range = |network: &IpNet| {
            let mapping = if network.addr().is_ipv4() { 96 } else { 0 };
            let bits = mapping + u32::from(network.prefix_len());
            AddressRange::new(Addr::from(network.addr()), bits)
        };
        self.vips.set_told(networks.iter().map(range).collect())
    }

    /// Where ClusterIPs are (rule E3).
    pub fn service_ranges(&self) -> Vec<ServiceRange> {
        self.vips.ranges()
    }

    /// Removed frontends whose packets are still let in, for flows that may go on.
    ///
    /// To be taken before looking for such flows: one that begins later belongs to a
    /// later retirement, or to a frontend that is there again.
    pub fn retired(&self) -> impl Iterator<Item = Retired> + '_ {
        self.filter.retired()
    }

    /// No flow of these frontends is left: shuts their packets out.
    pub fn retire_done(&mut self, done: &[Retired], batch: &mut Batch) {
        for retired in done {
            self.filter.forget(retired, batch);
        }
    }

    /// Names of all Services that have something programmed.
    pub fn programmed(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// Whether indices wait for a grace period before they may be used again.
    pub fn has_quarantined(&self) -> bool {
        self.ids.has_quarantined() || self.slots.has_quarantined() || self.slab.has_quarantined()
    }

    /// A grace period has passed since the last batch was applied: freed indices may be
    /// used again.
    pub fn release(&mut self) {
        self.ids.release();
        self.slots.release();
        self.slab.release();
    }

    /// Id of a zone, new ones are added to the batch. 0 is "no zone", also for names
    /// that are no label values and for more zones than ids.
    pub fn zone_id(&mut self, zone: Option<&Arc<str>>, batch: &mut Batch) -> u16 {
        let Some(zone) = zone else { return 0 };
        if let Some(index) = self.zones.iter().position(|known| known == zone) {
            return index as u16 + 1;
        }
        let Some(name) = Name::new(zone) else {
            return 0;
        };
        if self.zones.len() >= usize::from(MAX_ZONES) {
            return 0;
        }
        self.zones.push(Arc::clone(zone));
        batch.zones.push((self.zones.len() as u32, name));
        self.zones.len() as u16
    }

    fn backend(&self, slot: u32) -> BackendEntry {
        self.backends
            .get(slot as usize)
            .copied()
            .unwrap_or(BackendEntry::FREE)
    }

    fn set_backend(&mut self, slot: u32, entry: BackendEntry) {
        let index = slot as usize;
        if index >= self.backends.len() {
            self.backends.resize(index + 1, BackendEntry::FREE);
        }
        if let Some(place) = self.backends.get_mut(index) {
            *place = entry;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

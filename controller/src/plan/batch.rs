//! A batch of writes, in the only order in which they may be made.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_ebpf::abi::{
    Addr, BackendEntry, FrontendKey, LocalBackendKey, Name, ServiceEntry, ServiceInfo,
    SourceRangeKey, TableRef,
};

use super::filter::Bits;
use crate::model::ObjectName;

/// Writes that make the maps follow a plan. The fields are in the order in which they
/// are applied: whatever refers to something comes after it, and goes before it.
///
/// Applying a batch twice does no harm, so one that failed half-way is simply repeated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Names of new zones.
    pub zones: Vec<(u32, Name)>,
    /// Services whose counters start at zero.
    pub reset_services: Vec<u32>,
    /// Slots whose counters start at zero.
    pub reset_backends: Vec<u32>,
    /// New or changed backends.
    pub backends: Vec<(u32, BackendEntry)>,
    /// New or changed tables. A table of unchanged length is rewritten in place: each
    /// entry is stored at once, and each state on the way is valid.
    pub tables: Vec<(TableRef, Vec<u32>)>,
    /// New or changed descriptions.
    pub infos: Vec<(u32, ServiceInfo)>,
    /// Sources that services admit: before the frontends that ask for them.
    pub source_ranges: Vec<SourceRangeKey>,
    /// New or changed backends of this node whose service uses DSR.
    pub local_backends: Vec<(LocalBackendKey, u32)>,
    /// Words of `FILTER` and the bits to set in them.
    pub filter_set: Vec<(u32, u64)>,
    /// Words of `NODE_PORTS` and the bits to set in them.
    pub node_ports_set: Vec<(u32, u64)>,
    /// New or changed frontends.
    pub frontends: Vec<(FrontendKey, ServiceEntry)>,
    /// Frontends to delete.
    pub removed_frontends: Vec<FrontendKey>,
    /// Addresses that became VIPs of other kinds; without any, they are deleted.
    pub vips: BTreeMap<Addr, u32>,
    /// Words of `FILTER` and the bits to clear in them.
    pub filter_cleared: Vec<(u32, u64)>,
    /// Words of `NODE_PORTS` and the bits to clear in them.
    pub node_ports_cleared: Vec<(u32, u64)>,
    /// Sources to delete: after the frontends that asked for them.
    pub removed_source_ranges: Vec<SourceRangeKey>,
    /// Backends of this node to delete: before their slots are freed.
    pub removed_local_backends: Vec<LocalBackendKey>,
    /// Slots to free: the same backend with no flag set, so that whoever has just
    /// chosen it still finds its address.
    pub freed_backends: Vec<(u32, BackendEntry)>,
    /// Services whose description is deleted.
    pub removed_infos: Vec<u32>,

    /// Not written: UDP backends that no longer serve (rule I7).
    pub gone: Vec<GoneBackend>,
    /// Not written: Services that may now hold a frontend that they waited for.
    pub replan: BTreeSet<ObjectName>,
    /// Not written: Services of which not everything fits into a map that cannot grow,
    /// and that map.
    pub starved: BTreeMap<ObjectName, &'static str>,
}

/// A UDP backend that no longer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoneBackend {
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
}

impl Batch {
    /// Number of writes to hash maps and arrays; a table counts as one.
    pub fn len(&self) -> usize {
        self.zones.len()
            + self.reset_services.len()
            + self.reset_backends.len()
            + self.backends.len()
            + self.tables.len()
            + self.infos.len()
            + self.source_ranges.len()
            + self.local_backends.len()
            + self.filter_set.len()
            + self.node_ports_set.len()
            + self.frontends.len()
            + self.removed_frontends.len()
            + self.vips.len()
            + self.filter_cleared.len()
            + self.node_ports_cleared.len()
            + self.removed_source_ranges.len()
            + self.removed_local_backends.len()
            + self.freed_backends.len()
            + self.removed_infos.len()
    }

    /// Sets a bit, also if this batch was to clear it.
    pub(super) fn set_bit(&mut self, bits: Bits, place: (u32, u64)) {
        let (set, cleared) = match bits {
            Bits::Filter => (&mut self.filter_set, &mut self.filter_cleared),
            Bits::NodePorts => (&mut self.node_ports_set, &mut self.node_ports_cleared),
        };
        cleared.retain(|cleared| *cleared != place);
        set.push(place);
    }

    /// Clears a bit.
    pub(super) fn clear_bit(&mut self, bits: Bits, place: (u32, u64)) {
        match bits {
            Bits::Filter => self.filter_cleared.push(place),
            Bits::NodePorts => self.node_ports_cleared.push(place),
        }
    }

    /// Writes a frontend, also if this batch was to delete it for another owner:
    /// deletions come last and would undo it.
    pub(super) fn put_frontend(&mut self, key: FrontendKey, entry: ServiceEntry) {
        self.removed_frontends.retain(|removed| *removed != key);
        self.frontends.push((key, entry));
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! A batch of writes, in the only order in which they may be made.

use std::{collections::BTreeSet, net::IpAddr};

use lb_ebpf::abi::{BackendEntry, FrontendKey, Name, ServiceEntry, ServiceInfo, TableRef};

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
    /// Filter words and the bits to set in them.
    pub filter_set: Vec<(u32, u64)>,
    /// New or changed frontends.
    pub frontends: Vec<(FrontendKey, ServiceEntry)>,
    /// Frontends to delete.
    pub removed_frontends: Vec<FrontendKey>,
    /// Filter words and the bits to clear in them.
    pub filter_cleared: Vec<(u32, u64)>,
    /// Slots to free: the same backend with no flag set, so that whoever has just
    /// chosen it still finds its address.
    pub freed_backends: Vec<(u32, BackendEntry)>,
    /// Services whose description is deleted.
    pub removed_infos: Vec<u32>,

    /// Not written: UDP backends that no longer serve (rule I7).
    pub gone: Vec<GoneBackend>,
    /// Not written: Services that may now hold a frontend that they waited for.
    pub replan: BTreeSet<ObjectName>,
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
            + self.filter_set.len()
            + self.frontends.len()
            + self.removed_frontends.len()
            + self.filter_cleared.len()
            + self.freed_backends.len()
            + self.removed_infos.len()
    }

    /// Sets a bit of the filter, also if this batch was to clear it.
    pub(super) fn set_filter_bit(&mut self, bit: (u32, u64)) {
        self.filter_cleared.retain(|cleared| *cleared != bit);
        self.filter_set.push(bit);
    }

    /// A frontend that this batch was to delete has found another owner: deletions come
    /// last and would undo it.
    pub(super) fn keep_frontend(&mut self, key: &FrontendKey) {
        if let Some(at) = self.removed_frontends.iter().position(|k| k == key) {
            self.removed_frontends.swap_remove(at);
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

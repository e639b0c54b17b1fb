//! The store: what the sources have said so far.
//!
//! Input: [`Event`]s in any order between objects, repeated at will. Output: the current
//! records, and the names of the Services whose records really changed since they were
//! last asked for (rules A15, B18). The final state depends only on the last event of
//! each object, so a relist, a restart and a fresh start all end alike.
#![forbid(unsafe_code)]

mod listing;
mod slices;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use listing::Listing;
use slices::Slices;

use crate::model::{EndpointSlice, Event, Family, IpNet, Kind, NodeInfo, ObjectName, Service};

/// Services, their EndpointSlices, and this node.
#[derive(Debug, Default)]
pub struct Store {
    services: HashMap<ObjectName, Service>,
    slices: Slices,
    node: NodeInfo,
    service_listing: Listing,
    slice_listing: Listing,
    dirty: BTreeSet<ObjectName>,
    /// When the change began that the next event of a slice tells of.
    trigger: Option<(ObjectName, u64)>,
    triggers: Vec<(Family, u64)>,
    cidrs: BTreeMap<ObjectName, Box<[IpNet]>>,
    cidr_listing: Listing,
    cidrs_dirty: bool,
}

impl Store {
    /// An empty store that has not synced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Listing(Kind::Services) => {
                self.service_listing.begin(self.services.keys().cloned());
            }
            Event::Listing(Kind::EndpointSlices) => {
                self.slice_listing.begin(self.slices.names().cloned());
            }
            Event::Listing(Kind::ServiceCidrs) => {
                self.cidr_listing.begin(self.cidrs.keys().cloned());
            }
            Event::Listed(Kind::ServiceCidrs) => {
                for name in self.cidr_listing.end() {
                    self.set_cidr(name, None);
                }
            }
            Event::Listed(Kind::Services) => {
                for name in self.service_listing.end() {
                    self.set_service(name, None);
                }
            }
            Event::Listed(Kind::EndpointSlices) => {
                for name in self.slice_listing.end() {
                    self.set_slice(name, None);
                }
            }
            Event::Service(name, service) => {
                self.service_listing.seen(&name);
                self.set_service(name, service);
            }
            Event::EndpointSlice(name, slice) => {
                self.slice_listing.seen(&name);
                let trigger = self.trigger.take().filter(|(slice, _)| *slice == name);
                let family = slice.as_ref().map(|slice| slice.family);
                if self.set_slice(name, slice)
                    && let (Some((_, at)), Some(family)) = (trigger, family)
                {
                    self.triggers.push((family, at));
                }
            }
            Event::Triggered(slice, at) => self.trigger = Some((slice, at)),
            Event::Node(node) => self.set_node(node),
            Event::ServiceCidr(name, networks) => {
                self.cidr_listing.seen(&name);
                self.set_cidr(name, networks);
            }
        }
    }

    /// Whether both kinds have been listed once; nothing may be programmed before
    /// (rule K1).
    pub fn synced(&self) -> bool {
        self.service_listing.complete() && self.slice_listing.complete()
    }

    /// Services whose desired state may have changed since the last call. A name that
    /// [`Store::service`] does not know (any more) is a Service to remove.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectName> {
        mem::take(&mut self.dirty)
    }

    /// Whether [`Store::take_dirty`] would return anything.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When the changes of EndpointSlices began that came since the last call, as far as
    /// that is known, in nanoseconds since the Unix epoch (rule J21).
    pub fn take_triggers(&mut self) -> Vec<(Family, u64)> {
        mem::take(&mut self.triggers)
    }

    /// The Service of that name.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// All Services, in no particular order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&ObjectName, &Service)> {
        self.services.iter()
    }

    /// The EndpointSlices of a Service, sorted by name; also those that arrived before
    /// their Service (rule B16).
    pub fn slices_of(&self, service: &ObjectName) -> Vec<&EndpointSlice> {
        self.slices.of(service).collect()
    }

    /// The networks of all ServiceCIDRs.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        self.cidrs.values().flatten().copied().collect()
    }

    /// Whether they have changed since the last call.
    pub fn take_cidrs_dirty(&mut self) -> bool {
        mem::take(&mut self.cidrs_dirty)
    }

    /// Whether [`Store::take_cidrs_dirty`] would say so.
    pub fn has_cidrs_dirty(&self) -> bool {
        self.cidrs_dirty
    }

    /// This node.
    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    fn set_service(&mut self, name: ObjectName, service: Option<Service>) {
        if self.services.get(&name) == service.as_ref() {
            return;
        }
        match service {
            Some(service) => self.services.insert(name.clone(), service),
            None => self.services.remove(&name),
        };
        self.dirty.insert(name);
    }

    /// Whether a Service is touched by it.
    fn set_slice(&mut self, name: ObjectName, slice: Option<EndpointSlice>) -> bool {
        let mut touched = false;
        for service in self.slices.set(name, slice).into_iter().flatten() {
            if self.services.contains_key(&service) {
                self.dirty.insert(service);
                touched = true;
            }
        }
        touched
    }

    fn set_cidr(&mut self, name: ObjectName, networks: Option<Box<[IpNet]>>) {
        let before = match networks {
            Some(networks) if self.cidrs.get(&name) == Some(&networks) => return,
            Some(networks) => self.cidrs.insert(name, networks).or(Some(Box::default())),
            None => self.cidrs.remove(&name),
        };
        self.cidrs_dirty |= before.is_some();
    }

    /// Rule D7.
    fn set_node(&mut self, node: NodeInfo) {
        if !self.node.programs_like(&node) {
            self.dirty.extend(self.services.keys().cloned());
        }
        self.node = node;
    }
}

//! EndpointSlices, found by their own name and by their Service's.
#![forbid(unsafe_code)]

use std::{collections::HashMap, sync::Arc};

use crate::model::{EndpointSlice, ObjectName};

/// EndpointSlices and an index by Service.
#[derive(Debug, Default)]
pub(super) struct Slices {
    by_name: HashMap<ObjectName, EndpointSlice>,
    /// Names of the slices of each Service, sorted; they share its namespace (rule B1).
    by_service: HashMap<ObjectName, Vec<Arc<str>>>,
}

impl Slices {
    /// Adds, replaces or removes a slice; returns the Services that this touches: none
    /// if nothing changed, two if the slice moved from one to another.
    pub(super) fn set(
        &mut self,
        name: ObjectName,
        slice: Option<EndpointSlice>,
    ) -> [Option<ObjectName>; 2] {
        let old = self.by_name.get(&name);
        if old == slice.as_ref() {
            return [None, None];
        }
        let before = old.map(|old| old.service.clone());
        let after = slice.as_ref().map(|new| new.service.clone());
        if before != after {
            if let Some(service) = &before {
                self.unlink(service, &name.name);
            }
            if let Some(service) = &after {
                self.link(service.clone(), name.name.clone());
            }
        }
        match slice {
            Some(slice) => self.by_name.insert(name, slice),
            None => self.by_name.remove(&name),
        };
        [before, after]
    }

    /// The slices of a Service, sorted by name.
    pub(super) fn of(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.by_service.get(service).map_or(&[][..], Vec::as_slice);
        let namespace = service.namespace.clone();
        names.iter().filter_map(move |name| {
            self.by_name.get(&ObjectName {
                namespace: namespace.clone(),
                name: name.clone(),
            })
        })
    }

    /// The names of all slices.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.by_name.keys()
    }

    fn link(&mut self, service: ObjectName, slice: Arc<str>) {
        // One slice is by far the most frequent number.
        let names = self
            .by_service
            .entry(service)
            .or_insert_with(|| Vec::with_capacity(1));
        if let Err(position) = names.binary_search(&slice) {
            names.insert(position, slice);
        }
    }

    fn unlink(&mut self, service: &ObjectName, slice: &Arc<str>) {
        let Some(names) = self.by_service.get_mut(service) else {
            return;
        };
        names.retain(|name| name != slice);
        if names.is_empty() {
            self.by_service.remove(service);
        }
    }
}

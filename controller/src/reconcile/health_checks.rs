//! Which servers Services need on this node (rule J1), as of the last reconciliation.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    desired::{HealthCheck, health_check},
    model::ObjectName,
    store::Store,
};

/// The servers, and whether somebody has to be told of them.
#[derive(Debug, Default)]
pub(super) struct WantedChecks {
    wanted: BTreeMap<ObjectName, HealthCheck>,
    changed: bool,
}

impl WantedChecks {
    /// Works out what `names` need. They are told of after the datapath (rule K9).
    pub(super) fn look(&mut self, store: &Store, names: &BTreeSet<ObjectName>) {
        for name in names {
            let wanted = store.service(name).and_then(|service| {
                // Most Services need none.
                let slices = match service.health_check_node_port {
                    0 => Vec::new(),
                    _ => store.slices_of(name),
                };
                health_check(service, &slices)
            });
            if self.wanted.get(name) != wanted.as_ref() {
                self.changed = true;
                match wanted {
                    Some(wanted) => self.wanted.insert(name.clone(), wanted),
                    None => self.wanted.remove(name),
                };
            }
        }
    }

    pub(super) fn get(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        &self.wanted
    }

    /// Whether they are others than at the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

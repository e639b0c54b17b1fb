//! Frontends: who holds each address and port, and what is written for it.

use lb_ebpf::abi::{FrontendKey, TableRef};
use tracing::warn;

use super::{Batch, NoRoom, Planner, Programmed, encode, needs};
use crate::{desired::DesiredService, model::ObjectName};

impl Planner {
    /// Takes the frontends that `planned` may have and writes those that changed.
    pub(super) fn hold_frontends(
        &mut self,
        name: &ObjectName,
        planned: &mut Programmed,
        before: Option<&Programmed>,
        batch: &mut Batch,
    ) {
        let before_frontends = before.map_or(&[][..], |b| &b.frontends);
        for (key, entry) in std::mem::take(&mut planned.frontends) {
            if !self.acquire(name, &key, batch) {
                continue;
            }
            if !before_frontends.contains(&(key, entry)) {
                batch.frontends.push((key, entry));
            }
            planned.frontends.push((key, entry));
        }
    }

    /// Makes `name` the owner of a frontend, unless one that sorts before it holds it.
    fn acquire(&mut self, name: &ObjectName, key: &FrontendKey, batch: &mut Batch) -> bool {
        match self.owners.get(key) {
            Some(owner) if owner == name => true,
            Some(owner) if owner < name => {
                warn!(service = %name, holder = %owner, address = %key.addr.to_ip(),
                    port = key.port.get(), "address and port are held by another Service");
                self.waiting.entry(*key).or_default().insert(name.clone());
                false
            }
            Some(owner) => {
                let owner = owner.clone();
                warn!(service = %name, holder = %owner, address = %key.addr.to_ip(),
                    port = key.port.get(), "address and port are taken over from another Service");
                for programmed in self.services.get_mut(&owner).into_iter().flatten() {
                    programmed.frontends.retain(|(held, _)| held != key);
                }
                self.waiting.entry(*key).or_default().insert(owner);
                self.owners.insert(*key, name.clone());
                true
            }
            None => {
                if let Some(bit) = self.filter.add(key) {
                    batch.set_filter_bit(bit);
                }
                batch.keep_frontend(key);
                self.owners.insert(*key, name.clone());
                if let Some(waiting) = self.waiting.get_mut(key) {
                    waiting.remove(name);
                    if waiting.is_empty() {
                        self.waiting.remove(key);
                    }
                }
                true
            }
        }
    }

    pub(super) fn drop_frontend(
        &mut self,
        name: &ObjectName,
        key: &FrontendKey,
        batch: &mut Batch,
    ) {
        if self.owners.get(key) != Some(name) {
            return;
        }
        self.owners.remove(key);
        batch.filter_cleared.extend(self.filter.remove(key));
        batch.removed_frontends.push(*key);
        if let Some(waiting) = self.waiting.remove(key) {
            batch.replan.extend(waiting);
        }
    }

    /// A full `SERVICES` map would show only while applying: look before. What the batch
    /// removes still takes room while it is applied, as do orphans until the sweep.
    pub(super) fn check_room(
        &self,
        desired: &[DesiredService],
        batch: &Batch,
    ) -> Result<(), NoRoom> {
        let new = desired
            .iter()
            .flat_map(|service| service.frontends.iter().map(move |f| (service, f)))
            .filter(|(service, f)| {
                let none = (TableRef::EMPTY, TableRef::EMPTY);
                let (key, _) = encode::frontend(f, service.key.protocol, 0, 0, none);
                !self.owners.contains_key(&key)
            })
            .count();
        let present =
            self.owners.len() + batch.removed_frontends.len() + self.orphan_frontends as usize;
        if present + new <= self.max_frontends as usize {
            Ok(())
        } else {
            Err(NoRoom {
                needed: needs(desired),
                slab: false,
            })
        }
    }
}

//! Frontends: who holds each address and port, and what is written for it.
//!
//! A frontend is held as a whole: whoever holds its internal entry holds the external one.

use std::collections::HashSet;

use lb_ebpf::abi::{FrontendKey, Scope, TableRef};
use tracing::warn;

use super::{Batch, NoRoom, Planner, Programmed, encode, needs};
use crate::{desired::DesiredService, model::ObjectName};

/// What a frontend is held under: its internal entry.
pub(super) fn held_as(key: &FrontendKey) -> FrontendKey {
    key.in_scope(Scope::Internal)
}

fn count(programmed: &[Programmed]) -> usize {
    programmed.iter().map(|p| p.frontends.len()).sum()
}

impl Planner {
    /// Takes the frontends that `new` may have, writes those that changed, and gives up
    /// those of `old` that are not among them: an address may have moved from one port of
    /// the Service to another.
    pub(super) fn plan_frontends(
        &mut self,
        name: &ObjectName,
        new: &mut [Programmed],
        old: &[Programmed],
        batch: &mut Batch,
    ) {
        for planned in &mut *new {
            let before = old.iter().find(|o| o.id == planned.id);
            self.hold_frontends(name, planned, before, batch);
        }
        self.entries = self.entries + count(new) - count(old);
        let before = old.iter().flat_map(|o| &o.frontends);
        let after = new.iter().flat_map(|n| &n.frontends);
        self.vips.change(before, after, batch);
        let entries = new.iter().flat_map(|n| &n.frontends);
        let kept: HashSet<_> = entries.map(|(key, _)| *key).collect();
        let held: HashSet<_> = kept.iter().map(held_as).collect();
        let entries = old.iter().flat_map(|o| &o.frontends).map(|(key, _)| *key);
        for key in entries.filter(|key| !kept.contains(key)) {
            // After a restore, an entry may have a new owner already.
            if self.owners.get(&held_as(&key)) != Some(name) && self.is_programmed(&key) {
                continue;
            }
            batch.removed_frontends.push(key);
            if !held.contains(&held_as(&key)) {
                self.give_up(name, &held_as(&key), batch);
            }
        }
        // An internal entry goes before the external one that it refers to; after a crash
        // they may be those of two Services.
        batch.removed_frontends.sort_by_key(|key| key.scope);
    }

    fn hold_frontends(
        &mut self,
        name: &ObjectName,
        planned: &mut Programmed,
        before: Option<&Programmed>,
        batch: &mut Batch,
    ) {
        let before = before.map_or(&[][..], |b| &b.frontends);
        let mut held = std::mem::take(&mut planned.frontends);
        held.retain(|(key, entry)| {
            let holds = self.acquire(name, &held_as(key), batch);
            if holds && !before.contains(&(*key, *entry)) {
                batch.put_frontend(*key, *entry);
            }
            holds
        });
        planned.frontends = held;
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
                    let taken = programmed
                        .frontends
                        .extract_if(.., |(k, _)| held_as(k) == *key);
                    let taken: Vec<_> = taken.collect();
                    self.vips.change(&taken, [], batch);
                    for (entry, _) in taken {
                        // The new owner keeps those that it writes itself.
                        batch.removed_frontends.push(entry);
                        self.entries -= 1;
                    }
                }
                self.waiting.entry(*key).or_default().insert(owner);
                self.owners.insert(*key, name.clone());
                true
            }
            None => {
                self.filter.add(key, batch);
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

    /// Frees a frontend for whoever waits for it.
    fn give_up(&mut self, name: &ObjectName, key: &FrontendKey, batch: &mut Batch) {
        if self.owners.get(key) != Some(name) {
            return;
        }
        self.owners.remove(key);
        self.filter.retire(key);
        if let Some(waiting) = self.waiting.remove(key) {
            batch.replan.extend(waiting);
        }
    }

    /// Whether exactly this entry is programmed for a service.
    pub(super) fn is_programmed(&self, key: &FrontendKey) -> bool {
        let owner = self.owners.get(&held_as(key));
        let services = owner.and_then(|owner| self.services.get(owner));
        let mut entries = services.into_iter().flatten().flat_map(|p| &p.frontends);
        entries.any(|(programmed, _)| programmed == key)
    }

    /// A full `SERVICES` map would show only while applying: look before. What the batch
    /// removes still takes room while it is applied, as do orphans until the sweep.
    pub(super) fn check_room(
        &self,
        name: &ObjectName,
        desired: &[DesiredService],
        batch: &Batch,
    ) -> Result<(), NoRoom> {
        let old = self.services.get(name).map_or(&[][..], Vec::as_slice);
        let new = desired
            .iter()
            .flat_map(|service| service.frontends.iter().map(move |f| (service, f)))
            .filter(|(service, f)| {
                let none = (TableRef::EMPTY, TableRef::EMPTY);
                let (key, _) = encode::frontend(f, service.key.protocol, 0, 0, none);
                let mut programmed = old.iter().flat_map(|o| &o.frontends);
                !programmed.any(|(known, _)| *known == key)
            })
            .count();
        let present = self.usage().frontends as usize + batch.removed_frontends.len();
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

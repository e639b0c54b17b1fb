//! One run over both tables: judge every half, remove flows that are over, mend flows that
//! lost a half.
//!
//! Programs go on changing both tables meanwhile. A flow is judged by copies of its halves;
//! each half is then deleted by an operation that returns what it deleted, and if a packet
//! has touched it since it was judged, everything is put back, unless the packet's
//! programs have made a new record already.

use std::time::Instant;

use lb_ebpf::abi::{ConntrackEntry, ConntrackFlags, ConntrackKey};

use super::{
    backends::Backends,
    dialled::RetiredFrontends,
    expiry::{Clock, is_udp},
    parity::Parity,
    report::{Fill, Reason, Report},
    table::{FlowTable, Record, initiator_key},
};
use crate::maps::MapsError;

/// The two tables of flows.
#[derive(Debug)]
pub struct Tables<'a, T> {
    /// `CONNTRACK`.
    pub proven: &'a T,
    /// `HALF_OPEN`.
    pub half_open: &'a T,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Proven,
    HalfOpen,
}

impl Place {
    const fn other(self) -> Self {
        match self {
            Self::Proven => Self::HalfOpen,
            Self::HalfOpen => Self::Proven,
        }
    }
}

/// A half and where it was found.
#[derive(Clone, Copy, Debug)]
struct Half {
    place: Place,
    key: ConntrackKey,
    entry: ConntrackEntry,
}

/// A run; see the module's documentation.
#[derive(Debug)]
pub struct Sweep<'a, T, B> {
    tables: Tables<'a, T>,
    backends: &'a B,
    clock: Clock,
    /// What the last run found odd.
    suspects: &'a Parity,
    parity: Parity,
    retired: RetiredFrontends,
    report: Report,
}

impl<'a, T: FlowTable, B: Backends> Sweep<'a, T, B> {
    /// Prepares a run. `suspects` is what the last one returned.
    pub fn new(
        tables: Tables<'a, T>,
        backends: &'a B,
        clock: Clock,
        suspects: &'a Parity,
        retired: RetiredFrontends,
    ) -> Self {
        Self {
            tables,
            backends,
            clock,
            suspects,
            parity: Parity::new(suspects.seed().wrapping_add(1)),
            retired,
            report: Report::default(),
        }
    }

    /// Goes through both tables, in the order in which flows move: what is proven
    /// meanwhile is met in the second table.
    ///
    /// # Errors
    /// A table cannot be read. What was done until then is done; nothing else is lost.
    pub fn run(mut self) -> Result<(Report, Parity), MapsError> {
        let started = Instant::now();
        self.sweep(Place::HalfOpen)?;
        self.sweep(Place::Proven)?;
        self.report.unused = self.retired.unused();
        self.report.took = started.elapsed();
        Ok((self.report, self.parity))
    }

    fn sweep(&mut self, place: Place) -> Result<(), MapsError> {
        let table = self.table(place);
        self.fill(place).capacity = table.capacity();
        let mut scan = table.scan();
        let mut batch = Vec::new();
        while table.next_batch(&mut scan, &mut batch)? {
            self.report.scanned += batch.len() as u64;
            for (key, entry) in batch.drain(..) {
                self.look(Half { place, key, entry })?;
            }
        }
        Ok(())
    }

    fn look(&mut self, half: Half) -> Result<(), MapsError> {
        let Half { key, entry, place } = half;
        self.fill(place).found += 1;
        self.fill(place).entries += 1;
        if place == Place::HalfOpen && entry.has(ConntrackFlags::INITIATOR) {
            self.report.unproven.found += 1;
            self.report.unproven.left += 1;
        }
        let initiator = initiator_key(&key, &entry);
        self.retired.saw(&initiator);
        let one_way = entry.has(ConntrackFlags::ONE_WAY);
        let settled = self.clock.is_settled(&entry);
        if settled && !one_way {
            self.parity.flip(&initiator);
        }
        let stale = is_udp(key.protocol) && self.backends.is_stale(&entry);
        let idle = self.clock.may_have_ended(key.protocol, &entry);
        let suspect = settled && !one_way && self.suspects.is_odd(&initiator);
        if !(stale || idle || suspect) {
            return Ok(());
        }
        if place == Place::HalfOpen && self.tables.proven.get(&key)?.is_some() {
            return self.remove(&half, None, Reason::Superseded);
        }
        let mate = if one_way { None } else { self.mate(&half)? };
        if stale {
            return self.remove(&half, mate.as_ref(), Reason::StaleBackend);
        }
        let mate_entry = mate.as_ref().map(|mate| &mate.entry);
        if let Some(class) = self.clock.ended(key.protocol, &entry, mate_entry) {
            return self.remove(&half, mate.as_ref(), Reason::Idle(class));
        }
        if settled && !one_way && mate.is_none() {
            self.restore_mate(&half)?;
        }
        Ok(())
    }

    /// The other half, in whichever table.
    fn mate(&self, half: &Half) -> Result<Option<Half>, MapsError> {
        let key = half.entry.mirror_key(&half.key);
        for place in [half.place, half.place.other()] {
            if let Some(entry) = self.table(place).get(&key)?
                && half.entry.is_mate_of(&half.key, &entry)
            {
                return Ok(Some(Half { place, key, entry }));
            }
        }
        Ok(None)
    }

    /// Deletes a flow, unless a packet has changed our mind.
    fn remove(
        &mut self,
        half: &Half,
        mate: Option<&Half>,
        reason: Reason,
    ) -> Result<(), MapsError> {
        let mut taken: Vec<(Place, Record)> = Vec::with_capacity(2);
        for judged in std::iter::once(half).chain(mate) {
            match self.table(judged.place).take(&judged.key)? {
                Some(entry) => {
                    taken.push((judged.place, (judged.key, entry)));
                    if has_moved_on(&judged.entry, &entry, reason) {
                        return self.put_back(&taken);
                    }
                }
                // Somebody else has removed the flow, or is about to.
                None if taken.is_empty() => {
                    self.fill(half.place).entries -= 1;
                    return Ok(());
                }
                None => {}
            }
        }
        self.fill(half.place).entries -= 1;
        let unproven = half.place == Place::HalfOpen;
        if unproven && (mate.is_some() || half.entry.has(ConntrackFlags::INITIATOR)) {
            let left = &mut self.report.unproven.left;
            *left = left.saturating_sub(1);
        }
        self.report.deleted[reason.index()] += 1;
        if reason == Reason::StaleBackend {
            self.report.stale[usize::from(!half.key.src.is_v4())] += 1;
        }
        // A superseded record is no flow: the flow lives on.
        if reason != Reason::Superseded {
            self.backends.closed(&half.entry);
        }
        Ok(())
    }

    fn put_back(&mut self, taken: &[(Place, Record)]) -> Result<(), MapsError> {
        self.report.revived += 1;
        for (place, (key, entry)) in taken {
            self.insert(*place, key, entry)?;
        }
        Ok(())
    }

    /// Makes the missing half from `half`, if that is still there itself.
    ///
    /// A half-open flow that nobody uses (a flood's) is not worth the place of another
    /// one in a table that evicts.
    fn restore_mate(&mut self, half: &Half) -> Result<(), MapsError> {
        let unused = half.entry.last_seen == half.entry.created;
        if half.place == Place::HalfOpen && unused {
            return Ok(());
        }
        let Some(entry) = self.table(half.place).get(&half.key)? else {
            self.fill(half.place).entries -= 1;
            return Ok(());
        };
        let (key, mate) = entry.mirror(&half.key);
        if self.insert(half.place, &key, &mate)? {
            self.fill(half.place).entries += 1;
            self.report.restored += 1;
        }
        Ok(())
    }

    /// Inserts a half if there is none under its key. A map without room is counted: the
    /// run goes on.
    fn insert(
        &mut self,
        place: Place,
        key: &ConntrackKey,
        entry: &ConntrackEntry,
    ) -> Result<bool, MapsError> {
        match self.table(place).insert_new(key, entry) {
            Err(error) if error.is_full() => {
                self.report.refused += 1;
                Ok(false)
            }
            other => other,
        }
    }

    fn fill(&mut self, place: Place) -> &mut Fill {
        match place {
            Place::Proven => &mut self.report.proven,
            Place::HalfOpen => &mut self.report.half_open,
        }
    }

    fn table(&self, place: Place) -> &'a T {
        match place {
            Place::Proven => self.tables.proven,
            Place::HalfOpen => self.tables.half_open,
        }
    }
}

/// Whether a packet has changed what the judgement was made of.
///
/// A stale backend stays stale whenever the flow was seen; there, only a record of
/// another flow or of another backend counts.
fn has_moved_on(judged: &ConntrackEntry, now: &ConntrackEntry, reason: Reason) -> bool {
    let identity = |entry: &ConntrackEntry| (entry.created, entry.slot, entry.generation);
    let activity = |entry: &ConntrackEntry| (entry.last_seen, entry.state);
    identity(judged) != identity(now)
        || (matches!(reason, Reason::Idle(_)) && activity(judged) != activity(now))
}

#[cfg(test)]
mod tests;

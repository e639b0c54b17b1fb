//! Maps in memory that may refuse any write, and have no more room than they say.

use std::{cell::Cell, io};

use crate::{
    apply::ApplyError,
    datapath::DatapathError,
    plan::{
        Batch, Capacity, Limits, NoRoom, Usage,
        tests::memory::{Memory, Write, writes},
    },
    sys::BatchError,
};

use super::super::target::Target;

/// So small that almost every Service makes the maps grow.
pub(super) const TINY: Capacity = Capacity {
    services: 1,
    frontends: 1,
    backends: 2,
    maglev: 8,
};

/// Which writes fail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Faults {
    /// None.
    Never,
    /// The one after so many that succeeded, once.
    After(u32),
    /// One in so many on average, a few times; the state of a generator comes first.
    Random(u32, u32, u8),
}

impl Faults {
    fn strikes(&mut self) -> bool {
        match self {
            Self::Never | Self::Random(_, _, 0) => false,
            Self::After(0) => {
                *self = Self::Never;
                true
            }
            Self::After(left) => {
                *left -= 1;
                false
            }
            Self::Random(state, odds, left) => {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let strikes = (*state >> 16).is_multiple_of(*odds);
                *left -= u8::from(strikes);
                strikes
            }
        }
    }
}

/// See the module's documentation.
pub(super) struct Maps {
    pub(super) memory: Memory,
    pub(super) capacity: Capacity,
    pub(super) faults: Faults,
    /// Writes that were made.
    pub(super) written: usize,
    /// Grace periods that were waited for.
    pub(super) graces: Cell<usize>,
}

impl Maps {
    pub(super) fn new(capacity: Capacity, faults: Faults) -> Self {
        Self {
            memory: Memory::default(),
            capacity,
            faults,
            written: 0,
            graces: Cell::new(0),
        }
    }

    fn refused(&mut self) -> Result<(), ApplyError> {
        if !self.faults.strikes() {
            return Ok(());
        }
        Err(ApplyError {
            name: "INJECTED",
            source: BatchError {
                done: 0,
                source: io::Error::other("injected"),
            },
        })
    }

    /// What the kernel would refuse by itself.
    fn assert_room(&self, write: &Write) {
        let Capacity {
            services,
            frontends,
            backends,
            maglev,
        } = self.capacity;
        let fits = match *write {
            Write::Backend(slot, _) => slot < backends,
            Write::Entry(index, _) => index < maglev,
            Write::Info(id, _) => id < services,
            Write::Frontend(key, _) => {
                self.memory.services.contains_key(&key)
                    || self.memory.services.len() < frontends as usize
            }
            _ => true,
        };
        assert!(fits, "{write:?} has no room in {:?}", self.capacity);
    }
}

impl Target for Maps {
    fn limits(&self) -> Limits {
        Limits {
            source_ranges: u32::MAX,
            local_backends: u32::MAX,
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        for write in writes(batch) {
            self.refused()?;
            self.assert_room(&write);
            self.memory.write(&write);
            self.memory.check();
            self.written += 1;
        }
        Ok(())
    }

    fn grow(&mut self, usage: Usage, no_room: NoRoom) -> Result<Capacity, DatapathError> {
        self.refused()?;
        let (old, needed) = (self.capacity, no_room.needed);
        let slab = if no_room.slab {
            old.maglev
        } else {
            usage.maglev
        };
        self.capacity = Capacity {
            services: old.services.max(usage.services + needed.services),
            frontends: old.frontends.max(usage.frontends + needed.frontends),
            backends: old.backends.max(usage.backends + needed.backends),
            maglev: old.maglev.max(slab + needed.maglev).next_multiple_of(2),
        };
        assert_ne!(self.capacity, old, "growing gives room: {no_room:?}");
        Ok(self.capacity)
    }

    fn grace_period(&self) {
        self.graces.set(self.graces.get() + 1);
    }
}

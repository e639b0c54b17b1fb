//! What Services are programmed into: the maps of the kernel.
//!
//! The seam where tests put maps in memory that refuse writes: whatever fails, and however
//! often, the same state comes of it.

use crate::{
    apply::ApplyError,
    datapath::{Datapath, DatapathError},
    plan::{Batch, Capacity, Limits, NoRoom, Usage},
    sys,
};

/// Maps.
pub(super) trait Target {
    /// Capacities of the maps that never grow.
    fn limits(&self) -> Limits;
    /// Writes a batch; after a failure it is repeated.
    fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError>;
    /// Makes room for `usage` and what did not fit beyond it; indices keep their meaning.
    fn grow(&mut self, usage: Usage, no_room: NoRoom) -> Result<Capacity, DatapathError>;
    /// Waits until no program reads what it found before.
    fn grace_period(&self);
}

impl Target for Datapath {
    fn limits(&self) -> Limits {
        Self::limits(self)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        Self::apply(self, batch)
    }

    fn grow(&mut self, usage: Usage, no_room: NoRoom) -> Result<Capacity, DatapathError> {
        Self::grow(self, usage, no_room)
    }

    fn grace_period(&self) {
        sys::grace_period();
    }
}

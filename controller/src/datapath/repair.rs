//! A datapath that others have damaged: what is missing is put back (rule K5).

use super::{Datapath, DatapathError};

/// What was missing and is there again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Programs at the cgroup.
    pub sockets: usize,
    /// Programs at devices.
    pub devices: usize,
    /// Pins of maps.
    pub maps: usize,
}

impl Datapath {
    /// Puts back what others have taken away: attachments, and pins of maps (rule K5).
    /// What holds is left alone.
    pub fn repair(&mut self) -> Result<Repairs, DatapathError> {
        if !self.published {
            return Ok(Repairs::default());
        }
        let maps = self.programs.repin(&self.place.pins.epoch(self.epoch))?;
        let attached = self.attach()?;
        Ok(Repairs { maps, ..attached })
    }
}

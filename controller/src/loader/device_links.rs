//! What is attached to devices, and what devices have refused.

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use tracing::warn;

use crate::{
    devices::Attachment,
    exit::sentence,
    pins::{DevicePin, Mechanism},
};

/// Why something cannot be attached to, or detached from, a device.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DeviceError(Box<dyn std::error::Error + Send + Sync>);

impl DeviceError {
    pub(super) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// Whether the place is taken, by another program or in the other mode of XDP.
    fn is_busy(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            let errno = io.and_then(io::Error::raw_os_error);
            if matches!(errno, Some(nix::libc::EBUSY | nix::libc::EEXIST)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// What is attached to devices.
#[derive(Debug, Default)]
pub struct DeviceLinks {
    pub(super) attached: HashSet<DevicePin>,
    /// Why a program is not attached, by program and ifindex.
    pub(super) refused: BTreeMap<(&'static str, u32), Refusal>,
}

#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) mechanism: Mechanism,
    reason: String,
    /// The MTU of the device for which this is final: a driver that refuses XDP is not
    /// asked for the same again, since some reset the card for it.
    final_for: Option<u32>,
}

impl DeviceLinks {
    /// How a program is held at a device.
    pub fn mechanism(&self, program: &str, index: u32) -> Option<Mechanism> {
        let mut found = self
            .attached
            .iter()
            .filter(|pin| pin.index == index && pin.program == program);
        found.next().map(|pin| pin.mechanism)
    }

    /// Why a program is not at a device where it should be.
    pub fn refusal(&self, program: &'static str, index: u32) -> Option<&str> {
        let refusal = self.refused.get(&(program, index))?;
        Some(refusal.reason.as_str())
    }

    /// Whether anything is held this way.
    pub fn any(&self, mechanism: Mechanism) -> bool {
        let mut pins = self.attached.iter();
        pins.any(|pin| pin.mechanism == mechanism)
    }

    pub(super) fn is_final(&self, pin: &DevicePin, mtu: u32) -> bool {
        let refusal = self.refused.get(&(pin.program, pin.index));
        refusal.is_some_and(|refusal| {
            refusal.mechanism == pin.mechanism && refusal.final_for == Some(mtu)
        })
    }

    /// Remembers a failure; says it once.
    pub(super) fn refuse(&mut self, pin: &DevicePin, attachment: &Attachment, error: &DeviceError) {
        let device = attachment.name.as_str();
        let reason = sentence(error);
        let old = self.refused.get(&(pin.program, pin.index));
        if old.is_none_or(|old| old.reason != reason) {
            warn!(
                device,
                program = pin.program,
                how = pin.mechanism.as_str(),
                reason,
                "the device does without the program"
            );
        }
        let xdp = matches!(pin.mechanism, Mechanism::XdpNative | Mechanism::XdpGeneric);
        let refusal = Refusal {
            mechanism: pin.mechanism,
            reason,
            // Another program may go by itself.
            final_for: (xdp && !error.is_busy()).then_some(attachment.mtu),
        };
        self.refused.insert((pin.program, pin.index), refusal);
    }
}

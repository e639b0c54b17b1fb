//! Packet programs at devices: attached, replaced, detached.
//!
//! Links are pinned and updated in place, so that a restart or a swap leaves no instant
//! without a program. A device that refuses a program goes without it, and the reason is
//! kept; nothing here fails as a whole. What a pin says is checked against the kernel each
//! time: a device may have gone, or somebody may have detached a link.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::fd::AsFd,
};

use aya::programs::{
    LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, Link, LinkError},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use tracing::{info, warn};

use super::Programs;
use crate::{
    devices::{Attachment, Direction, Hook, direction_of},
    exit::sentence,
    pins::{DevicePin, Mechanism, Pins},
    sys,
};

/// Priority of our classic filters: after those that others put first.
const FILTER_PRIORITY: u16 = 50;

/// Handle of our classic filters; a filter with it is replaced in place.
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 0x6c62);

/// Why something cannot be attached to, or detached from, a device.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DeviceError(Box<dyn std::error::Error + Send + Sync>);

impl DeviceError {
    fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// Whether the place is taken by another program.
    fn is_busy(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.and_then(io::Error::raw_os_error) == Some(nix::libc::EBUSY) {
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
    attached: HashSet<DevicePin>,
    /// Why a program is not attached, by program and ifindex.
    refused: BTreeMap<(&'static str, u32), Refusal>,
}

#[derive(Debug)]
struct Refusal {
    mechanism: Mechanism,
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

    fn is_final(&self, pin: &DevicePin, mtu: u32) -> bool {
        let refusal = self.refused.get(&(pin.program, pin.index));
        refusal.is_some_and(|refusal| {
            refusal.mechanism == pin.mechanism && refusal.final_for == Some(mtu)
        })
    }

    /// Remembers a failure; says it once.
    fn refuse(&mut self, pin: &DevicePin, attachment: &Attachment, error: &DeviceError) {
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
        let xdp = matches!(
            pin.mechanism,
            Mechanism::XdpNative | Mechanism::XdpGeneric
        );
        let refusal = Refusal {
            mechanism: pin.mechanism,
            reason,
            // Another program may go by itself.
            final_for: (xdp && !error.is_busy()).then_some(attachment.mtu),
        };
        self.refused.insert((pin.program, pin.index), refusal);
    }
}

impl Programs {
    /// Brings the attachments at devices in step with `wanted`, in its order.
    pub fn attach_to_devices(
        &mut self,
        pins: &Pins,
        wanted: &[Attachment],
        links: &mut DeviceLinks,
    ) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|attachment| (self.pin_for(attachment), attachment))
            .collect();
        let names: HashMap<_, _> = wanted
            .iter()
            .map(|(pin, a)| (pin, a.name.as_str()))
            .collect();
        links.attached.clear();
        links.refused.retain(|(program, index), refusal| {
            names.contains_key(&DevicePin {
                index: *index,
                program,
                mechanism: refusal.mechanism,
            })
        });
        for pin in pins.device_links().unwrap_or_default() {
            if !names.contains_key(&pin) {
                match detach(pins, &pin) {
                    Ok(()) => info!(%pin, "detached"),
                    Err(error) => warn!(%pin, error = sentence(&error), "cannot detach"),
                }
            }
        }
        for (pin, attachment) in &wanted {
            if links.is_final(pin, attachment.mtu) {
                continue;
            }
            match self.put(pins, pin, &attachment.name) {
                Ok(()) => {
                    links.refused.remove(&(pin.program, pin.index));
                    links.attached.insert(*pin);
                }
                Err(error) => links.refuse(pin, attachment, &error),
            }
        }
    }

    fn pin_for(&self, attachment: &Attachment) -> DevicePin {
        let mechanism = match attachment.hook {
            Hook::Tc(_) if self.features.tcx => Mechanism::Tcx,
            Hook::Tc(_) => Mechanism::Clsact,
            Hook::XdpNative => Mechanism::XdpNative,
            Hook::XdpGeneric => Mechanism::XdpGeneric,
        };
        DevicePin {
            index: attachment.index,
            program: attachment.program,
            mechanism,
        }
    }

    /// Makes one attachment, or makes sure that it is in force with this program.
    fn put(&mut self, pins: &Pins, pin: &DevicePin, device: &str) -> Result<(), DeviceError> {
        if pin.mechanism == Mechanism::Clsact {
            return self.put_filter(pins, pin, device);
        }
        let path = pins.device_link(pin);
        match self.update_device_link(pins, pin) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                // A program of the past must not go on with maps of the past.
                warn!(%pin, %error, "a link cannot be replaced: making it anew");
                fs::remove_file(&path).map_err(DeviceError::new)?;
            }
        }
        let link = self.device_link(pin, device)?;
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).map_err(DeviceError::new)?;
        link.pin(&path).map_err(DeviceError::new)?;
        info!(device, %pin, "attached");
        Ok(())
    }

    /// Updates a pinned link; `false` if there is none that is in force.
    fn update_device_link(&self, pins: &Pins, pin: &DevicePin) -> io::Result<bool> {
        let path = pins.device_link(pin);
        let link = match sys::object_get(&path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let found = sys::device_link(&link)?;
        if found.ifindex != pin.index {
            // The device has gone, and perhaps another one has its index.
            fs::remove_file(&path)?;
            return Ok(false);
        }
        let program = self
            .ebpf
            .program(pin.program)
            .ok_or(io::ErrorKind::NotFound)?;
        let id = program.info().map_err(io::Error::other)?.id();
        if found.program_id != id {
            let fd = program.fd().map_err(io::Error::other)?;
            sys::link_update(&link, fd.as_fd())?;
        }
        Ok(true)
    }

    fn device_link(&mut self, pin: &DevicePin, device: &str) -> Result<FdLink, DeviceError> {
        let no_link = |error: LinkError| DeviceError::new(error);
        if pin.mechanism == Mechanism::Tcx {
            let program = self.classifier(pin.program)?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = program
                .attach_with_options(device, attach_type(pin.program), options)
                .map_err(DeviceError::new)?;
            let link = program.take_link(id).map_err(DeviceError::new)?;
            return link.try_into().map_err(no_link);
        }
        let mode = match pin.mechanism {
            Mechanism::XdpNative => XdpMode::Driver,
            _ => XdpMode::Skb,
        };
        let program: &mut Xdp = self.program(pin.program)?;
        let id = program
            .attach_to_if_index(pin.index, mode)
            .map_err(DeviceError::new)?;
        let link = program.take_link(id).map_err(DeviceError::new)?;
        link.try_into().map_err(no_link)
    }

    /// Puts a classic filter in force, in place of ours if there is one.
    fn put_filter(
        &mut self,
        pins: &Pins,
        pin: &DevicePin,
        device: &str,
    ) -> Result<(), DeviceError> {
        let path = pins.device_link(pin);
        let program = self.classifier(pin.program)?;
        let replaced = filter(pin.program, device)
            .map_err(DeviceError::new)
            .and_then(|link| program.attach_to_link(link).map_err(DeviceError::new));
        let id = if let Ok(id) = replaced {
            id
        } else {
            // Somebody else's qdisc will do, too; without one the filter is refused.
            let _ = qdisc_add_clsact(device);
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: FILTER_PRIORITY,
                handle: FILTER_HANDLE,
                classid: None,
            });
            info!(device, %pin, "attaching");
            program
                .attach_with_options(device, attach_type(pin.program), options)
                .map_err(DeviceError::new)?
        };
        // The filter stays when this process ends: aya would detach what it drops.
        std::mem::forget(program.take_link(id).map_err(DeviceError::new)?);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DeviceError::new(error));
            }
            _ => {}
        }
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).map_err(DeviceError::new)?;
        program.pin(&path).map_err(DeviceError::new)
    }

    fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, DeviceError> {
        self.program(name)
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, DeviceError>
    where
        &'a mut P: TryFrom<&'a mut Program>,
    {
        let program = self.ebpf.program_mut(name);
        program
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| DeviceError::new(format!("the BPF object has no program {name}")))
    }
}

fn attach_type(program: &str) -> TcAttachType {
    match direction_of(program) {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// Our classic filter at a device.
fn filter(program: &str, device: &str) -> io::Result<SchedClassifierLink> {
    let kind = attach_type(program);
    SchedClassifierLink::attached(device, kind, FILTER_PRIORITY, FILTER_HANDLE, None)
}

/// Detaches everything that is pinned. Classic filters are found by the names of pins.
pub fn detach_all(pins: &Pins) -> Result<(), DeviceError> {
    for pin in pins.device_links().map_err(DeviceError::new)? {
        detach(pins, &pin)?;
    }
    Ok(())
}

fn detach(pins: &Pins, pin: &DevicePin) -> Result<(), DeviceError> {
    if pin.mechanism == Mechanism::Clsact
        && let Ok(device) = nix::net::if_::if_indextoname(pin.index)
        && let Ok(link) = filter(pin.program, &device.to_string_lossy())
        && let Err(error) = Link::detach(link)
    {
        // Gone already, or with its qdisc: what counts is that it is not there.
        warn!(%pin, error = sentence(&error), "the filter cannot be removed");
    }
    fs::remove_file(pins.device_link(pin)).map_err(DeviceError::new)
}

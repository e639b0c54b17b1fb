//! Packet programs at devices: attached, replaced, detached.
//!
//! Links are pinned and updated in place, so that a restart or a swap leaves no instant
//! without a program. A device that refuses a program goes without it, and the reason is
//! kept; nothing here fails as a whole. What a pin says is checked against the kernel each
//! time: a device may have gone, or somebody may have detached a link.

use std::{collections::HashMap, fs, io, os::fd::AsFd};

use aya::programs::{
    LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, Link, LinkError},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use tracing::{debug, info, warn};

use super::{
    Programs,
    device_links::{DeviceError, DeviceLinks},
};
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

impl Programs {
    /// Brings the attachments at devices in step with `wanted`, in its order. Returns how
    /// many were made again that somebody else had taken away.
    pub fn attach_to_devices(
        &mut self,
        pins: &Pins,
        wanted: &[Attachment],
        links: &mut DeviceLinks,
    ) -> usize {
        let mut made_again = 0;
        let wanted: Vec<_> = wanted
            .iter()
            .map(|attachment| (self.pin_for(attachment), attachment))
            .collect();
        let names: HashMap<_, _> = wanted
            .iter()
            .map(|(pin, a)| (pin, a.name.as_str()))
            .collect();
        let before = std::mem::take(&mut links.attached);
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
                Ok(made) => {
                    made_again += usize::from(made && before.contains(pin));
                    links.refused.remove(&(pin.program, pin.index));
                    links.attached.insert(*pin);
                }
                Err(error) => links.refuse(pin, attachment, &error),
            }
        }
        made_again
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

    /// Makes one attachment, or makes sure that it is in force with this program; whether
    /// it was made.
    fn put(&mut self, pins: &Pins, pin: &DevicePin, device: &str) -> Result<bool, DeviceError> {
        if pin.mechanism == Mechanism::Clsact {
            return self.put_filter(pins, pin, device);
        }
        let path = pins.device_link(pin);
        match self.update_device_link(pins, pin) {
            Ok(true) => return Ok(false),
            Ok(false) => {}
            Err(error) => {
                // A program of the past must not go on with maps of the past.
                warn!(%pin, %error, "a link cannot be replaced: making it anew");
                detach(pins, pin)?;
            }
        }
        let link = self.device_link(pin, device)?;
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).map_err(DeviceError::new)?;
        link.pin(&path).map_err(DeviceError::new)?;
        info!(device, %pin, "attached");
        Ok(true)
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

    /// Puts a classic filter in force, in place of ours if there is one; whether there was
    /// none.
    fn put_filter(
        &mut self,
        pins: &Pins,
        pin: &DevicePin,
        device: &str,
    ) -> Result<bool, DeviceError> {
        let path = pins.device_link(pin);
        let program = self.classifier(pin.program)?;
        let replaced = filter(pin.program, device)
            .map_err(DeviceError::new)
            .and_then(|link| program.attach_to_link(link).map_err(DeviceError::new));
        let made = replaced.is_err();
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
        program.pin(&path).map_err(DeviceError::new)?;
        Ok(made)
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
    let path = pins.device_link(pin);
    // At once: what takes its place may not be attached beside it. A device that is gone
    // has no attachments, which is as good.
    if let Ok(link) = sys::object_get(&path)
        && pin.mechanism != Mechanism::Clsact
        && let Err(error) = sys::link_detach(link)
    {
        debug!(%pin, %error, "nothing to detach");
    }
    fs::remove_file(path).map_err(DeviceError::new)
}

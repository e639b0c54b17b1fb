//! The part of `status` about devices.

use std::collections::BTreeMap;

use lb_ebpf::abi::{Addr, Device, DeviceClass, DeviceFlags};
use serde::Serialize;

use super::{
    facts::{DeviceFacts, LinkState},
    words,
};
use crate::{datapath::network::report::class_name, pins::Mechanism};

/// A device and what runs there.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceRow {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// `uplink`, `backend-route`, `pod-facing`.
    pub class: &'static str,
    /// Its MTU.
    pub mtu: u32,
    /// How TC programs are held: `tcx`, `clsact`, or `none`.
    pub tc: &'static str,
    /// Where XDP runs: `native`, `generic`, or `none`.
    pub xdp: &'static str,
    /// Whether XDP programs may redirect to it.
    pub xdp_redirect: bool,
    /// Why not everything runs there that could.
    pub reason: Option<String>,
    /// Source of IPv4 flows that are SNATed out here.
    pub snat_v4: Option<String>,
    /// Source of IPv6 flows that are SNATed out here.
    pub snat_v6: Option<String>,
}

/// One row a device.
pub(super) fn rows(devices: &[(u32, Device)], facts: &DeviceFacts) -> Vec<DeviceRow> {
    let row = |(index, device): &(u32, Device)| DeviceRow {
        name: words::padded(&device.name),
        ifindex: *index,
        class: DeviceClass::from_number(device.class).map_or("unknown", class_name),
        mtu: device.mtu,
        tc: held(facts, *index, &[Mechanism::Tcx, Mechanism::Clsact]),
        xdp: held(
            facts,
            *index,
            &[Mechanism::XdpNative, Mechanism::XdpGeneric],
        ),
        xdp_redirect: device.flags & DeviceFlags::XDP_REDIRECT != 0,
        reason: reason(device, facts.reasons.get(index)),
        snat_v4: address(device.snat_v4),
        snat_v6: address(device.snat_v6),
    };
    devices.iter().map(row).collect()
}

/// What a device does not do, and why.
fn reason(device: &Device, attachment: Option<&String>) -> Option<String> {
    let tunnel = device.flags & DeviceFlags::TUNNEL != 0;
    let reasons = [
        attachment.cloned(),
        tunnel.then(|| "a tunnel: no DSR through it, SNAT instead".to_owned()),
    ];
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// What is wrong with links, one sentence each.
pub(super) fn problems(devices: &[(u32, Device)], facts: &DeviceFacts) -> Vec<String> {
    let names: BTreeMap<_, _> = devices
        .iter()
        .map(|(index, device)| (*index, words::padded(&device.name)))
        .collect();
    let broken = facts.links.iter().filter_map(|(pin, state)| {
        let device = names.get(&pin.index)?;
        let program = pin.program;
        match state {
            LinkState::Attached | LinkState::Missing => None,
            LinkState::Detached => Some(format!("{program} is detached from {device}")),
            LinkState::Unreadable => {
                Some(format!("the link of {program} at {device} cannot be read"))
            }
        }
    });
    let bare = rows(devices, facts).into_iter().filter_map(|row| {
        let bare = row.tc == "none" && row.reason.is_none();
        bare.then(|| format!("no program is attached to {}", row.name))
    });
    broken.chain(bare).collect()
}

fn held(facts: &DeviceFacts, index: u32, how: &[Mechanism]) -> &'static str {
    let mut attached = facts
        .links
        .iter()
        .filter(|(pin, state)| pin.index == index && *state == LinkState::Attached);
    let found = attached.find(|(pin, _)| how.contains(&pin.mechanism));
    found.map_or("none", |(pin, _)| pin.mechanism.as_str())
}

fn address(address: Addr) -> Option<String> {
    (!address.is_unspecified()).then(|| address.to_ip().to_string())
}

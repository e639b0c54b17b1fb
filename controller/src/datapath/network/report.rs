//! What became of each device, for the log and the metrics.

use std::collections::BTreeMap;

use lb_ebpf::abi::DeviceClass;
use tracing::info;

use crate::{
    devices::{NodeDevice, Options, PACKET_PROGRAMS, XdpChoice, xdp_choice},
    loader::DeviceLinks,
    metrics,
};

/// A device and what runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceReport {
    /// Its name.
    pub device: String,
    index: u32,
    /// What it is for.
    pub class: &'static str,
    mtu: u32,
    snat: [Option<std::net::IpAddr>; 2],
    /// How TC programs are held: `tcx`, `clsact`, `none`.
    pub tc: &'static str,
    /// Where XDP runs: `native`, `generic`, `none`.
    pub xdp: &'static str,
    /// Why something does not run that could.
    pub reason: String,
}

pub(super) fn reports(
    devices: &[NodeDevice],
    options: &Options,
    links: &DeviceLinks,
) -> Vec<DeviceReport> {
    let report = |device: &NodeDevice| {
        let how = |program| links.mechanism(program, device.index);
        let tc = PACKET_PROGRAMS
            .into_iter()
            .filter(|program| *program != "lb_xdp")
            .find_map(how);
        let refusal = |program| links.refusal(program, device.index);
        let mut reasons: Vec<&str> = PACKET_PROGRAMS.into_iter().filter_map(refusal).collect();
        if let XdpChoice::None(reason) = xdp_choice(device, options)
            && device.class == DeviceClass::Uplink
        {
            reasons.push(reason);
        } else if let Some(obstacle) = device.obstacle {
            reasons.push(obstacle.as_str());
        }
        DeviceReport {
            device: device.name.clone(),
            index: device.index,
            class: class_name(device.class),
            mtu: device.mtu,
            snat: [
                device.snat_v4.map(Into::into),
                device.snat_v6.map(Into::into),
            ],
            tc: tc.map_or("none", |mechanism| mechanism.as_str()),
            xdp: how("lb_xdp").map_or("none", |mechanism| mechanism.as_str()),
            reason: reasons.join("; "),
        }
    };
    devices.iter().map(report).collect()
}

/// The reasons by ifindex, as far as there are any.
pub(super) fn reasons(reports: &[DeviceReport]) -> BTreeMap<u32, String> {
    let reasoned = reports.iter().filter(|report| !report.reason.is_empty());
    reasoned
        .map(|report| (report.index, report.reason.clone()))
        .collect()
}

/// Says what has changed.
pub(super) fn publish(before: &[DeviceReport], after: &[DeviceReport]) {
    for old in before.iter().filter(|old| !after.contains(old)) {
        metrics::device(old, false);
        if !after.iter().any(|new| new.index == old.index) {
            info!(device = old.device, index = old.index, "a device is gone");
        }
    }
    for new in after.iter().filter(|new| !before.contains(new)) {
        metrics::device(new, true);
        info!(
            device = new.device,
            index = new.index,
            class = new.class,
            mtu = new.mtu,
            snat_v4 = ?new.snat[0],
            snat_v6 = ?new.snat[1],
            tc = new.tc,
            xdp = new.xdp,
            reason = new.reason,
            "a device"
        );
    }
}

/// The word for a class.
pub(crate) const fn class_name(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Uplink => "uplink",
        DeviceClass::BackendRoute => "backend-route",
        DeviceClass::PodFacing => "pod-facing",
    }
}

//! Which program goes where. Pure.

use lb_ebpf::abi::DeviceClass;

use super::{LinkKind, NodeDevice, Options, XdpMode};

/// Where a program is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// TC.
    Tc(Direction),
    /// XDP in the driver.
    XdpNative,
    /// XDP in the kernel's generic path.
    XdpGeneric,
}

/// Direction of packets, as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// They come in.
    Ingress,
    /// They go out.
    Egress,
}

/// A program that should be at a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The program.
    pub program: &'static str,
    /// Where.
    pub hook: Hook,
    /// The device's ifindex.
    pub index: u32,
    /// The device's name.
    pub name: String,
    /// The device's MTU: drivers refuse XDP for too large a one.
    pub mtu: u32,
}

/// Whether a device gets XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpChoice {
    /// In the driver.
    Native,
    /// In the generic path.
    Generic,
    /// No, and why.
    None(&'static str),
}

/// The programs with their place, in the order in which they come into force: first
/// those that translate replies back, then those that translate.
const ORDER: [(DeviceClass, &str, Direction); 6] = {
    use DeviceClass::{BackendRoute, PodFacing, Uplink};
    use Direction::{Egress, Ingress};
    [
        (Uplink, "lb_egress", Egress),
        (BackendRoute, "lb_egress", Egress),
        (PodFacing, "lb_pod_egress", Egress),
        (PodFacing, "lb_pod_ingress", Ingress),
        (BackendRoute, "lb_ingress", Ingress),
        (Uplink, "lb_ingress", Ingress),
    ]
};

const XDP_PROGRAM: &str = "lb_xdp";

/// All packet programs.
pub const PACKET_PROGRAMS: [&str; 5] = [
    "lb_egress",
    "lb_pod_egress",
    "lb_pod_ingress",
    "lb_ingress",
    XDP_PROGRAM,
];

/// The direction of a TC program.
pub(crate) fn direction_of(program: &str) -> Direction {
    if program.ends_with("egress") {
        Direction::Egress
    } else {
        Direction::Ingress
    }
}

/// Everything that should be attached, in order.
pub fn attachments(devices: &[NodeDevice], options: &Options) -> Vec<Attachment> {
    let usable = || devices.iter().filter(|device| device.obstacle.is_none());
    let at = |device: &NodeDevice, program, hook| Attachment {
        program,
        hook,
        index: device.index,
        name: device.name.clone(),
        mtu: device.mtu,
    };
    let tc = ORDER.iter().flat_map(|(class, program, direction)| {
        usable()
            .filter(|device| device.class == *class)
            .map(|device| at(device, *program, Hook::Tc(*direction)))
    });
    let xdp = usable().filter_map(|device| {
        let hook = match xdp_choice(device, options) {
            XdpChoice::Native => Hook::XdpNative,
            XdpChoice::Generic => Hook::XdpGeneric,
            XdpChoice::None(_) => return None,
        };
        Some(at(device, XDP_PROGRAM, hook))
    });
    tc.chain(xdp).collect()
}

/// Whether XDP should run at a device.
pub fn xdp_choice(device: &NodeDevice, options: &Options) -> XdpChoice {
    if device.class != DeviceClass::Uplink {
        return XdpChoice::None("it is no uplink");
    }
    if let Some(obstacle) = device.obstacle {
        return XdpChoice::None(obstacle.as_str());
    }
    let mode = options.xdp_devices.get(&device.name);
    match mode.unwrap_or(&options.xdp) {
        XdpMode::Off => XdpChoice::None("it is switched off"),
        XdpMode::Generic => XdpChoice::Generic,
        // Packets of local senders come without a checksum there, which XDP cannot add.
        XdpMode::Auto if device.kind == LinkKind::Pair => {
            XdpChoice::None("a veth gets native XDP only on request")
        }
        XdpMode::Auto | XdpMode::Native => XdpChoice::Native,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str, class: DeviceClass, kind: LinkKind) -> NodeDevice {
        NodeDevice {
            index,
            name: name.into(),
            class,
            kind,
            mtu: 1500,
            obstacle: None,
            snat_v4: None,
            snat_v6: None,
        }
    }

    #[test]
    fn replies_are_translated_back_before_anything_is_translated() {
        let devices = [
            device(2, "eth0", DeviceClass::Uplink, LinkKind::Nic),
            device(3, "vxlan0", DeviceClass::BackendRoute, LinkKind::Tunnel),
            device(4, "veth1", DeviceClass::PodFacing, LinkKind::Pair),
        ];
        let plan: Vec<_> = attachments(&devices, &Options::default())
            .iter()
            .map(|a| format!("{}@{}", a.program, a.name))
            .collect();
        let wanted = [
            "lb_egress@eth0",
            "lb_egress@vxlan0",
            "lb_pod_egress@veth1",
            "lb_pod_ingress@veth1",
            "lb_ingress@vxlan0",
            "lb_ingress@eth0",
            "lb_xdp@eth0",
        ];
        assert_eq!(plan, wanted);
    }

    #[test]
    fn xdp_is_native_on_cards_and_on_pairs_only_on_request() {
        let card = device(2, "eth0", DeviceClass::Uplink, LinkKind::Nic);
        let pair = device(3, "eth1", DeviceClass::Uplink, LinkKind::Pair);
        let pod = device(4, "veth1", DeviceClass::PodFacing, LinkKind::Pair);
        let mut options = Options::default();
        assert_eq!(xdp_choice(&card, &options), XdpChoice::Native);
        assert!(matches!(xdp_choice(&pair, &options), XdpChoice::None(_)));
        options.xdp_devices.insert("eth1".into(), XdpMode::Native);
        assert_eq!(xdp_choice(&pair, &options), XdpChoice::Native);
        options.xdp = XdpMode::Off;
        assert!(matches!(xdp_choice(&card, &options), XdpChoice::None(_)));
        assert_eq!(xdp_choice(&pair, &options), XdpChoice::Native);
        options.xdp = XdpMode::Generic;
        assert_eq!(xdp_choice(&card, &options), XdpChoice::Generic);
        assert!(matches!(xdp_choice(&pod, &options), XdpChoice::None(_)));
    }

    #[test]
    fn nothing_is_attached_where_packets_cannot_be_parsed() {
        let mut tunnel = device(2, "tun0", DeviceClass::Uplink, LinkKind::Tap);
        tunnel.obstacle = Some(super::super::Obstacle::NoEthernet);
        assert_eq!(attachments(&[tunnel], &Options::default()), []);
    }
}

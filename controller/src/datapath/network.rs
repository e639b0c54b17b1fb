//! What the packet programs are told of this node, and where they are attached.
//!
//! `CONFIG`, `DEVICES` and `NODE_ADDRESSES` are filled before any program is attached, and
//! follow the node afterwards.

pub(crate) mod report;

use std::{
    collections::HashMap,
    net::{IpAddr, UdpSocket},
};

use lb_ebpf::abi::{Addr, Device, DeviceClass, DeviceFlags, map};
use tracing::warn;

use self::report::DeviceReport;
use super::{Datapath, DatapathError, now_monotonic_ns};
use crate::{
    apply::ApplyError,
    devices::{
        Inventory, LinkKind, LocalDetector, NodeDevice, Options, attachments, classify, config,
        health_check_addresses, node_addresses, preflight, release, reserve, snat_ports,
    },
    loader::DeviceLinks,
    maps::{Access, HashTable, Maps},
    model::{Family, NodeInfo},
    pins::{Mechanism, Pins},
    sys,
};

/// This node's part of a datapath.
#[derive(Debug)]
pub struct Network {
    /// With the addresses of the Node object where none are told.
    options: Options,
    /// Addresses of this node that the operator has told.
    told: Vec<IpAddr>,
    /// What was taken in has not been written yet.
    stale: bool,
    inventory: Inventory,
    /// Identity of the host's network namespace, which is ours.
    host_netns: u64,
    /// When take-over began: the monotonic clock in nanoseconds.
    started_ns: u64,
    devices: Vec<NodeDevice>,
    links: DeviceLinks,
    /// What was said of the devices last.
    reports: Vec<DeviceReport>,
}

impl Network {
    /// Of the network namespace of the calling thread.
    pub fn new(options: Options, inventory: Inventory) -> Self {
        let cookie = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).and_then(sys::netns_cookie);
        let host_netns = cookie.unwrap_or_else(|error| {
            warn!(%error, "NodePorts at loopback addresses do not work: this kernel does not \
                tell network namespaces apart (5.14)");
            0
        });
        let devices = classify(&inventory, &options);
        Self {
            told: options.node_ips.clone(),
            stale: false,
            options,
            inventory,
            host_netns,
            started_ns: now_monotonic_ns(),
            devices,
            links: DeviceLinks::default(),
            reports: Vec::new(),
        }
    }

    /// Takes in what the node looks like.
    pub fn observe(&mut self, inventory: Inventory) {
        self.devices = classify(&inventory, &self.options);
        self.inventory = inventory;
    }

    /// Takes in the addresses of the Node object (rule E9); told ones go first.
    pub fn observe_node(&mut self, node: &NodeInfo) {
        if node.pod_cidrs != self.options.pod_cidrs {
            self.options.pod_cidrs.clone_from(&node.pod_cidrs);
            self.stale = true;
        }
        let known = [Family::V4, Family::V6].map(|family| node.primary(family));
        let known = known.into_iter().flatten();
        let ips: Vec<_> = self.told.iter().copied().chain(known).collect();
        if ips != self.options.node_ips {
            self.options.node_ips = ips;
            self.devices = classify(&self.inventory, &self.options);
            self.stale = true;
        }
    }

    /// Where health-check node ports are answered (rule J7).
    pub fn health_check_addresses(&self) -> Vec<IpAddr> {
        health_check_addresses(&self.inventory, &self.options)
    }

    /// Reserves the ports of SNAT, and says what is in the way of packets.
    pub fn preflight(&self) {
        let ports = &self.options.snat_ports;
        match reserve(ports) {
            Ok(()) => {}
            Err(error) => warn!(
                %error,
                "cannot reserve the SNAT ports in net.ipv4.ip_local_reserved_ports: sockets of \
                 this host may get them"
            ),
        }
        let v6 = self.devices.iter().any(|device| device.snat_v6.is_some());
        let uplinks = self
            .devices
            .iter()
            .filter(|device| device.class == DeviceClass::Uplink)
            .map(|device| device.name.as_str());
        if let LocalDetector::Sources(networks) = &self.options.local {
            for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
                if !networks.iter().any(|n| n.addr().is_ipv4() == is_v4) {
                    warn!(
                        family,
                        "no cluster CIDR: under externalTrafficPolicy Local, pods of this node \
                         count as clients outside"
                    );
                }
            }
        }
        for problem in preflight::problems(&uplinks.collect::<Vec<_>>(), v6, Some(ports)) {
            warn!("{problem}");
        }
    }

    /// Writes the maps. Programs that are attached see each entry change by itself.
    fn write(&self, maps: &Maps) -> Result<(), DatapathError> {
        let told = config(&self.options, self.host_netns, self.started_ns);
        maps.config.set(0, told);
        let addresses = node_addresses(&self.inventory, &self.options);
        let addresses = addresses.iter().map(|(ip, bits)| (Addr::from(*ip), *bits));
        let devices = self
            .devices
            .iter()
            .map(|device| (device.index, self.entry(device)));
        replace(
            &maps.node_addresses,
            map::NODE_ADDRESSES,
            &addresses.collect(),
        )?;
        replace(&maps.devices, map::DEVICES, &devices.collect())
    }

    fn entry(&self, device: &NodeDevice) -> Device {
        let mut name = [0; 16];
        let len = device.name.len().min(name.len() - 1);
        name[..len].copy_from_slice(&device.name.as_bytes()[..len]);
        let family = |ip: Option<IpAddr>, none: Addr| ip.map_or(none, Addr::from);
        let flags = [
            (self.takes_redirects(device), DeviceFlags::XDP_REDIRECT),
            (device.kind == LinkKind::Tunnel, DeviceFlags::TUNNEL),
        ];
        let flags = flags.into_iter().filter(|(holds, _)| *holds);
        Device {
            class: device.class as u32,
            flags: flags.fold(0, |all, (_, flag)| all | flag),
            mtu: device.mtu,
            reserved: 0,
            snat_v4: family(device.snat_v4.map(IpAddr::V4), UNSPECIFIED_V4.into()),
            snat_v6: family(device.snat_v6.map(IpAddr::V6), UNSPECIFIED_V6.into()),
            name,
        }
    }

    /// Whether an XDP program may redirect to this device: one in a driver needs a driver
    /// that takes frames from others, which those do that run our program; the generic
    /// path hands packets to any card.
    fn takes_redirects(&self, device: &NodeDevice) -> bool {
        if self.links.any(Mechanism::XdpNative) {
            self.links.mechanism("lb_xdp", device.index) == Some(Mechanism::XdpNative)
        } else {
            let card = device.class == DeviceClass::Uplink && device.obstacle.is_none();
            card && self.links.any(Mechanism::XdpGeneric)
        }
    }
}

const UNSPECIFIED_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const UNSPECIFIED_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

impl Datapath {
    /// Follows the node: maps first, then attachments, then what depends on those.
    pub fn follow(&mut self, inventory: Inventory) -> Result<(), DatapathError> {
        self.place.network.observe(inventory);
        self.write_network()?;
        if self.published {
            let _ = self.attach_to_devices()?;
        }
        Ok(())
    }

    /// Takes in the Node object; written by [`Self::refresh_network`].
    pub fn observe_node(&mut self, node: &NodeInfo) {
        self.place.network.observe_node(node);
    }

    /// Writes what the Node object has changed.
    pub fn refresh_network(&mut self) -> Result<(), DatapathError> {
        if self.place.network.stale {
            self.write_network()?;
            self.place.network.stale = false;
        }
        Ok(())
    }

    pub(super) fn write_network(&self) -> Result<(), DatapathError> {
        self.place.network.write(&self.maps)
    }

    /// Brings attachments at devices in step; the maps have been written. Returns how many
    /// were made again that somebody else had taken away.
    pub(super) fn attach_to_devices(&mut self) -> Result<usize, DatapathError> {
        let network = &mut self.place.network;
        let wanted = attachments(&network.devices, &network.options);
        let pins = &self.place.pins;
        let made_again = self
            .programs
            .attach_to_devices(pins, &wanted, &mut network.links);
        let now = report::reports(&network.devices, &network.options, &network.links);
        report::publish(&network.reports, &now);
        if let Err(error) = pins.write_reasons(&report::reasons(&now)) {
            warn!(%error, "`lbctl status` cannot say why programs are missing at devices");
        }
        network.reports = now;
        // Where XDP may redirect to depends on where it runs.
        self.write_network()?;
        Ok(made_again)
    }
}

/// Makes a table hold exactly `wanted`; what is right already is left alone.
fn replace<K, V>(
    table: &HashTable<K, V>,
    name: &'static str,
    wanted: &HashMap<K, V>,
) -> Result<(), DatapathError>
where
    K: zerocopy::FromBytes
        + zerocopy::IntoBytes
        + zerocopy::Immutable
        + Clone
        + Eq
        + std::hash::Hash,
    V: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Clone + PartialEq,
{
    let actual: HashMap<K, V> = table.dump()?.into_iter().collect();
    let (keys, values): (Vec<_>, Vec<_>) = wanted
        .iter()
        .filter(|(key, value)| actual.get(key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .unzip();
    let stale: Vec<_> = actual
        .into_keys()
        .filter(|key| !wanted.contains_key(key))
        .collect();
    table
        .update(&keys, &values)
        .and_then(|()| table.delete(&stale))
        .map_err(|source| ApplyError { name, source }.into())
}

/// Gives the ports of SNAT back that a controller has reserved.
pub(super) fn release_ports(pins: &Pins) {
    let Ok(Some((_, maps))) = pins.current(Access::Read) else {
        return;
    };
    if let Some(ports) = snat_ports(&maps.config.get(0))
        && let Err(error) = release(&ports)
    {
        warn!(%error, "the SNAT ports stay reserved");
    }
}

//! A client outside the cluster: it reaches the nodes through the fabric, which routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};

use super::{
    Families,
    addresses::{outside_v4, outside_v6},
};
use crate::{
    cgroup,
    control::Control,
    ip::Batch,
    netns::Netns,
    prefix::Prefix,
    process::{Placement, log_directory},
};

/// A namespace beyond the fabric; it stays until the cluster is removed.
#[derive(Debug)]
pub struct Outside {
    placement: Placement,
    families: Families,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    fabric: Netns,
    /// The fabric's end of its wire.
    device: String,
}

// === impl Outside ===

impl Outside {
    pub(super) fn attach(
        prefix: &Prefix,
        fabric: &Netns,
        families: Families,
        network: u8,
        name: &str,
    ) -> Result<Self> {
        ensure!(network < 60, "too many outside clients");
        let netns = Netns::create_all(&[format!("{prefix}-outside-{name}")])?.remove(0);
        let (gate4, gate6) = (outside_v4(network, 1), outside_v6(network, 1));
        let (v4, v6) = (outside_v4(network, 2), outside_v6(network, 2));
        let device = format!("out{network}");

        let mut there = Batch::new();
        there.add(format!(
            "link add {device} type veth peer name eth0 netns {}",
            netns.name()
        ));
        let mut here = Batch::new();
        if families.has_v4() {
            there.add(format!("addr add {gate4}/30 dev {device}"));
            here.add(format!("addr add {v4}/30 dev eth0"));
        }
        if families.has_v6() {
            there.add(format!("addr add {gate6}/64 dev {device} nodad"));
            here.add(format!("addr add {v6}/64 dev eth0 nodad"));
        }
        there.add(format!("link set {device} up"));
        here.add("link set eth0 up");
        if families.has_v4() {
            here.add(format!("route add default via {gate4}"));
        }
        if families.has_v6() {
            here.add(format!("route add default via {gate6}"));
        }
        fabric.ip(&there)?;
        netns.ip(&here)?;

        let cgroup = cgroup::mount_point()?
            .join(prefix.as_str())
            .join("outside")
            .join(name);
        cgroup::create(&cgroup).context("the outside client's cgroup")?;
        let placement = Placement {
            netns,
            cgroup,
            logs: log_directory(prefix),
        };
        Ok(Self {
            placement,
            families,
            v4,
            v6: families.v6(v6),
            fabric: fabric.clone(),
            device,
        })
    }

    /// Where its processes run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.families.has_v4().then_some(IpAddr::V4(self.v4));
        [v4, self.v6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Its IPv4 address, in a cluster that has the family.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Makes the fabric's way to this client one for packets of this size at most: larger ones
    /// are answered with an ICMP error.
    pub fn limit_path_mtu(&self, mtu: u32) -> Result<()> {
        let mut batch = Batch::new();
        for address in self.addresses() {
            batch.add(format!(
                "route replace {address} dev {} mtu {mtu}",
                self.device
            ));
        }
        self.fabric.ip(&batch)
    }

    /// A long-lived client here.
    pub fn control(&self) -> Result<Control> {
        Control::start(&self.placement)
    }
}

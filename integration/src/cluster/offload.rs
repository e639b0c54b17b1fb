//! Virtual devices made to behave as wires do.
//!
//! Between network namespaces a packet usually travels with its checksum left for a network
//! card to fill in, and several segments in one. No wire carries such packets, and XDP programs,
//! which rewrite packets and update their checksums, cannot handle them.

use anyhow::Result;

use crate::netns::Netns;

/// Makes packets that leave `netns` through `device` carry complete checksums, whoever
/// originated them: the kernel fills them in where a device cannot. Turning GRO on lets the
/// device's peer send and redirect from native XDP programs: a veth accepts such packets only
/// if it polls.
pub(super) fn complete_checksums(netns: &Netns, device: &str) -> Result<()> {
    netns.tool("ethtool", &["-K", device, "tx", "off", "gro", "on"])
}

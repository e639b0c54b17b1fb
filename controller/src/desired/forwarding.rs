//! How packets from outside reach backends on other nodes.
#![forbid(unsafe_code)]

use super::frontends::Reach;
use crate::model::{ForwardingMode, Protocol};

/// Table length of services that use DSR, unless an annotation chooses one: flows of
/// which no node has a record are balanced by the table alone, and a change of length
/// would move nearly all of them.
pub const DSR_TABLE_LEN: u32 = 16_381;

/// What becomes of a packet from outside whose backend is on another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarding {
    /// It gets an address of this node as source.
    #[default]
    Snat,
    /// It is encapsulated; the backend's node answers the client directly.
    Dsr,
}

impl Reach<'_> {
    /// The Service's mode, or else the node's. SCTP is always SNATed, and what nobody
    /// outside can reach is not forwarded at all.
    pub(super) fn forwarding(&self) -> Forwarding {
        let mode = self.service.forwarding.unwrap_or(self.settings.forwarding);
        let direct = match (mode, self.port.protocol) {
            (ForwardingMode::Snat, _) | (_, Protocol::Sctp) => false,
            (ForwardingMode::Dsr, Protocol::Tcp | Protocol::Udp) => true,
            (ForwardingMode::Hybrid, protocol) => protocol == Protocol::Tcp,
        };
        if direct && self.is_exposed() {
            Forwarding::Dsr
        } else {
            Forwarding::Snat
        }
    }
}

//! The question to the FIB, and its answers.
#![forbid(unsafe_code)]

use crate::abi::{Addr, NextHop, Port};

/// Where would a packet like this go?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Source address.
    pub src: Addr,
    /// Destination address, of the same family.
    pub dst: Addr,
    /// Source port.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// Transport protocol.
    pub protocol: u8,
}

/// What the FIB says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a neighbour; the MACs are zero if it is not resolved yet. MTU 0 is unknown.
    Hop(NextHop, u32),
    /// To this host itself.
    Local,
    /// Nowhere.
    None,
}

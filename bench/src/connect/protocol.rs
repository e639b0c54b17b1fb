//! What the coordinator asks a client, and what it answers: one line of JSON each.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// TCP: connect(); then a reset, so that no TIME_WAIT is left. Samples: connect().
    Tcp,
    /// UDP: connect() and the first send(). Samples: both together.
    FirstDatagram,
    /// UDP: connect(). Samples: that.
    UdpConnect,
    /// UDP: sendto() and, once the server has answered, recvfrom() on one unconnected
    /// socket. Samples: sendto(), and recvfrom().
    Datagrams,
}

/// A batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What.
    pub work: Work,
    /// How often.
    pub times: usize,
    /// Whom: one of these at random each time; `Datagrams` uses the first only.
    pub to: Vec<IpAddr>,
    /// At this port.
    pub port: u16,
    /// Endpoints that serve UDP.
    pub servers: Vec<IpAddr>,
}

/// What it took, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// One sample each time.
    pub first: Vec<u32>,
    /// The second sample, if there is one.
    pub second: Vec<u32>,
    /// The whole batch: sockets made, connected, accepted and closed.
    pub whole: u64,
}

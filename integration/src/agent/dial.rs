//! One request over a new socket, and many of them in a row.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::socket::{ClientSocket, Failure, Failures, Family, Protocol};

/// A request to make: a new socket, one request, one reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where to.
    pub to: SocketAddr,
    /// Local address, and port unless 0.
    pub bind: Option<SocketAddr>,
    /// Use an IPv6 socket and a v4-mapped address for an IPv4 destination.
    pub v4mapped: bool,
    /// UDP: send without connecting the socket.
    pub unconnected: bool,
    /// TCP: close with a reset, so that no port stays in TIME_WAIT.
    pub abort: bool,
    /// The request line.
    pub request: String,
    /// Limit for connecting and again for the reply, in milliseconds.
    pub timeout_ms: u64,
}

/// What came of a [`Dial`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialed {
    /// Whether a reply came.
    pub ok: bool,
    /// Why not.
    pub error: Option<Failure>,
    /// The reply.
    pub reply: Option<String>,
    /// What `getpeername` reported, or for unconnected UDP the source of the reply.
    pub peer: Option<SocketAddr>,
    /// The socket's own address.
    pub local: Option<SocketAddr>,
    /// Microseconds from before `connect` until the reply or the failure.
    pub micros: u64,
}

/// Many dials, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Dials made.
    pub dials: u64,
    /// Replies, by text.
    pub replies: BTreeMap<String, u64>,
    /// Failures, by kind.
    pub failures: Failures,
    /// The first failures in full, with their number in the row.
    pub examples: Vec<(u64, Failure)>,
    /// Peers as reported to the application.
    pub peers: BTreeMap<SocketAddr, u64>,
    /// Median time of the dials that succeeded, in microseconds.
    pub p50_micros: u64,
    /// 99th percentile of it.
    pub p99_micros: u64,
}

// === impl Dial ===

impl Dial {
    /// A TCP connection that asks for the hostname, with two seconds' patience.
    pub fn tcp(to: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            to,
            bind: None,
            v4mapped: false,
            unconnected: false,
            abort: false,
            request: "hostname".to_owned(),
            timeout_ms: 2_000,
        }
    }

    /// The same over a connected UDP socket.
    pub fn udp(to: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..Self::tcp(to)
        }
    }

    /// The same with `sendto` and `recvfrom` on a UDP socket that is not connected.
    pub fn udp_unconnected(to: SocketAddr) -> Self {
        Self {
            unconnected: true,
            ..Self::udp(to)
        }
    }

    /// Over an IPv6 socket to the v4-mapped address.
    #[must_use]
    pub fn mapped(mut self) -> Self {
        self.v4mapped = true;
        self
    }

    /// With another request.
    #[must_use]
    pub fn request(mut self, request: impl Into<String>) -> Self {
        self.request = request.into();
        self
    }

    /// With another limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ms = limit.as_millis() as u64;
        self
    }

    /// From this local address and port.
    #[must_use]
    pub fn from(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// Closing with a reset.
    #[must_use]
    pub fn abort(mut self) -> Self {
        self.abort = true;
        self
    }

    /// Makes the request.
    pub fn run(&self) -> Dialed {
        let start = Instant::now();
        let mut dialed = Dialed {
            ok: false,
            error: None,
            reply: None,
            peer: None,
            local: None,
            micros: 0,
        };
        match self.attempt(&mut dialed) {
            Ok(reply) => {
                dialed.ok = true;
                dialed.reply = Some(reply);
            }
            Err(failure) => dialed.error = Some(failure),
        }
        dialed.micros = start.elapsed().as_micros() as u64;
        dialed
    }

    fn attempt(&self, dialed: &mut Dialed) -> Result<String, Failure> {
        let limit = Duration::from_millis(self.timeout_ms);
        let family = if self.v4mapped {
            Family::V6
        } else {
            Family::of(self.to.ip())
        };
        let mut socket = ClientSocket::open(self.protocol, family, self.bind)?;
        if self.unconnected && self.protocol == Protocol::Udp {
            socket.send_to(self.to, &self.request)?;
            dialed.local = socket.local().ok();
            let received = socket.receive(limit)?;
            dialed.peer = Some(received.from);
            return Ok(received.data);
        }
        socket.connect(self.to, limit)?;
        dialed.local = socket.local().ok();
        dialed.peer = Some(socket.peer()?);
        if self.abort {
            socket.abort_on_close();
        }
        socket.send(&self.request)?;
        Ok(socket.receive(limit)?.data)
    }

    /// The address a reply should be reported from: `to`, in the form the socket's family gives.
    pub fn expected_peer(&self) -> SocketAddr {
        match self.to.ip() {
            IpAddr::V4(v4) if self.v4mapped => {
                SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), self.to.port())
            }
            _ => self.to,
        }
    }

    /// Makes the request `count` times, `interval` apart, and counts. Stops early at `deadline`.
    pub fn run_many(&self, count: u64, interval: Duration, deadline: Option<Instant>) -> Summary {
        let mut summary = Summary::default();
        let mut times = Vec::new();
        for number in 0..count {
            if deadline.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            if number > 0 && !interval.is_zero() {
                thread::sleep(interval);
            }
            summary.add(self.run(), &mut times);
        }
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
        (summary.p50_micros, summary.p99_micros) = (at(50), at(99));
        summary
    }
}

// === impl Summary ===

impl Summary {
    fn add(&mut self, dialed: Dialed, times: &mut Vec<u64>) {
        if let Some(reply) = dialed.reply {
            *self.replies.entry(reply).or_default() += 1;
            times.push(dialed.micros);
        }
        if let Some(failure) = dialed.error {
            *self.failures.entry(failure.kind).or_default() += 1;
            if self.examples.len() < 5 {
                self.examples.push((self.dials, failure));
            }
        }
        if let Some(peer) = dialed.peer {
            *self.peers.entry(peer).or_default() += 1;
        }
        self.dials += 1;
    }

    /// How many dials failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

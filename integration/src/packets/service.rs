//! Services as rows write them down.

use std::net::SocketAddr;

use lb_ebpf::abi::{FrontendKind, Protocol};

/// A service: frontends and backends.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number.
    pub id: u32,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where clients find it; a NodePort has the unspecified address.
    pub frontends: Vec<(SocketAddr, FrontendKind)>,
    /// Its backends.
    pub backends: Vec<SocketAddr>,
    /// More [`FrontendFlags`] of the internal scope.
    pub flags: u32,
    /// Flags and backends of the external scope, if it differs.
    pub external: Option<(u32, Vec<SocketAddr>)>,
    /// Seconds of session affinity.
    pub affinity: u32,
}

impl Service {
    /// A service without frontends and backends.
    pub fn new(id: u32, protocol: Protocol) -> Self {
        Self {
            id,
            protocol,
            frontends: Vec::new(),
            backends: Vec::new(),
            flags: 0,
            external: None,
            affinity: 0,
        }
    }

    /// With a frontend.
    #[must_use]
    pub fn frontend(mut self, at: SocketAddr, kind: FrontendKind) -> Self {
        self.frontends.push((at, kind));
        self
    }

    /// With a backend.
    #[must_use]
    pub fn backend(mut self, at: SocketAddr) -> Self {
        self.backends.push(at);
        self
    }

    /// With flags.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// With other flags and backends for packets from outside.
    #[must_use]
    pub fn external(mut self, flags: u32, backends: &[SocketAddr]) -> Self {
        self.external = Some((flags, backends.to_vec()));
        self
    }

    /// With session affinity.
    #[must_use]
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity = seconds;
        self
    }
}

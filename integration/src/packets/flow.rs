//! Flows as rows name them: what the client sends, what it becomes, and along which path.

use std::net::SocketAddr;

use lb_ebpf::{
    abi::{Addr, ConntrackFlags, ConntrackKey, ConntrackState, Port, Protocol},
    tables::FlowState,
};

/// The path of a flow: flags of its initiator half and of its responder half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(pub u32, pub Option<u32>);

impl Path {
    /// Through this node's stack: DNAT on the way in, rev-NAT on the way out.
    pub const STACK: Self = Self(
        ConntrackFlags::INITIATOR | ConntrackFlags::MATE_AT_EGRESS,
        Some(ConntrackFlags::AT_EGRESS),
    );
    /// Past the stack both ways, as from this node.
    pub const SNAT: Self = Self(
        ConntrackFlags::INITIATOR
            | ConntrackFlags::REDIRECT
            | ConntrackFlags::MATE_REDIRECT
            | ConntrackFlags::SNAT
            | ConntrackFlags::PORT_CHOSEN,
        Some(
            ConntrackFlags::REDIRECT
                | ConntrackFlags::MATE_REDIRECT
                | ConntrackFlags::SNAT
                | ConntrackFlags::PORT_CHOSEN,
        ),
    );
    /// From a process of this host, translated as it leaves.
    pub const HOST: Self = Self(
        ConntrackFlags::INITIATOR | ConntrackFlags::AT_EGRESS | ConntrackFlags::REDIRECT,
        Some(ConntrackFlags::MATE_AT_EGRESS | ConntrackFlags::MATE_REDIRECT),
    );
    /// Encapsulated to the backend's node.
    pub const ENCAPSULATED: Self = Self(
        ConntrackFlags::INITIATOR | ConntrackFlags::ENCAPSULATE | ConntrackFlags::ONE_WAY,
        None,
    );
    /// Arrived encapsulated.
    pub const DECAPSULATED: Self = Self(
        ConntrackFlags::INITIATOR | ConntrackFlags::MATE_AT_EGRESS | ConntrackFlags::DSR,
        Some(ConntrackFlags::AT_EGRESS | ConntrackFlags::DSR),
    );

    /// The same with a client port that is not the client's own.
    #[must_use]
    pub const fn port_chosen(self) -> Self {
        let Self(initiator, responder) = self;
        let responder = match responder {
            Some(flags) => Some(flags | ConntrackFlags::PORT_CHOSEN),
            None => None,
        };
        Self(initiator | ConntrackFlags::PORT_CHOSEN, responder)
    }
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it is.
    pub table: FlowState,
    /// What the client sends.
    pub initiator: ConntrackKey,
    /// What that becomes.
    pub becomes: ConntrackKey,
    /// Along which path.
    pub path: Path,
    /// [`ConntrackState`] of the initiator half and of the responder half.
    pub state: (u32, u32),
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// Key.
    pub key: ConntrackKey,
    /// What packets become.
    pub becomes: ConntrackKey,
    /// [`ConntrackFlags`].
    pub flags: u32,
    /// [`ConntrackState`].
    pub state: u32,
}

/// A tuple.
pub fn tuple(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> ConntrackKey {
    ConntrackKey {
        src: Addr::from(src.ip()),
        dst: Addr::from(dst.ip()),
        src_port: Port::new(src.port()),
        dst_port: Port::new(dst.port()),
        protocol: protocol as u8,
        reserved: [0; 3],
    }
}

impl Flow {
    /// A flow that has just been opened: `from.0` sends to `from.1`, which becomes `to.0` to
    /// `to.1`.
    pub fn new(
        protocol: Protocol,
        from: (SocketAddr, SocketAddr),
        to: (SocketAddr, SocketAddr),
        path: Path,
    ) -> Self {
        Self {
            table: FlowState::HalfOpen,
            initiator: tuple(protocol, from.0, from.1),
            becomes: tuple(protocol, to.0, to.1),
            path,
            state: (0, 0),
        }
    }

    /// The same once the backend has answered.
    #[must_use]
    pub fn answered(mut self) -> Self {
        self.state = (ConntrackState::REPLIED, ConntrackState::REPLIED);
        self
    }

    /// The same once it is proven.
    #[must_use]
    pub fn proven(mut self) -> Self {
        let state = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;
        self.table = FlowState::Proven;
        self.state = (state, state);
        self
    }

    /// The same with more state in its halves.
    #[must_use]
    pub fn and(mut self, initiator: u32, responder: u32) -> Self {
        self.state = (self.state.0 | initiator, self.state.1 | responder);
        self
    }

    /// Its halves.
    pub fn halves(&self) -> Vec<Half> {
        let mut halves = vec![Half {
            key: self.initiator,
            becomes: self.becomes,
            flags: self.path.0,
            state: self.state.0,
        }];
        halves.extend(self.path.1.map(|flags| Half {
            key: self.becomes.reversed(),
            becomes: self.initiator.reversed(),
            flags,
            state: self.state.1,
        }));
        halves
    }
}

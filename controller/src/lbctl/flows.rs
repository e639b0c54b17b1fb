//! Flows as tools show them: the two halves of each put together.
//!
//! Input: records of `CONNTRACK` and `HALF_OPEN`, in any order. Output: one [`Flow`] for
//! each pair that the filter keeps, sorted. Only what is kept is held in memory.

use std::{collections::HashMap, net::SocketAddr};

use clap::{Args, ValueEnum};
use lb_ebpf::abi::{
    ConntrackEntry, ConntrackFlags, ConntrackKey, ConntrackState, Lifetime, TICK_NS,
};
use serde::Serialize;

use super::{
    peer::{Peer, ServiceName},
    snapshot::Snapshot,
    words,
};
use crate::{
    conntrack::{Clock, initiator_key},
    maps::{Maps, MapsError},
};

/// Which flows to keep. Kinds of filters must all match; values of one kind are
/// alternatives.
#[derive(Clone, Debug, Default, Args)]
pub struct FlowFilter {
    /// Keep flows of this Service.
    #[arg(long = "service", value_name = "NAMESPACE/NAME")]
    pub services: Vec<ServiceName>,
    /// Keep flows of this client.
    #[arg(long = "client", value_name = "IP[:PORT]")]
    pub clients: Vec<Peer>,
    /// Keep flows to this backend.
    #[arg(long = "backend", value_name = "IP[:PORT]")]
    pub backends: Vec<Peer>,
    /// Keep flows of this protocol.
    #[arg(
        long = "protocol",
        value_name = "PROTOCOL",
        value_enum,
        ignore_case = true
    )]
    pub protocols: Vec<FlowProtocol>,
    /// Keep flows in this state.
    #[arg(long = "state", value_name = "STATE", value_enum)]
    pub states: Vec<FlowState>,
    /// Keep flows that are not proven, and one-way ones (DSR).
    #[arg(long)]
    pub half_open: bool,
}

impl FlowFilter {
    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.clients.is_empty()
            && self.backends.is_empty()
            && self.protocols.is_empty()
            && self.states.is_empty()
            && !self.half_open
    }
}

/// Protocols of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowProtocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// States of flows: each has its own lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// TCP or SCTP that is not proven.
    HalfOpen,
    /// TCP or SCTP that is proven.
    Established,
    /// TCP of which one end has closed.
    CloseWait,
    /// TCP that both ends have closed, or that was reset.
    Closed,
    /// UDP without an answer.
    Unreplied,
    /// UDP with answers.
    Replied,
}

impl FlowState {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::CloseWait => "close-wait",
            Self::Closed => "closed",
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
        }
    }
}

impl From<Lifetime> for FlowState {
    fn from(class: Lifetime) -> Self {
        match class {
            Lifetime::HalfOpen => Self::HalfOpen,
            Lifetime::Established => Self::Established,
            Lifetime::CloseWait => Self::CloseWait,
            Lifetime::Closed => Self::Closed,
            Lifetime::UdpNew => Self::Unreplied,
            Lifetime::UdpStream => Self::Replied,
        }
    }
}

/// A flow; field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// Where it comes from.
    pub client: SocketAddr,
    /// What the client dialled.
    pub frontend: SocketAddr,
    /// Where it goes.
    pub backend: SocketAddr,
    /// Address and port that the backend sees, if they are not the client's.
    pub seen_as: Option<SocketAddr>,
    /// `NAMESPACE/NAME`; null if the service is gone.
    pub service: Option<String>,
    /// Its state.
    pub state: FlowState,
    /// Whether it is proven and cannot be evicted.
    pub proven: bool,
    /// How its packets go on: `stack` (through this node's network stack), `redirect`
    /// (past it), `dsr` (encapsulated), `dsr-end` (arrived encapsulated).
    pub path: &'static str,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
    /// Seconds until it ends if no packet comes.
    pub expires_in_seconds: u64,
    /// Seconds since it was made.
    pub age_seconds: u64,
    /// Records of it that were found: 2, or 1 of a one-way flow and of one that has lost a
    /// half.
    pub halves: usize,
    /// Backend slot; only meaningful on this node.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
    /// Index of the service in the maps; only meaningful on this node.
    pub service_id: u32,
    /// For deleting it.
    #[serde(skip)]
    pub(super) record: (ConntrackKey, ConntrackEntry),
}

/// What is known of a flow while records are read.
struct Parts {
    /// The initiator half, or what it must look like.
    initiator: ConntrackEntry,
    state: u32,
    fins: u32,
    last_seen: u32,
    halves: usize,
    proven: bool,
}

/// Puts flows together.
pub struct Gatherer<'a> {
    snapshot: &'a Snapshot,
    filter: &'a FlowFilter,
    flows: HashMap<ConntrackKey, Parts>,
}

impl<'a> Gatherer<'a> {
    /// Knows no flow yet.
    pub fn new(snapshot: &'a Snapshot, filter: &'a FlowFilter) -> Self {
        Self {
            snapshot,
            filter,
            flows: HashMap::new(),
        }
    }

    /// Takes in a record of `CONNTRACK` (`proven`) or `HALF_OPEN`.
    pub fn add(&mut self, proven: bool, key: &ConntrackKey, half: &ConntrackEntry) {
        let initiator_key = initiator_key(key, half);
        let initiator = if initiator_key == *key {
            *half
        } else {
            half.mirror(key).1
        };
        if !self.admits(&initiator_key, &initiator) {
            return;
        }
        let parts = self.flows.entry(initiator_key).or_insert(Parts {
            initiator,
            state: 0,
            fins: 0,
            last_seen: 0,
            halves: 0,
            proven: false,
        });
        if initiator_key == *key {
            parts.initiator = *half;
        }
        parts.state |= half.state;
        parts.fins += u32::from(half.is(ConntrackState::FIN));
        parts.last_seen = parts.last_seen.max(half.last_seen);
        parts.halves += 1;
        parts.proven |= proven;
    }

    fn admits(&self, key: &ConntrackKey, initiator: &ConntrackEntry) -> bool {
        let filter = self.filter;
        let (client, backend) = (
            SocketAddr::new(key.src.to_ip(), key.src_port.get()),
            backend_of(key, initiator, self.snapshot),
        );
        let protocol = |p: &FlowProtocol| *p as u8 == key.protocol;
        let service = |name: &ServiceName| {
            let info = self.snapshot.info(initiator.service_id);
            info.is_some_and(|info| name.is_of(info))
        };
        (filter.services.is_empty() || filter.services.iter().any(service))
            && (filter.clients.is_empty() || filter.clients.iter().any(|p| p.is(client)))
            && (filter.backends.is_empty() || filter.backends.iter().any(|p| p.is(backend)))
            && (filter.protocols.is_empty() || filter.protocols.iter().any(protocol))
    }

    /// The flows, sorted by protocol, client and frontend.
    pub fn finish(self, clock: Clock) -> Vec<Flow> {
        let Self {
            snapshot,
            filter,
            flows,
        } = self;
        let flows = flows.into_iter();
        let flows = flows.map(|(key, parts)| parts.flow(key, snapshot, clock));
        let mut out: Vec<_> = flows
            .filter(|flow| filter.states.is_empty() || filter.states.contains(&flow.state))
            .filter(|flow| !filter.half_open || !flow.proven)
            .collect();
        out.sort_by_key(|flow| (flow.protocol, flow.client, flow.frontend));
        out
    }
}

impl Parts {
    fn flow(self, key: ConntrackKey, snapshot: &Snapshot, clock: Clock) -> Flow {
        let entry = self.initiator;
        let class = Lifetime::of(key.protocol, self.state, self.fins);
        let idle = clock.age(self.last_seen);
        let lifetime = clock.lifetimes[class as usize];
        let source = SocketAddr::new(entry.src.to_ip(), entry.src_port.get());
        let client = SocketAddr::new(key.src.to_ip(), key.src_port.get());
        Flow {
            protocol: words::protocol(key.protocol),
            client,
            frontend: SocketAddr::new(key.dst.to_ip(), key.dst_port.get()),
            backend: backend_of(&key, &entry, snapshot),
            seen_as: (source != client && !entry.has(ConntrackFlags::ENCAPSULATE))
                .then_some(source),
            service: snapshot.service_name(entry.service_id),
            state: class.into(),
            proven: self.proven,
            path: path(entry.flags),
            idle_seconds: seconds(idle),
            expires_in_seconds: seconds(lifetime.saturating_sub(idle)),
            age_seconds: seconds(clock.age(entry.created)),
            halves: self.halves,
            slot: entry.slot,
            generation: entry.generation,
            service_id: entry.service_id,
            record: (key, entry),
        }
    }
}

/// The flows of the maps that are in force, which `filter` keeps.
pub(super) fn gather(
    snapshot: &Snapshot,
    maps: &Maps,
    filter: &FlowFilter,
) -> Result<Vec<Flow>, MapsError> {
    let mut gatherer = Gatherer::new(snapshot, filter);
    for (proven, table) in [(true, &maps.conntrack), (false, &maps.half_open)] {
        table.for_each(|key, half| gatherer.add(proven, &key, &half))?;
    }
    Ok(gatherer.finish(Clock::new(maps.config.get(0).lifetimes)))
}

/// Where the initiator's packets go. What is encapsulated keeps its destination: there
/// the slot tells the backend, if it was not given to another one.
fn backend_of(key: &ConntrackKey, initiator: &ConntrackEntry, snapshot: &Snapshot) -> SocketAddr {
    let rewritten = initiator.rewritten(key.protocol);
    if initiator.has(ConntrackFlags::ENCAPSULATE)
        && let Some(backend) = snapshot.backend(initiator.slot)
        && backend.generation == initiator.generation
    {
        return SocketAddr::new(backend.addr.to_ip(), backend.port.get());
    }
    SocketAddr::new(rewritten.dst.to_ip(), rewritten.dst_port.get())
}

const fn path(flags: u32) -> &'static str {
    if flags & ConntrackFlags::ENCAPSULATE != 0 {
        "dsr"
    } else if flags & ConntrackFlags::DSR != 0 {
        "dsr-end"
    } else if flags & ConntrackFlags::REDIRECT != 0 {
        "redirect"
    } else {
        "stack"
    }
}

fn seconds(ticks: u32) -> u64 {
    u64::from(ticks) * TICK_NS / 1_000_000_000
}

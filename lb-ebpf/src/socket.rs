//! The path of the socket hooks, top to bottom.
//!
//! `connect` translates once per TCP connection or connected UDP socket, `sendmsg`
//! once per flow of an unconnected UDP socket (each later datagram costs one look at
//! the socket's own state); `recvmsg` and `getpeername` show the application the
//! address that it dialled (rule G6); `release` counts the end.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        Addr, AffinityKey, ConnectedFlow, DATAGRAM_FLOWS, DatagramFlow, FrontendFlags, FrontendKey,
        Port, ServiceEntry,
    },
    fault::{Fault, on},
    select::{self, Choice, Undefined},
    tables::{BackendCounter, Environment, FlowTable, ServiceCounter, Socket, Tables},
};

/// How often another backend is tried when two VIPs of one socket meet in one; of two
/// equal backends, one in 65,536 sockets misses the other.
const OTHER_BACKEND_TRIES: usize = 16;

/// What becomes of a connect() or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None of our business: leave the address as it is.
    Pass,
    /// Go there instead.
    Translate(Addr, Port),
    /// No endpoint anywhere, or no such port: ECONNREFUSED (rules C11, C13, E3).
    Refuse,
    /// Endpoints, but none that the policy allows, or no such Service: EHOSTUNREACH (rules
    /// C12, C13, E3).
    Drop,
}

/// A socket connects to `key`.
#[inline(always)]
pub fn connect<T, C>(tables: &T, ctx: &C, key: &FrontendKey) -> Verdict
where
    T: Tables,
    C: Environment + Socket,
{
    if let Some(old) = ctx.connected() {
        // The socket was connected before: whatever comes next, that flow is over.
        count_closed(tables, &old);
        ctx.forget_connected();
    }
    let service = match service_of(tables, ctx, key) {
        Ok(service) => service,
        Err(verdict) => return verdict,
    };
    let Some(choice) = backend_for(tables, ctx, &service) else {
        return no_backend(tables, &service);
    };
    count_opened(tables, &service, choice);
    let flow = ConnectedFlow {
        vip: key.addr,
        backend: choice.backend.addr,
        vip_port: key.port,
        backend_port: choice.backend.port,
        slot: choice.slot,
        generation: choice.backend.generation,
        service_id: service.service_id,
        protocol: u32::from(key.protocol),
        reserved: 0,
        netns: ctx.netns_cookie(),
    };
    if !ctx.set_connected(&flow) {
        tables.count_service(service.service_id, ServiceCounter::Untracked);
    }
    Verdict::Translate(choice.backend.addr, choice.backend.port)
}

/// An unconnected UDP socket sends a datagram to `key`.
#[inline(always)]
pub fn sendmsg<T, C>(tables: &T, ctx: &C, key: &FrontendKey) -> Verdict
where
    T: Tables,
    C: Environment + Socket,
{
    if !select::may_be_dialled(tables, key) {
        return undefined(tables, key);
    }
    if let Some(flows) = ctx.datagram()
        && let Some((addr, port)) = known_flow(tables, &flows, key)
    {
        return Verdict::Translate(addr, port);
    }
    let service = match service_of(tables, ctx, key) {
        Ok(service) => service,
        Err(verdict) => return verdict,
    };
    let Some(mut choice) = backend_for(tables, ctx, &service) else {
        return no_backend(tables, &service);
    };
    let Some(flows) = ctx.datagram_or_create() else {
        count_opened(tables, &service, choice);
        tables.count_service(service.service_id, ServiceCounter::Untracked);
        return Verdict::Translate(choice.backend.addr, choice.backend.port);
    };
    let mut state = DatagramFlow::VALID;
    if let Some(other) = with_same_backend(&flows, choice) {
        if let Some(another) = another_backend(tables, ctx, &service, &flows) {
            choice = another;
        } else {
            state |= DatagramFlow::SHARED;
            flows.set_state(other, state);
            tables.count_service(service.service_id, ServiceCounter::SharedBackend);
        }
    }
    count_opened(tables, &service, choice);
    let index = place_for_new(&flows);
    if flows.state(index) != 0 {
        let (slot, generation) = flows.slot(index);
        count_closed_slot(tables, slot, generation);
    }
    let flow = DatagramFlow {
        vip: key.addr,
        backend: choice.backend.addr,
        vip_port: key.port,
        backend_port: choice.backend.port,
        slot: choice.slot,
        generation: choice.backend.generation,
        state,
    };
    flows.put(index, &flow);
    flows.set_recent(index);
    Verdict::Translate(choice.backend.addr, choice.backend.port)
}

/// A UDP socket receives a datagram from `addr`:`port`; what to show instead.
#[inline(always)]
pub fn recvmsg<C: Socket>(ctx: &C, addr: Addr, port: Port) -> Option<(Addr, Port)> {
    if let Some(flows) = ctx.datagram().filter(|_| !on(Fault::SenderShowsBackend)) {
        let recent = flows.recent();
        if flows.state(recent) & DatagramFlow::SHARED != 0 && flows.backend(recent) == (addr, port)
        {
            return Some(flows.vip(recent));
        }
        for index in 0..DATAGRAM_FLOWS {
            if flows.state(index) != 0 && flows.backend(index) == (addr, port) {
                return Some(flows.vip(index));
            }
        }
    }
    peer(ctx, addr, port)
}

/// The peer address of a connected socket; what to show instead of `addr`:`port`.
#[inline(always)]
pub fn peer<C: Socket>(ctx: &C, addr: Addr, port: Port) -> Option<(Addr, Port)> {
    let flow = ctx.connected().filter(|_| !on(Fault::PeerShowsBackend))?;
    (flow.backend == addr && flow.backend_port == port).then_some((flow.vip, flow.vip_port))
}

/// A socket is closed.
#[inline(always)]
pub fn release<T: Tables, C: Socket>(tables: &T, ctx: &C) {
    if let Some(flow) = ctx.connected() {
        count_closed(tables, &flow);
    }
    if let Some(flows) = ctx.datagram() {
        for index in 0..DATAGRAM_FLOWS {
            if flows.state(index) != 0 {
                let (slot, generation) = flows.slot(index);
                count_closed_slot(tables, slot, generation);
            }
        }
    }
}

/// The service that a socket dials. Where the source decides, the packet path does: no source
/// address exists yet. So with source ranges (rule E30), and with two scopes if it is not the
/// device that tells pods from others (rule F9); the host's own are always internal (rule F2).
/// Where the source is to be replaced (rule G4) the packet path does, too; the host's own are what
/// it would be replaced with.
#[inline(always)]
fn service_of<T: Tables, C: Environment>(
    tables: &T,
    ctx: &C,
    key: &FrontendKey,
) -> Result<ServiceEntry, Verdict> {
    let Some(service) = select::lookup(tables, key, || Some(ctx.netns_cookie())) else {
        return Err(undefined(tables, key));
    };
    let has = |flag: u32| service.flags & flag != 0;
    let of_packets = has(FrontendFlags::SOURCE_RANGES) && !on(Fault::SocketsSkipRanges)
        || (has(FrontendFlags::MASQUERADE)
            || has(FrontendFlags::EXTERNAL_DIFFERS) && tables.local_by_source())
            && ctx.netns_cookie() != tables.host_netns();
    if of_packets {
        Err(Verdict::Pass)
    } else {
        Ok(service)
    }
}

/// No frontend: nobody's business, unless the address can only be a Service's (rule E3).
#[inline(always)]
fn undefined<T: Tables>(tables: &T, key: &FrontendKey) -> Verdict {
    match select::undefined(tables, &key.addr) {
        None => Verdict::Pass,
        Some(Undefined::Port) => Verdict::Refuse,
        Some(Undefined::Address) => Verdict::Drop,
    }
}

#[inline(always)]
fn backend_for<T: Tables, C: Environment>(
    tables: &T,
    ctx: &C,
    service: &ServiceEntry,
) -> Option<Choice> {
    let client = || AffinityKey::netns(ctx.netns_cookie(), service.service_id);
    select::backend(tables, service, client, || ctx.random(), || ctx.now_ns())
}

/// The backend of a flow that the socket already has, as long as that backend serves,
/// whatever else has changed (design of rule C16 for datagrams).
#[inline(always)]
fn known_flow<T: Tables, F: FlowTable>(
    tables: &T,
    flows: &F,
    key: &FrontendKey,
) -> Option<(Addr, Port)> {
    for index in 0..DATAGRAM_FLOWS {
        let state = flows.state(index);
        if state == 0 || flows.vip(index) != (key.addr, key.port) {
            continue;
        }
        let (slot, generation) = flows.slot(index);
        let backend = tables.backend(slot)?;
        let serves = backend.keeps_flows() || on(Fault::SocketFlowsStay);
        if backend.generation != generation || !serves {
            flows.set_state(index, 0);
            count_closed_slot(tables, slot, generation);
            return None;
        }
        if state & DatagramFlow::SHARED != 0 {
            flows.set_recent(index);
        }
        return Some((backend.addr, backend.port));
    }
    None
}

/// A free place, so that no flow is forgotten without need; else the oldest.
#[inline(always)]
fn place_for_new<F: FlowTable>(flows: &F) -> usize {
    (0..DATAGRAM_FLOWS)
        .find(|index| flows.state(*index) == 0)
        .unwrap_or_else(|| flows.oldest())
}

/// A flow of the socket whose backend has the address of `choice`.
#[inline(always)]
fn with_same_backend<F: FlowTable>(flows: &F, choice: Choice) -> Option<usize> {
    (0..DATAGRAM_FLOWS).find(|index| {
        flows.state(*index) != 0
            && flows.backend(*index) == (choice.backend.addr, choice.backend.port)
    })
}

/// A backend that no other flow of the socket uses. Affinity outranks this: its
/// backend is kept even if shared.
#[inline(always)]
fn another_backend<T: Tables, E: Environment, F: FlowTable>(
    tables: &T,
    env: &E,
    service: &ServiceEntry,
    flows: &F,
) -> Option<Choice> {
    if service.affinity_secs != 0 {
        return None;
    }
    for _ in 0..OTHER_BACKEND_TRIES {
        let choice = select::any_backend(tables, env, service)?;
        if with_same_backend(flows, choice).is_none() {
            return Some(choice);
        }
    }
    None
}

#[inline(always)]
fn no_backend<T: Tables>(tables: &T, service: &ServiceEntry) -> Verdict {
    let drops = service.flags & FrontendFlags::DROP != 0;
    if !drops && !on(Fault::SilentRefusal) || on(Fault::LoudDrop) {
        tables.count_service(service.service_id, ServiceCounter::Refused);
        Verdict::Refuse
    } else {
        tables.count_service(service.service_id, ServiceCounter::Dropped);
        Verdict::Drop
    }
}

#[inline(always)]
fn count_opened<T: Tables>(tables: &T, service: &ServiceEntry, choice: Choice) {
    tables.count_service(service.service_id, ServiceCounter::Opened);
    tables.count_backend(choice.slot, BackendCounter::Opened);
}

#[inline(always)]
fn count_closed<T: Tables>(tables: &T, flow: &ConnectedFlow) {
    count_closed_slot(tables, flow.slot, flow.generation);
}

/// Counts only if the slot still is the one that was opened.
#[inline(always)]
fn count_closed_slot<T: Tables>(tables: &T, slot: u32, generation: u32) {
    if tables
        .backend(slot)
        .is_some_and(|backend| backend.generation == generation)
    {
        tables.count_backend(slot, BackendCounter::Closed);
    }
}

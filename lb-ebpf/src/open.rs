//! Flows that are made: service, backend, path, port, records.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        Addr, AffinityKey, BackendEntry, BackendFlags, ClientKind, ConfigFlags, ConntrackEntry,
        ConntrackFlags, ConntrackKey, DeviceClass, DeviceFlags, FrontendFlags, FrontendKey,
        FrontendKind, NextHop, PacketEvent, Scope, ServiceEntry,
    },
    conntrack::{self, Scratch},
    fault::{Fault, on},
    hash::{Mixer, tuple_hash},
    packet::{Packet, Place},
    parse::Upper,
    ports::Ports,
    route::{Query, Route},
    select::{self, Choice},
    tables::{BackendCounter, Conntrack, FlowState, PacketTables, ServiceCounter},
};

/// What becomes of a packet that belongs to no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A flow was made; the packet's half is in the scratch.
    Flow,
    /// Not ours: leave it as it is.
    Pass,
    /// There is no such frontend.
    Absent,
    /// Ours, but not here: a later hook finishes it.
    Later,
    /// Drop it, and count why.
    Drop(PacketEvent, u32),
    /// No endpoint anywhere: refuse it (rule C11).
    Refuse,
}

/// The frontend that a packet is for.
#[inline(always)]
pub const fn frontend_key(key: &ConntrackKey) -> FrontendKey {
    FrontendKey {
        addr: key.dst,
        port: key.dst_port,
        protocol: key.protocol,
        scope: Scope::Internal as u8,
    }
}

/// Where a packet comes from, written as a frontend: what `FLOW_SOURCES` is asked for.
#[inline(always)]
pub const fn source_key(key: &ConntrackKey) -> FrontendKey {
    FrontendKey {
        addr: key.src,
        port: key.src_port,
        protocol: key.protocol,
        scope: Scope::Internal as u8,
    }
}

/// A packet to a frontend that belongs to no flow.
#[inline(always)]
pub fn open<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
) -> Opened {
    let key = &scratch.parsed.key;
    let frontend = frontend_key(key);
    let scope = scope_of::<P, T>(tables, &key.src);
    let Some(entry) = select::lookup(tables, &frontend, || None) else {
        return Opened::Absent;
    };
    let Some(service) = select::in_scope(tables, &frontend, scope, entry) else {
        return Opened::Pass;
    };
    if scope == Scope::External
        && service.flags & FrontendFlags::KIND_MASK == FrontendKind::ClusterIp as u32
        && !serves_outside::<P, T>(tables)
    {
        return Opened::Pass;
    }
    let restricted = service.flags & FrontendFlags::SOURCE_RANGES != 0;
    let lax = on(Fault::RangesIgnored) || scope == Scope::Internal && on(Fault::RangesForOthers);
    if (restricted && !lax || on(Fault::RangesEverywhere))
        && !tables.admits(service.service_id, &key.src)
    {
        return Opened::Drop(PacketEvent::SourceRange, 0);
    }
    let opens = conntrack::opens(&scratch.parsed.upper);
    let dsr =
        service.flags & FrontendFlags::DSR != 0 && scope == Scope::External && !P::PLACE.pod_facing;
    let continues = dsr && takes_over(packet, tables, &scratch.parsed.upper);
    if !opens && !continues {
        packet.count(PacketEvent::MidStream, 0);
        return Opened::Pass;
    }
    let Some(choice) = choose(packet, tables, key, &service) else {
        return no_backend::<P, T>(tables, &service);
    };
    let masquerade = service.flags & FrontendFlags::MASQUERADE != 0;
    let rewrites = Rewrites { dsr, masquerade };
    let ports = match path(packet, tables, scratch, &choice.backend, rewrites) {
        Ok(ports) => ports,
        Err(refusal) => return refusal,
    };
    if !opens && !scratch.entry.has(ConntrackFlags::ENCAPSULATE) {
        packet.count(PacketEvent::MidStream, 0);
        return Opened::Pass;
    }
    make(packet, tables, scratch, &service, choice, ports)
}

/// Whose traffic policy packets from `src` obey (rules F1–F4). By default the device tells;
/// else the source does (rule F9): without a range for pods, all but this host are outside.
#[inline(always)]
fn scope_of<P: Packet, T: PacketTables>(tables: &T, src: &Addr) -> Scope {
    let local = if P::PLACE.egress {
        !on(Fault::HostIsOutside)
    } else if tables.local_by_source() {
        let config = tables.config();
        if src.is_v4() {
            config.local_v4.contains(src)
        } else {
            config.local_v6.contains(src)
        }
    } else {
        P::PLACE.pod_facing && !on(Fault::PodsAreOutside)
    };
    if local {
        Scope::Internal
    } else {
        Scope::External
    }
}

/// Whether ClusterIPs are served here at all (rule E2).
#[inline(always)]
pub(crate) fn serves_outside<P: Packet, T: PacketTables>(tables: &T) -> bool {
    P::PLACE.pod_facing
        || P::PLACE.egress
        || tables.config().flags & ConfigFlags::EXTERNAL_CLUSTER_IP != 0
}

/// Whether an unknown TCP flow of a DSR service may be some other node's, which Maglev
/// sends to the same backend: not while netfilter may own it (take-over).
#[inline(always)]
fn takes_over<P: Packet, T: PacketTables>(packet: &P, tables: &T, upper: &Upper) -> bool {
    matches!(upper, Upper::Tcp(_))
        && (packet.tick().wrapping_sub(tables.config().takeover_until) as i32) >= 0
}

#[inline(always)]
fn choose<P: Packet, T: PacketTables>(
    packet: &P,
    tables: &T,
    key: &ConntrackKey,
    service: &ServiceEntry,
) -> Option<Choice> {
    let client = || AffinityKey {
        client: key.src,
        service_id: service.service_id,
        kind: ClientKind::Address as u32
            + u32::from(key.src_port.get()) * u32::from(on(Fault::AffinityByPort)),
    };
    let point = || Mixer::new(tuple_hash(key)).finish();
    if on(Fault::AffinityWithoutUdp) && key.protocol == crate::abi::Protocol::Udp as u8 {
        return select::at_point(tables, service, point());
    }
    select::backend(tables, service, client, point, || packet.now_ns())
}

#[inline(always)]
fn no_backend<P: Packet, T: PacketTables>(tables: &T, service: &ServiceEntry) -> Opened {
    let drops = service.flags & FrontendFlags::DROP != 0;
    if !drops && !on(Fault::SilentRefusal) || on(Fault::LoudDrop) {
        if P::PLACE.early {
            // Who answers also counts.
            return Opened::Later;
        }
        tables.count_service(service.service_id, ServiceCounter::Refused);
        Opened::Refuse
    } else {
        tables.count_service(service.service_id, ServiceCounter::Dropped);
        Opened::Drop(PacketEvent::NoLocalEndpoint, 0)
    }
}

/// What the service asks of its flows.
#[derive(Clone, Copy)]
struct Rewrites {
    /// Its remote backends answer directly.
    dsr: bool,
    /// All of them get an address of this node as source.
    masquerade: bool,
}

/// Through the stack, past it, or encapsulated (see [`ConntrackFlags`]): fills flags, source
/// and next hop of the record in the scratch.
#[inline(always)]
fn path<P: Packet, T: PacketTables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    backend: &BackendEntry,
    rewrites: Rewrites,
) -> Result<Ports, Opened> {
    let (key, entry) = (&scratch.parsed.key, &mut scratch.entry);
    entry.through_stack(key);
    // Rules G2, G4.
    let masquerade = backend.addr == key.src && !on(Fault::NoHairpin)
        || rewrites.masquerade && !on(Fault::MasqueradeAllIgnored);
    let local = backend.has(BackendFlags::LOCAL);
    // The stack takes packets of pods to any backend, and those from outside to backends
    // of this node; it keeps their source.
    let pod = P::PLACE.pod_facing && !on(Fault::PodsMasqueraded);
    if !masquerade && !P::PLACE.egress && (local || pod) {
        return Ok(Ports::OWN);
    }
    let query = Query {
        src: key.src,
        dst: backend.addr,
        src_port: key.src_port,
        dst_port: backend.port,
        protocol: key.protocol,
    };
    match packet.route(&query) {
        Route::Hop(hop, mtu) => (entry.hop, entry.mtu) = (hop, mtu),
        Route::Local if !P::PLACE.egress => return Ok(Ports::OWN),
        Route::Local | Route::None => return Err(Opened::Drop(PacketEvent::NoRoute, 0)),
    }
    if P::PLACE.egress {
        // A process of this host: the kernel has chosen its address already.
        entry.flags =
            ConntrackFlags::INITIATOR | ConntrackFlags::AT_EGRESS | ConntrackFlags::REDIRECT;
        return Ok(Ports::OWN);
    }
    let Some(device) = tables.device(entry.hop.ifindex) else {
        return Err(Opened::Drop(PacketEvent::NoRoute, 0));
    };
    if !masquerade && device.class == DeviceClass::PodFacing as u32 {
        entry.through_stack(key);
        return Ok(Ports::OWN);
    }
    if P::PLACE.early && !finishes(packet, &entry.hop, device.flags) {
        return Err(Opened::Later);
    }
    entry.src = if key.src.is_v4() {
        device.snat_v4
    } else {
        device.snat_v6
    };
    if on(Fault::NoMasquerade) {
        entry.src = key.src;
    }
    let config = tables.config();
    if entry.src.is_unspecified() || config.snat_count == 0 {
        return Err(Opened::Drop(PacketEvent::NoRoute, 0));
    }
    if rewrites.dsr && !masquerade && device.flags & DeviceFlags::TUNNEL == 0 {
        entry.flags =
            ConntrackFlags::INITIATOR | ConntrackFlags::ENCAPSULATE | ConntrackFlags::ONE_WAY;
        return Ok(Ports::OWN);
    }
    entry.flags = ConntrackFlags::INITIATOR
        | ConntrackFlags::REDIRECT
        | ConntrackFlags::MATE_REDIRECT
        | ConntrackFlags::SNAT
        | ConntrackFlags::PORT_CHOSEN;
    Ok(Ports {
        own_first: on(Fault::OwnPortKept),
        first: config.snat_first,
        count: config.snat_count,
    })
}

/// Whether XDP can send to `hop` itself.
#[inline(always)]
pub(crate) fn finishes<P: Packet>(packet: &P, hop: &NextHop, device_flags: u32) -> bool {
    hop.dst_mac != [0; 6]
        && (hop.ifindex == packet.ifindex() || device_flags & DeviceFlags::XDP_REDIRECT != 0)
}

/// Stores both halves of a flow. Flags, source and next hop are in the scratch's record
/// already; the rest of it is filled here.
#[inline(always)]
pub(crate) fn make<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    service: &ServiceEntry,
    choice: Choice,
    ports: Ports,
) -> Opened {
    let now = packet.tick();
    let (key, entry) = (&scratch.parsed.key, &mut scratch.entry);
    entry.dst = choice.backend.addr;
    entry.src_port = key.src_port;
    entry.dst_port = choice.backend.port;
    entry.state = 0;
    entry.last_seen = now;
    entry.created = now;
    entry.service_id = service.service_id;
    entry.slot = choice.slot;
    entry.generation = choice.backend.generation;
    entry.proof = 0;
    entry.proof_end = 0;
    entry.seal = ConntrackEntry::seal_of(key);
    let one_way = entry.has(ConntrackFlags::ONE_WAY);
    if !one_way && let Err((event, detail)) = ports.claim(packet, tables, scratch, now) {
        return Opened::Drop(event, detail);
    }
    if !tables.insert(
        FlowState::HalfOpen,
        &scratch.parsed.key,
        &scratch.entry,
        true,
    ) {
        tables.remove(FlowState::HalfOpen, &scratch.mirror_key);
        return Opened::Drop(PacketEvent::NoRecord, 0);
    }
    if !one_way {
        tables.mark_flow_source(&source_key(&scratch.mirror_key));
    }
    tables.count_service(service.service_id, ServiceCounter::Opened);
    tables.count_backend(choice.slot, BackendCounter::Opened);
    packet.count(PacketEvent::Opened, 0);
    Opened::Flow
}

/// The egress hook of a device judges what processes of this host send (rule F2), and
/// nothing that is only passing through.
#[inline(always)]
pub fn may_open<P: Packet, T: PacketTables>(tables: &T, key: &ConntrackKey) -> bool {
    let Place {
        egress, pod_facing, ..
    } = P::PLACE;
    if pod_facing && on(Fault::PodsNotServed) {
        return false;
    }
    let is_local = || tables.node_address(&key.src) & crate::abi::NodeAddress::LOCAL != 0;
    !egress || !pod_facing && (on(Fault::TransitTranslated) || is_local())
}

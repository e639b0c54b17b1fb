//! The packet path, top to bottom: parse → flow or frontend → select → conntrack and NAT →
//! verdict.
//!
//! One pipeline serves XDP and TC, ingress and egress, IPv4 and IPv6. XDP finishes a packet
//! or leaves it byte for byte as it came; what it leaves, TC sees again.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        BackendFlags, ConntrackEntry, ConntrackFlags, DeviceFlags, NextHop, NodeAddress,
        PacketEvent, Protocol,
    },
    answer::{self, Answer},
    conntrack::{self, Found, Outcome, Scratch},
    dsr,
    fault::{Fault, on},
    nat,
    open::{self, Opened},
    packet::{Packet, Verdict},
    parse::{Fragment, NotOurs, Parsed, Upper},
    route::{Query, Route},
    select::{self, Undefined},
    tables::{Conntrack, PacketTables},
};

/// What to do next with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more.
    Done(Verdict),
    /// Rewrite it as the record in the scratch says, and send it on.
    Forward,
    /// Tell its sender, and count why.
    Answer(PacketEvent, Answer),
}

/// Judges a packet that [`parse`](crate::parse::parse) has taken apart into
/// [`Scratch::parsed`], with result `parsed`, and finishes it.
///
/// Programs run the three parts (parse, [`judge`], [`finish`]) as subprograms: the verifier
/// then walks each once, instead of the later ones once per way through the earlier ones.
#[inline(always)]
pub fn run<P: Packet, T: PacketTables + Conntrack>(
    packet: &mut P,
    tables: &T,
    parsed: Result<(), NotOurs>,
    scratch: &mut Scratch,
) -> Verdict {
    match judge(packet, tables, parsed, scratch) {
        Step::Done(verdict) => verdict,
        Step::Forward => finish(packet, tables, None, scratch),
        Step::Answer(event, _) => finish(packet, tables, Some(event), scratch),
    }
}

/// Forwards a packet that was judged so, or refuses it for the reason `refusal_of`.
#[inline(always)]
pub fn finish<P: Packet, T: PacketTables>(
    packet: &mut P,
    tables: &T,
    refusal_of: Option<PacketEvent>,
    scratch: &mut Scratch,
) -> Verdict {
    let Some(moved) = packet.complete() else {
        packet.count(PacketEvent::RewriteFailed, 0);
        return Verdict::Drop;
    };
    scratch.parsed.shift(moved);
    let step = match refusal_of {
        None => forward(packet, tables, scratch),
        Some(event) => refused(event, &scratch.parsed.upper),
    };
    match step {
        Step::Done(verdict) => verdict,
        Step::Forward => Verdict::Pass,
        Step::Answer(..) if P::PLACE.early => left_to_tc(packet),
        Step::Answer(event, answer) => {
            packet.count(event, 0);
            if tables.may_refuse(packet.tick(), tables.config().rejects_per_tick) {
                answer::send(packet, &scratch.parsed, answer)
            } else {
                packet.count(PacketEvent::RefusalLimited, 0);
                Verdict::Drop
            }
        }
    }
}

/// Finds or makes the flow that the packet belongs to.
#[inline(always)]
pub fn judge<P: Packet, T: PacketTables + Conntrack>(
    packet: &mut P,
    tables: &T,
    parsed: Result<(), NotOurs>,
    scratch: &mut Scratch,
) -> Step {
    const PASS: Step = Step::Done(Verdict::Pass);
    match parsed {
        Ok(()) => {}
        Err(NotOurs::Extensions) => {
            packet.count(PacketEvent::ExtensionHeaders, 0);
            return PASS;
        }
        Err(NotOurs::Foreign | NotOurs::Truncated) => return PASS,
    }
    let parsed = &mut scratch.parsed;
    if parsed.ip.fragment != Fragment::Whole && !reassembles(packet, tables, parsed) {
        return PASS;
    }
    if parsed.outer.len != 0 {
        return if P::PLACE.egress || P::PLACE.pod_facing {
            PASS
        } else {
            dsr::receive(packet, tables, scratch)
        };
    }
    let frontend = open::frontend_key(&parsed.key);
    let to_frontend = select::may_be_dialled(tables, &frontend);
    if to_frontend || tables.may_be_flow_source(&open::source_key(&parsed.key)) {
        if let Some(step) = known(packet, tables, scratch) {
            return step;
        }
        if to_frontend {
            if !may_open::<P, T>(tables, &scratch.parsed) {
                return PASS;
            }
            match open::open(packet, tables, scratch) {
                Opened::Flow => return Step::Forward,
                Opened::Pass => return PASS,
                Opened::Later => return Step::Done(left_to_tc(packet)),
                Opened::Drop(event, detail) => return dropped(packet, event, detail),
                Opened::Refuse => return refused(PacketEvent::Refused, &scratch.parsed.upper),
                Opened::Absent => {}
            }
        }
    }
    undefined(packet, tables, &scratch.parsed)
}

/// A packet to no frontend is nobody's business, unless its destination can only be a
/// Service's (rule E3). Only what would open a flow is answered: the rest may belong to a
/// connection that the kernel knows, and is asked about first because it is most of the traffic.
#[inline(always)]
fn undefined<P: Packet, T: PacketTables>(packet: &P, tables: &T, parsed: &Parsed) -> Step {
    // What pods receive was judged where it came from.
    if !conntrack::opens(&parsed.upper) || P::PLACE.egress && P::PLACE.pod_facing {
        return Step::Done(Verdict::Pass);
    }
    let Some(undefined) = select::undefined(tables, &parsed.key.dst) else {
        return Step::Done(Verdict::Pass);
    };
    if !open::may_open::<P, T>(tables, &parsed.key) || !open::serves_outside::<P, T>(tables) {
        return Step::Done(Verdict::Pass);
    }
    match undefined {
        Undefined::Address => dropped(packet, PacketEvent::UnallocatedClusterIp, 0),
        Undefined::Port if P::PLACE.early => Step::Done(left_to_tc(packet)),
        Undefined::Port => refused(PacketEvent::UndefinedPort, &parsed.upper),
    }
}

/// Whether a packet may be judged as the first of a flow here.
#[inline(always)]
fn may_open<P: Packet, T: PacketTables>(tables: &T, parsed: &Parsed) -> bool {
    parsed.upper != Upper::IcmpError && open::may_open::<P, T>(tables, &parsed.key)
}

#[inline(always)]
const fn refused(event: PacketEvent, upper: &Upper) -> Step {
    Step::Answer(event, refusal(upper))
}

/// A packet of a flow that exists; `None` if there is no such flow.
#[inline(always)]
fn known<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<Step> {
    let mut found = conntrack::find(tables, scratch)?;
    if scratch.entry.has(ConntrackFlags::AT_EGRESS) != P::PLACE.egress {
        // The other half's place: this packet's turn comes later, or has been.
        return Some(Step::Done(Verdict::Pass));
    }
    if P::PLACE.early && !may_finish(packet, tables, &scratch.entry) {
        return Some(Step::Done(left_to_tc(packet)));
    }
    if stale(tables, scratch) {
        conntrack::remove(tables, found.table, scratch);
        return None;
    }
    if conntrack::follow(packet, tables, scratch, &mut found) == Outcome::Gone {
        return None;
    }
    if found.touched && !follow_route(packet, tables, scratch, &found) {
        return Some(dropped(packet, PacketEvent::NoRoute, 0));
    }
    Some(Step::Forward)
}

/// Dropped, and counted.
#[inline(always)]
pub(crate) fn dropped<P: Packet>(packet: &P, event: PacketEvent, detail: u32) -> Step {
    packet.count(event, detail);
    Step::Done(Verdict::Drop)
}

/// A UDP flow ends when its backend no longer serves while others do (rules I1–I5). Its
/// next packet opens a flow anew. Other flows stay with their backend (rule C16).
#[inline(always)]
fn stale<T: PacketTables>(tables: &T, scratch: &Scratch) -> bool {
    let (key, entry) = (&scratch.parsed.key, &scratch.entry);
    if key.protocol != Protocol::Udp as u8 && !on(Fault::FlowsMove)
        || !entry.has(ConntrackFlags::INITIATOR)
    {
        return false;
    }
    let serves = tables.backend(entry.slot).is_some_and(|backend| {
        (backend.generation == entry.generation || on(Fault::SlotIsIdentity))
            && backend.keeps_flows()
            && (!on(Fault::UdpLeavesEarly) || backend.has(BackendFlags::IN_CLUSTER_SET))
    });
    if serves || on(Fault::UdpStays) {
        return false;
    }
    // Without any endpoint the flow stays as it is (rule I3); without a frontend it ends.
    select::lookup(tables, &open::frontend_key(key), || None)
        .is_none_or(|service| !service.table.is_empty() || on(Fault::UdpEndsWithLast))
}

/// Whether XDP can finish what a record asks for.
#[inline(always)]
fn may_finish<P: Packet, T: PacketTables>(packet: &P, tables: &T, entry: &ConntrackEntry) -> bool {
    let leaves = ConntrackFlags::REDIRECT | ConntrackFlags::ENCAPSULATE;
    if entry.flags & leaves == 0 || entry.hop.ifindex == packet.ifindex() {
        return true;
    }
    // A half that has had no packet yet does not know its next hop.
    entry.hop.ifindex == 0
        || tables
            .device(entry.hop.ifindex)
            .is_some_and(|device| device.flags & DeviceFlags::XDP_REDIRECT != 0)
}

#[inline(always)]
fn left_to_tc<P: Packet>(packet: &P) -> Verdict {
    packet.count(PacketEvent::LeftToTc, 0);
    Verdict::Pass
}

/// Rewrites a packet as its flow's record says and sends it on.
#[inline(always)]
fn forward<P: Packet, T: PacketTables>(packet: &mut P, tables: &T, scratch: &Scratch) -> Step {
    let (parsed, entry) = (&scratch.parsed, &scratch.entry);
    if on(Fault::AnswersUntranslated) && !entry.has(ConntrackFlags::INITIATOR) {
        return Step::Done(Verdict::Pass);
    }
    let mut hops = 0;
    let mut verdict = Verdict::Pass;
    let encapsulates = entry.has(ConntrackFlags::ENCAPSULATE);
    if encapsulates || entry.has(ConntrackFlags::REDIRECT) {
        let hop = entry.hop;
        if P::PLACE.early && !open::finishes(packet, &hop, xdp_flags(packet, tables, &hop)) {
            return Step::Done(left_to_tc(packet));
        }
        // What this host sends itself has a hop limit that nobody has used yet.
        hops = u8::from(!P::PLACE.egress);
        if hops != 0 && parsed.ip.hop_limit <= 1 && !on(Fault::HopLimitIgnored) {
            return Step::Answer(PacketEvent::HopLimit, Answer::HopLimit);
        }
        let mut room = entry.mtu;
        if encapsulates {
            room = room.saturating_sub(dsr::overhead(parsed.ip.v4));
        }
        let fits = parsed.ip.len <= room as usize || on(Fault::TooBigUnanswered);
        if entry.mtu != 0 && !fits && !packet.is_super_packet() {
            return Step::Answer(PacketEvent::TooBig, Answer::TooBig(room as u16));
        }
        verdict = Verdict::Redirect(hop);
    }
    let done = if encapsulates {
        dsr::encapsulate(packet, parsed, entry)
    } else {
        let answers_client = entry.has(ConntrackFlags::DSR | ConntrackFlags::AT_EGRESS);
        (!answers_client || dsr::clamp_segment_size(packet, tables, parsed)) && {
            let to = entry.rewritten(parsed.key.protocol);
            nat::rewrite(packet, parsed, &to, hops)
        }
    };
    if done {
        Step::Done(verdict)
    } else {
        dropped(packet, PacketEvent::RewriteFailed, 0)
    }
}

#[inline(always)]
fn xdp_flags<P: Packet, T: PacketTables>(packet: &P, tables: &T, hop: &NextHop) -> u32 {
    if hop.ifindex == packet.ifindex() {
        return 0;
    }
    tables.device(hop.ifindex).map_or(0, |device| device.flags)
}

/// Once a tick, and at the first packet of a half: asks the FIB where packets that do not
/// go through the stack leave, and remembers it. Changed routes and neighbours are thus
/// followed within two seconds. `false` if there is no route.
#[inline(always)]
fn follow_route<P: Packet, T: PacketTables + Conntrack>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    found: &Found<T::Record>,
) -> bool {
    let (key, entry) = (&scratch.parsed.key, &mut scratch.entry);
    if entry.flags & (ConntrackFlags::REDIRECT | ConntrackFlags::ENCAPSULATE) == 0 {
        return true;
    }
    let query = Query {
        src: entry.src,
        dst: entry.dst,
        src_port: entry.src_port,
        dst_port: entry.dst_port,
        protocol: key.protocol,
    };
    let Route::Hop(hop, mtu) = packet.route(&query) else {
        return false;
    };
    if (entry.hop, entry.mtu) != (hop, mtu) {
        (entry.hop, entry.mtu) = (hop, mtu);
        // As a whole: another CPU must not see one half of a MAC address.
        tables.insert(found.table, key, entry, true);
    }
    true
}

/// How kube-proxy's REJECT answers (rule C11).
#[inline(always)]
const fn refusal(upper: &Upper) -> Answer {
    match upper {
        Upper::Tcp(_) => Answer::Reset,
        _ => Answer::PortUnreachable,
    }
}

/// Gives a fragment the ports of its datagram. `false` if it has to be left alone.
///
/// XDP leaves all fragments to TC.
#[inline(always)]
pub(crate) fn reassembles<P: Packet, T: PacketTables>(
    packet: &P,
    tables: &T,
    parsed: &mut Parsed,
) -> bool {
    if P::PLACE.early || on(Fault::FragmentsIgnored) {
        return false;
    }
    let Some(key) = parsed.ip.fragment_key() else {
        return true;
    };
    if let Fragment::First(_) = parsed.ip.fragment {
        let (frontend, source) = (
            open::frontend_key(&parsed.key),
            open::source_key(&parsed.key),
        );
        if select::may_be_dialled(tables, &frontend) || tables.may_be_flow_source(&source) {
            let ports = crate::abi::FragmentPorts {
                src_port: parsed.key.src_port,
                dst_port: parsed.key.dst_port,
                seen: packet.tick(),
            };
            tables.remember_fragment(&key, &ports);
        }
        return true;
    }
    let Some(ports) = tables.fragment(&key) else {
        if tables.node_address(&parsed.ip.dst) & NodeAddress::LOCAL != 0 {
            packet.count(PacketEvent::FragmentBeforeFirst, 0);
        }
        return false;
    };
    parsed.key.src_port = ports.src_port;
    parsed.key.dst_port = ports.dst_port;
    true
}

//! Source ports towards backends: one under which a backend's packets are unmistakable.
#![forbid(unsafe_code)]

use crate::{
    abi::{ConntrackFlags, PacketEvent, Port},
    conntrack::Scratch,
    fault::{Fault, on},
    hash::{Mixer, tuple_hash},
    packet::Packet,
    tables::{Conntrack, FlowState, Record},
};

/// Ports that are tried before a backend counts as exhausted.
const PORT_PROBES: u32 = 16;

/// Source ports towards a backend.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// Whether the client's own port is tried first.
    pub(crate) own_first: bool,
    /// First port of the range to choose from.
    pub(crate) first: u32,
    /// Length of the range.
    pub(crate) count: u32,
}

impl Ports {
    /// The client's own; if that is taken (two VIPs, one backend), one of those that
    /// netfilter would use.
    pub(crate) const OWN: Self = Self {
        own_first: true,
        first: 1024,
        count: 65_536 - 1024,
    };

    /// Finds a source port under which the backend's packets are unmistakable, and stores the
    /// responder half with it.
    ///
    /// A port of a proven flow is never taken away. If every probed port is taken, the half-open
    /// flow that was quiet the longest gives its port up: a flood of unproven flows cannot keep
    /// honest ones out.
    ///
    /// # Errors
    ///
    /// What to count, and its detail, when the packet has to be dropped.
    #[inline(always)]
    pub(crate) fn claim<P: Packet, T: Conntrack>(
        self,
        packet: &P,
        tables: &T,
        scratch: &mut Scratch,
        now: u32,
    ) -> Result<(), (PacketEvent, u32)> {
        let start = Mixer::new(tuple_hash(&scratch.parsed.key))
            .mix(u64::from(packet.random()))
            .finish();
        let (mut port, mut quiet) = (Port::new(0), 0);
        for probe in 0..PORT_PROBES {
            // A port of our own range, or at first the client's own.
            if probe > 0 || !self.own_first {
                let point = start.wrapping_add(probe.wrapping_mul(0x9e37_79b9));
                let offset = (u64::from(point) * u64::from(self.count)) >> 32;
                scratch.entry.src_port = Port::new((self.first + offset as u32) as u16);
                scratch.entry.flags |= ConntrackFlags::PORT_CHOSEN;
            }
            match try_port(tables, scratch) {
                Claim::Granted => return Ok(()),
                Claim::Denied => {}
                Claim::HalfOpen(last_seen) => {
                    let idle = now.wrapping_sub(last_seen).wrapping_add(1);
                    if idle > quiet {
                        (port, quiet) = (scratch.entry.src_port, idle);
                    }
                }
            }
        }
        if quiet == 0 {
            return Err((PacketEvent::PortsExhausted, scratch.entry.slot));
        }
        scratch.entry.src_port = port;
        scratch.aim_at_mirror();
        scratch.make_mirror();
        if !tables.insert(
            FlowState::HalfOpen,
            &scratch.mirror_key,
            &scratch.mirror,
            true,
        ) {
            return Err((PacketEvent::NoRecord, 0));
        }
        packet.count(PacketEvent::PortTaken, 0);
        Ok(())
    }
}

/// Whether a port can be had.
enum Claim {
    /// The responder half is stored under it.
    Granted,
    /// A proven flow has it, or there is no room.
    Denied,
    /// A half-open flow has it, last seen in this tick.
    HalfOpen(u32),
}

/// Stores the responder half under the port in the scratch, if that is free.
#[inline(always)]
fn try_port<T: Conntrack>(tables: &T, scratch: &mut Scratch) -> Claim {
    scratch.aim_at_mirror();
    if let Some(taken) = tables.find(FlowState::Proven, &scratch.mirror_key) {
        taken.read_into(&mut scratch.mirror);
        if !scratch.is_mate() && !on(Fault::ProvenPortTaken) {
            return Claim::Denied;
        }
        // Left over from an earlier life of this very flow.
        tables.remove(FlowState::Proven, &scratch.mirror_key);
    }
    let taken = tables.find(FlowState::HalfOpen, &scratch.mirror_key);
    if let Some(taken) = taken {
        taken.read_into(&mut scratch.mirror);
        if !scratch.is_mate() {
            return Claim::HalfOpen(scratch.mirror.last_seen);
        }
    }
    scratch.make_mirror();
    let replace = taken.is_some();
    if tables.insert(
        FlowState::HalfOpen,
        &scratch.mirror_key,
        &scratch.mirror,
        replace,
    ) {
        Claim::Granted
    } else {
        // Another CPU was faster, or there is no room.
        Claim::Denied
    }
}

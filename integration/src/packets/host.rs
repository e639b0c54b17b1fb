//! The pure pipeline over a byte vector.

use std::marker::PhantomData;

use lb_ebpf::{
    abi::PacketEvent,
    checksum::{self, Delta},
    conntrack::Scratch,
    packet::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, Place, Verdict},
    parse::parse,
    pipeline,
    route::{Query, Route},
};

use super::{
    script::{Hook, Outcome, Seen, Step},
    tables::HostTables,
    topology::{self, Port},
    world::{NOW, NOW_NS, World},
};

/// A hook as a type: the pipeline is made for each.
trait At {
    const PLACE: Place;
}

macro_rules! hooks {
    ($($name:ident),*) => {$(
        struct $name;
        impl At for $name {
            const PLACE: Place = Hook::$name.place();
        }
    )*};
}

hooks!(Xdp, Ingress, Egress, PodIngress, PodEgress);

/// A frame in a vector.
struct Frame<'a, A> {
    bytes: Vec<u8>,
    port: Port,
    segments: u32,
    random: u32,
    tables: &'a HostTables,
    hook: PhantomData<A>,
}

impl<A> Frame<'_, A> {
    fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let place = self.bytes.get_mut(at..at + bytes.len());
        place.is_some_and(|place| {
            place.copy_from_slice(bytes);
            true
        })
    }
}

impl<A: At> Packet for Frame<'_, A> {
    const PLACE: Place = A::PLACE;

    fn ifindex(&self) -> u32 {
        self.port.ifindex()
    }

    fn network(&self) -> Option<(usize, bool)> {
        match u16::from_be(self.half(ETHERNET - 2)?) {
            ETHERTYPE_IPV4 => Some((ETHERNET, true)),
            ETHERTYPE_IPV6 => Some((ETHERNET, false)),
            _ => None,
        }
    }

    fn complete(&mut self) -> Option<usize> {
        Some(0)
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        let bytes = self.bytes.get(at..at + N * 4)?;
        let mut words = [0; N];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Some(words)
    }

    fn half(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at + 2)?;
        Some(u16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    fn set_words<const N: usize>(&mut self, at: usize, words: [u32; N]) -> bool {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.write(at, &bytes)
    }

    fn set_half(&mut self, at: usize, half: u16) -> bool {
        self.write(at, &half.to_ne_bytes())
    }

    fn fix_checksum(&mut self, at: usize, delta: Delta, udp: bool) -> bool {
        let Some(old) = self.half(at) else {
            return false;
        };
        self.set_half(at, checksum::updated_transport(old, delta, udp))
    }

    fn is_super_packet(&self) -> bool {
        self.segments > 1
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn truncate(&mut self, len: usize) -> bool {
        let shorter = !A::PLACE.early && len <= self.bytes.len();
        if shorter {
            self.bytes.truncate(len);
        }
        shorter
    }

    fn push_front<const N: usize>(&mut self, words: [u32; N], _tunnel: bool) -> bool {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        self.bytes.splice(ETHERNET..ETHERNET, bytes);
        true
    }

    fn pull_front(&mut self, len: usize) -> bool {
        let fits = ETHERNET + len <= self.bytes.len();
        if fits {
            self.bytes.drain(ETHERNET..ETHERNET + len);
        }
        fits
    }

    fn route(&self, query: &Query) -> Route {
        topology::route(query)
    }

    fn tick(&self) -> u32 {
        NOW
    }

    fn now_ns(&self) -> u64 {
        NOW_NS
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn count(&self, event: PacketEvent, detail: u32) {
        self.tables.count(self.ifindex(), event, detail);
    }
}

/// Runs the pipeline of the step's hook on its frame. `random` is the number that chance gives.
pub fn run(world: &mut World, step: &Step, random: u32) -> Seen {
    match step.hook {
        Hook::Xdp => run_at::<Xdp>(world, step, random),
        Hook::Ingress => run_at::<Ingress>(world, step, random),
        Hook::Egress => run_at::<Egress>(world, step, random),
        Hook::PodIngress => run_at::<PodIngress>(world, step, random),
        Hook::PodEgress => run_at::<PodEgress>(world, step, random),
    }
}

fn run_at<A: At>(world: &mut World, step: &Step, random: u32) -> Seen {
    let tables = HostTables::new(std::mem::take(world));
    let mut frame = Frame::<A> {
        bytes: step.frame.clone(),
        port: step.port,
        segments: step.segments,
        random,
        tables: &tables,
        hook: PhantomData,
    };
    // What is in a program's scratch is what the last packet left. Nothing may depend on it.
    let mut scratch = Scratch::EMPTY;
    let parsed = parse(&frame, &mut scratch.parsed);
    let verdict = pipeline::run(&mut frame, &&tables, parsed, &mut scratch);
    let mut bytes = frame.bytes;
    let outcome = match verdict {
        Verdict::Pass => Outcome::Pass,
        Verdict::Drop => Outcome::Drop,
        Verdict::Bounce => Outcome::Bounces,
        Verdict::Redirect(hop) => {
            let port = Port::ALL.into_iter().find(|p| p.ifindex() == hop.ifindex);
            let port = port.expect("a device of the node");
            let macs = (hop.dst_mac, hop.src_mac);
            if A::PLACE.early {
                bytes[..6].copy_from_slice(&macs.0);
                bytes[6..12].copy_from_slice(&macs.1);
            }
            Outcome::Leaves(port, (macs.0 != [0; 6]).then_some(macs))
        }
    };
    if outcome == Outcome::Drop {
        bytes.clear();
    }
    *world = tables.into_world();
    Seen {
        outcome,
        frame: bytes,
    }
}

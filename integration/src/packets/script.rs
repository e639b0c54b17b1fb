//! Rows: what happens at the node, packet by packet, and what has to come of it.

use lb_ebpf::{
    abi::{ConntrackKey, PacketEvent, Protocol},
    packet::Place,
};

use super::{
    flow::Flow,
    packet::{Macs, Packet},
    topology::{Family, Port},
    world::World,
};

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// XDP on an uplink.
    Xdp,
    /// TC ingress of an uplink.
    Ingress,
    /// TC egress of an uplink.
    Egress,
    /// TC ingress of a pod-facing device.
    PodIngress,
    /// TC egress of a pod-facing device.
    PodEgress,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Xdp,
        Self::Ingress,
        Self::Egress,
        Self::PodIngress,
        Self::PodEgress,
    ];
    /// Where packets from outside come in.
    pub const FROM_OUTSIDE: [Self; 2] = [Self::Xdp, Self::Ingress];

    /// Its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "lb_xdp",
            Self::Ingress => "lb_ingress",
            Self::Egress => "lb_egress",
            Self::PodIngress => "lb_pod_ingress",
            Self::PodEgress => "lb_pod_egress",
        }
    }

    /// Its place.
    pub const fn place(self) -> Place {
        match self {
            Self::Xdp => Place::XDP,
            Self::Ingress => Place::INGRESS,
            Self::Egress => Place::EGRESS,
            Self::PodIngress => Place::POD_INGRESS,
            Self::PodEgress => Place::POD_EGRESS,
        }
    }

    /// The device that rows see it at unless they say otherwise.
    pub const fn port(self) -> Port {
        if self.place().pod_facing {
            Port::Pods
        } else {
            Port::Uplink
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on to whoever comes next.
    Pass,
    /// It ends here.
    Drop,
    /// It leaves through a device. XDP has written the MACs into the frame; at TC the kernel
    /// will. `None` is a neighbour that has to be resolved.
    Leaves(Port, Option<Macs>),
    /// It comes back in at the device that it was about to leave.
    Bounces,
}

/// What a hook has made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What became of it.
    pub outcome: Outcome,
    /// What it is now; empty if it was dropped.
    pub frame: Vec<u8>,
}

/// One packet.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it is seen.
    pub hook: Hook,
    /// At which device.
    pub port: Port,
    /// Ticks that have passed since the last step.
    pub after: u32,
    /// What happens to the node before it.
    pub change: Option<fn(World) -> World>,
    /// Segments that it stands for; 0 is a plain packet.
    pub segments: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// What has to come of it.
    pub outcome: Outcome,
    /// What the frame has to be then; `None` is "what it was".
    pub becomes: Option<Vec<u8>>,
    /// What has to be counted at the device.
    pub counts: Vec<(PacketEvent, u32)>,
    /// What has to have been counted of the rows' service so far, if that is looked at: opened,
    /// affinity hits, refused, dropped.
    pub service: Option<[u64; 4]>,
    /// Which flows there have to be, if that is looked at.
    pub flows: Option<Vec<Flow>>,
    /// The tuple of a flow that this packet opens with a port chosen by chance.
    pub chance: Option<ConntrackKey>,
}

impl Step {
    /// A packet that goes on as it came, with nothing counted.
    pub fn new(hook: Hook, packet: &Packet) -> Self {
        Self::raw(hook, packet.bytes())
    }

    /// The same for a frame.
    pub fn raw(hook: Hook, frame: Vec<u8>) -> Self {
        Self {
            hook,
            port: hook.port(),
            after: 0,
            change: None,
            segments: 0,
            frame,
            outcome: Outcome::Pass,
            becomes: None,
            counts: Vec::new(),
            service: None,
            flows: None,
            chance: None,
        }
    }

    /// Seen at another device.
    #[must_use]
    pub fn at(mut self, port: Port) -> Self {
        self.port = port;
        self
    }

    /// Some ticks later.
    #[must_use]
    pub fn after(mut self, ticks: u32) -> Self {
        self.after = ticks;
        self
    }

    /// After a change of what is programmed.
    #[must_use]
    pub fn change(mut self, change: fn(World) -> World) -> Self {
        self.change = Some(change);
        self
    }

    /// Standing for several segments.
    #[must_use]
    pub fn segments(mut self, segments: u32) -> Self {
        self.segments = segments;
        self
    }

    /// Goes on as another packet.
    #[must_use]
    pub fn passes_as(mut self, packet: &Packet) -> Self {
        self.becomes = Some(packet.bytes());
        self
    }

    /// Leaves through a device, to its neighbour `host`, as another packet.
    #[must_use]
    pub fn leaves(mut self, port: Port, host: u8, packet: &Packet) -> Self {
        let macs = port.to(host);
        let mut packet = packet.clone();
        if self.hook == Hook::Xdp {
            packet.macs = macs;
        }
        self.outcome = Outcome::Leaves(port, Some(macs));
        self.becomes = Some(packet.bytes());
        self
    }

    /// Leaves to a neighbour that has to be resolved (TC).
    #[must_use]
    pub fn leaves_unresolved(mut self, port: Port, packet: &Packet) -> Self {
        self.outcome = Outcome::Leaves(port, None);
        self.becomes = Some(packet.bytes());
        self
    }

    /// Comes back as another packet.
    #[must_use]
    pub fn bounces_as(mut self, packet: &Packet) -> Self {
        self.outcome = Outcome::Bounces;
        self.becomes = Some(packet.bytes());
        self
    }

    /// Is dropped.
    #[must_use]
    pub fn drops(mut self) -> Self {
        self.outcome = Outcome::Drop;
        self.becomes = Some(Vec::new());
        self
    }

    /// Is counted.
    #[must_use]
    pub fn counts(mut self, event: PacketEvent) -> Self {
        self.counts.push((event, 0));
        self
    }

    /// Is counted with a detail.
    #[must_use]
    pub fn counts_at(mut self, event: PacketEvent, detail: u32) -> Self {
        self.counts.push((event, detail));
        self
    }

    /// This has been counted of the service so far: opened, affinity hits, refused, dropped.
    #[must_use]
    pub fn service(mut self, counts: [u64; 4]) -> Self {
        self.service = Some(counts);
        self
    }

    /// These flows are there afterwards, and no others.
    #[must_use]
    pub fn flows(mut self, flows: &[Flow]) -> Self {
        self.flows = Some(flows.to_vec());
        self
    }

    /// Chance chooses the port of the flow of this packet, which has ports of its own.
    #[must_use]
    pub fn by_chance(mut self, outcome: Outcome, flow: ConntrackKey) -> Self {
        (self.outcome, self.chance) = (outcome, Some(flow));
        self
    }
}

/// A node and the packets that it sees.
#[derive(Clone, Debug)]
pub struct Script {
    /// What is programmed.
    pub world: World,
    /// The packets.
    pub steps: Vec<Step>,
}

impl Script {
    /// No packet yet.
    pub fn new(world: World) -> Self {
        Self {
            world,
            steps: Vec::new(),
        }
    }

    /// One more packet.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// One case of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The hook that the row is about.
    pub hook: Hook,
    /// The address family.
    pub family: Family,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A row: a fact, where it holds, and the script that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The fact.
    pub name: &'static str,
    /// Hooks.
    pub hooks: &'static [Hook],
    /// Address families.
    pub families: &'static [Family],
    /// Transport protocols.
    pub protocols: &'static [Protocol],
    /// The script of a case.
    pub script: fn(Case) -> Script,
}

/// Both families.
pub const BOTH: &[Family] = &Family::ALL;
/// All transports.
pub const TRANSPORTS: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

impl Row {
    /// Its cases.
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        let (hooks, families, protocols) = (self.hooks, self.families, self.protocols);
        hooks.iter().flat_map(move |hook| {
            families.iter().flat_map(move |family| {
                protocols.iter().map(move |protocol| Case {
                    hook: *hook,
                    family: *family,
                    protocol: *protocol,
                })
            })
        })
    }
}

//! How long the programs take for a packet, by `BPF_PROG_TEST_RUN`.
//!
//! The kernel repeats a program on one buffer, so a program that rewrites its packet meets
//! its own output from the second run on. Flows here are their own output: their rewritten
//! tuple is the tuple that they had, so that every run rewrites, checksums and all. Only the
//! hop limit goes down, which bounds the repeats of one call; calls are repeated instead.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_ebpf::abi::{FrontendKind, Protocol};

use super::{
    super::{
        flow::{Flow, Path},
        packet::Packet,
        script::{Hook, Outcome, Step},
        service::Service,
        topology::{Family, NODE, Net, Port},
        world::{SERVICE, SNAT_PORT, World},
    },
    Kernel,
};

/// Repeats of one call: fewer than there are hops.
const REPEAT: u32 = 200;

/// Ports for flows that are opened: many more than flows.
const SNAT_PORTS: u32 = 5000;
/// Rounds before the maps are filled anew: then no tick has gone by (a flow would have to ask
/// for its route again), and few ports are taken.
const FRESH: u32 = 256;
/// Client port of the first round.
const FIRST_PORT: u16 = 40_000;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A packet that is none of ours.
    Foreign,
    /// A client's packet of a proven flow to a remote backend.
    Established,
    /// The reply of a remote backend.
    Reply,
    /// A router's error about a proven flow.
    Error,
    /// A packet that opens a flow to a remote backend; one run per call.
    New,
    /// A packet that is none of ours, one run per call: what is in the time of [`Self::New`]
    /// that is no work of the program (clocks, cold caches).
    ForeignOnce,
}

impl Work {
    /// All of it.
    pub const ALL: [Self; 6] = [
        Self::Foreign,
        Self::Established,
        Self::Reply,
        Self::Error,
        Self::New,
        Self::ForeignOnce,
    ];

    /// Runs of the program in one call.
    const fn repeat(self) -> u32 {
        match self {
            Self::New | Self::ForeignOnce => 1,
            Self::Foreign | Self::Established | Self::Reply | Self::Error => REPEAT,
        }
    }

    /// The node, and the packet that it gets from a client's `port`.
    fn scene(self, hook: Hook, family: Family, protocol: Protocol, port: u16) -> (World, Step) {
        let client = Net::Clients.at(family, 7, port);
        let node = Net::Uplink.at(family, NODE, SNAT_PORT);
        let backend = Net::Pods(4).at(family, 5, 8080);
        let served = |at| {
            let service = Service::new(SERVICE, protocol)
                .frontend(at, FrontendKind::LoadBalancer)
                .backend(backend);
            World::node().with(&service)
        };
        let vip = Net::Vips.at(family, 1, 80);
        let data = |src, dst| {
            Packet::proving(protocol, src, dst)
                .hops(u8::MAX)
                .payload(&[7; 64])
        };
        let (world, packet) = match self {
            Self::Foreign | Self::ForeignOnce => {
                let elsewhere = Net::Vips.at(family, 2, 80);
                (served(vip), data(client, elsewhere))
            }
            // From this node to the backend, as it becomes.
            Self::Established => {
                let same = (node, backend);
                let flow = Flow::new(protocol, same, same, Path::SNAT).proven();
                (served(backend).flow(&flow, 0, 0), data(node, backend))
            }
            // A reply as the client gets it.
            Self::Reply => {
                let client = Net::Clients.at(family, 7, FIRST_PORT);
                let same = (client, vip);
                let flow = Flow::new(protocol, same, same, Path::SNAT).proven();
                (served(client).flow(&flow, 0, 0), data(vip, client))
            }
            Self::Error => {
                let same = (node, backend);
                let flow = Flow::new(protocol, same, same, Path::SNAT).proven();
                let quoted = data(backend, node).ip()[..family.pick(28, 48)].to_vec();
                let kind = family.pick((3, 3), (1, 4));
                let error = Packet::error(node.ip(), kind, 0, backend.ip(), &quoted);
                (served(backend).flow(&flow, 0, 0), error.hops(u8::MAX))
            }
            Self::New => {
                let world = served(vip).configured(|config| config.snat_count = SNAT_PORTS);
                (world, Packet::opening(protocol, client, vip))
            }
        };
        let mut step = Step::new(hook, &packet);
        if !matches!(self, Self::Foreign | Self::ForeignOnce) {
            step.outcome = Outcome::Leaves(Port::Uplink, None);
        }
        (world, step)
    }
}

/// Mean time of a program for one packet: of `rounds` calls, the median.
pub fn time(
    kernel: &mut Kernel,
    work: Work,
    hook: Hook,
    (family, protocol): (Family, Protocol),
    rounds: u32,
) -> Result<Duration> {
    let scene = |port| work.scene(hook, family, protocol, port);
    let (world, step) = scene(FIRST_PORT);
    kernel.install(&world)?;
    let seen = kernel.run(&step)?;
    ensure!(
        matches!(seen.outcome, Outcome::Leaves(..)) == matches!(step.outcome, Outcome::Leaves(..)),
        "{work:?} at {hook:?}: {:?}",
        seen.outcome
    );
    let mut means = Vec::new();
    for round in 0..rounds {
        if round % FRESH == 0 {
            kernel.install(&world)?;
        }
        let (_, step) = scene(FIRST_PORT + (round % FRESH) as u16);
        means.push(kernel.time(&step, work.repeat())?);
    }
    means.sort_unstable();
    Ok(means.get(means.len() / 2).copied().unwrap_or_default())
}

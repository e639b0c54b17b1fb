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
    flow::{Flow, Path},
    kernel::Kernel,
    packet::Packet,
    script::{Hook, Outcome, Step},
    service::Service,
    topology::{Family, NODE, Net, Port},
    world::{SERVICE, SNAT_PORT, World},
};

/// Repeats of one call: fewer than there are hops.
const REPEAT: u32 = 200;

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
    /// A packet that opens a flow to a remote backend.
    New,
}

impl Work {
    /// All of it.
    pub const ALL: [Self; 5] = [
        Self::Foreign,
        Self::Established,
        Self::Reply,
        Self::Error,
        Self::New,
    ];

    /// The node, and the packet that it gets.
    fn scene(self, hook: Hook, family: Family, protocol: Protocol) -> (World, Step) {
        let client = Net::Clients.at(family, 7, 40_000);
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
            Self::Foreign => {
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
                let packet = Packet::opening(protocol, client, vip);
                (served(vip), packet)
            }
        };
        let mut step = Step::new(hook, &packet);
        if self != Self::Foreign {
            step.outcome = Outcome::Leaves(Port::Uplink, None);
        }
        (world, step)
    }
}

/// Mean time of a program for one packet: of `rounds` calls with many runs each, the median.
///
/// A flow can be opened once: [`Work::New`] is one run per call, after which the maps are
/// filled anew, and has the cost of two clock readings in it.
pub fn time(
    kernel: &mut Kernel,
    work: Work,
    hook: Hook,
    (family, protocol): (Family, Protocol),
    rounds: u32,
) -> Result<Duration> {
    let (world, step) = work.scene(hook, family, protocol);
    kernel.install(&world)?;
    let seen = kernel.run(&step)?;
    let leaves = matches!(seen.outcome, Outcome::Leaves(..));
    ensure!(
        leaves == (work != Work::Foreign),
        "{work:?} at {hook:?}: {:?}",
        seen.outcome
    );
    let mut means = Vec::new();
    for round in 0..rounds {
        let again = work == Work::New || round % 256 == 0;
        if again {
            // Also so that a tick that has gone by does not cost the flow a new route.
            kernel.install(&world)?;
        }
        let repeat = if work == Work::New { 1 } else { REPEAT };
        means.push(kernel.time(&step, repeat)?);
    }
    means.sort_unstable();
    Ok(means.get(means.len() / 2).copied().unwrap_or_default())
}

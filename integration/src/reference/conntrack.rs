//! Removing stale UDP flows from the kernel's connection tracking (rules I1 to I6).
//!
//! A flow that was dialled at a frontend and went anywhere but to a serving endpoint is deleted,
//! so that its next packet is balanced anew. That must come after programming: else the packet
//! could bring the stale flow back (rule I4).

mod delete;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};
use delete::Deleter;
use lb_controller::{
    desired::DesiredService,
    model::{Family, Protocol},
};
use lb_ebpf::abi::{BackendFlags, FrontendKind};

use crate::netns::tool;

/// Serving endpoints behind each UDP frontend; without any there is no entry (rule I3). A node
/// port stands under the unspecified address of its family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpServices {
    frontends: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
}

/// A tracked UDP flow: the packet that began it, and where its replies come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who dialled.
    pub from: SocketAddr,
    /// What it dialled.
    pub to: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
}

// === impl UdpServices ===

impl UdpServices {
    /// Those among `services`.
    pub fn of(services: &[DesiredService]) -> Self {
        let mut frontends = BTreeMap::<SocketAddr, BTreeSet<SocketAddr>>::new();
        let udp = services
            .iter()
            .filter(|service| service.key.protocol == Protocol::Udp);
        for service in udp {
            // Rule I2: whatever the policies and hints say.
            let serving = service
                .backends
                .iter()
                .filter(|backend| backend.flags & BackendFlags::SERVING != 0)
                .map(|backend| SocketAddr::new(backend.addr, backend.port));
            let serving: BTreeSet<SocketAddr> = serving.collect();
            if serving.is_empty() {
                continue;
            }
            for frontend in &service.frontends {
                let address = SocketAddr::new(frontend.addr, frontend.port);
                debug_assert!(
                    frontend.kind != FrontendKind::NodePort || frontend.addr.is_unspecified()
                );
                frontends.insert(address, serving.clone());
            }
        }
        Self { frontends }
    }

    /// Whether `flow` goes where nobody serves it.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let node_port = SocketAddr::new(Family::of(flow.to.ip()).unspecified(), flow.to.port());
        let frontends = [flow.to, node_port];
        let mut found = frontends.iter().filter_map(|at| self.frontends.get(at));
        found
            .next()
            .is_some_and(|serving| !serving.contains(&flow.backend))
    }
}

/// Deletes the stale flows of this namespace; how many there were.
pub fn clean(services: &UdpServices) -> Result<usize> {
    let listed = tool::run("conntrack", &["-L", "-p", "udp"], "")?;
    let deleter = Deleter::open().context("opening ctnetlink")?;
    let mut count = 0;
    let flows = listed.lines().filter_map(parse);
    for flow in flows.filter(|flow| services.is_stale(flow)) {
        // A flow may have ended by itself.
        let found = deleter.delete(&flow);
        count += usize::from(found.context("deleting a flow")?);
    }
    Ok(count)
}

/// A line of `conntrack -L -p udp`.
fn parse(line: &str) -> Option<Flow> {
    let mut values = Values(line);
    let from = values.next_of("src=")?;
    let to = values.next_of("dst=")?;
    let (source_port, port) = (values.next_of("sport=")?, values.next_of("dport=")?);
    let backend = values.next_of("src=")?;
    let backend_port = values.next_of("sport=")?;
    let at = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        Some(SocketAddr::new(ip, port.parse().ok()?))
    };
    Some(Flow {
        from: at(from, source_port)?,
        to: at(to, port)?,
        backend: at(backend, backend_port)?,
    })
}

/// The rest of a line.
struct Values<'a>(&'a str);

impl<'a> Values<'a> {
    /// The next value of this name.
    fn next_of(&mut self, name: &str) -> Option<&'a str> {
        let start = self.0.find(&format!(" {name}"))? + 1 + name.len();
        let rest = &self.0[start..];
        let end = rest.find(' ').unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(&rest[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "udp      17 29 src=10.244.1.2 dst=10.96.0.1 sport=40000 dport=53 \
        [UNREPLIED] src=10.244.2.3 dst=10.244.1.2 sport=5353 dport=40000 mark=0 use=1";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn services(frontend: &str, serving: &[&str]) -> UdpServices {
        let serving = serving.iter().map(|text| at(text)).collect();
        UdpServices {
            frontends: [(at(frontend), serving)].into(),
        }
    }

    #[test]
    fn a_line_has_the_dialled_address_and_the_one_that_answers() {
        let flow = parse(LINE).unwrap();
        assert_eq!(flow.from, at("10.244.1.2:40000"));
        assert_eq!(flow.to, at("10.96.0.1:53"));
        assert_eq!(flow.backend, at("10.244.2.3:5353"));
        assert_eq!(
            parse("conntrack v1.4.7: 0 flow entries have been shown."),
            None
        );
    }

    #[test]
    fn i1_i5_a_flow_to_what_does_not_serve_is_stale_also_at_the_old_port() {
        let flow = parse(LINE).unwrap();
        assert!(!services("10.96.0.1:53", &["10.244.2.3:5353"]).is_stale(&flow));
        assert!(services("10.96.0.1:53", &["10.244.2.3:5354"]).is_stale(&flow));
        assert!(services("10.96.0.1:53", &["10.244.2.4:5353"]).is_stale(&flow));
    }

    #[test]
    fn i4_flows_past_a_node_port_are_stale_and_those_of_others_are_not() {
        let flow = parse(LINE).unwrap();
        assert!(services("0.0.0.0:53", &["10.244.2.4:5353"]).is_stale(&flow));
        assert!(!services("10.96.0.2:53", &["10.244.2.4:5353"]).is_stale(&flow));
        assert!(!UdpServices::default().is_stale(&flow));
    }
}

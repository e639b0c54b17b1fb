//! A synthetic cluster on a datapath of this process: the controller without its sources.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use lb_controller::{
    model::{EndpointSlice, Event, ObjectName, Protocol, Settings},
    reconcile::{Outcome, Reconciler},
    synthetic,
};

use crate::arena::Arena;

/// A size.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// Endpoints of each.
    pub endpoints: usize,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} Services × {} endpoints",
            self.services, self.endpoints
        )
    }
}

/// The ClusterIP of Service `service` ([`synthetic`] chooses it).
pub fn cluster_ip(service: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + service as u32).into()
}

/// The address of endpoint `number`, counted over all Services.
pub fn endpoint_ip(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a80_0001 + number as u32).into()
}

/// Port of every ClusterIP, and port of every endpoint.
pub const PORTS: (u16, u16) = (80, 8080);

/// The cluster; its last Service also serves UDP at the same ports if `udp` is set.
pub fn events(size: Size, udp: bool) -> impl Iterator<Item = Event> {
    let last = format!("svc-{}", size.services - 1);
    synthetic::events(size.services, size.endpoints).map(move |mut event| {
        match &mut event {
            Event::Service(name, Some(service)) if udp && *name.name == last => {
                let mut port = service.ports[0].clone();
                port.name = "udp".into();
                port.protocol = Protocol::Udp;
                service.ports.push(port);
            }
            Event::EndpointSlice(_, Some(slice)) if udp && *slice.service.name == last => {
                let mut port = slice.ports[0].clone();
                port.name = "udp".into();
                port.protocol = Protocol::Udp;
                slice.ports.push(port);
            }
            _ => {}
        }
        event
    })
}

/// Programs `size` in the cgroup `name` of the arena.
pub fn program(arena: &Arena, name: &str, size: Size, udp: bool) -> Result<(Reconciler, Outcome)> {
    let mut reconciler = Reconciler::start(arena.place(name)?, Settings::default())?;
    for event in events(size, udp) {
        reconciler.observe(event);
    }
    let outcome = reconciler.reconcile()?;
    Ok((reconciler, outcome))
}

/// The first EndpointSlice of a cluster of `size`.
pub fn first_slice(size: Size) -> Result<(ObjectName, EndpointSlice)> {
    events(size, false)
        .find_map(|event| match event {
            Event::EndpointSlice(name, Some(slice)) => Some((name, slice)),
            _ => None,
        })
        .context("a cluster without an EndpointSlice")
}

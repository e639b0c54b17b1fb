//! Ends, services and flows that several rows use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_ebpf::abi::FrontendKind;

use super::super::{
    flow::{Flow, Path},
    packet::Packet,
    script::Case,
    topology::{NODE, Net},
    world::{SERVICE, SNAT_PORT, Service, World},
};

/// Port of NodePorts.
pub(super) const NODE_PORT: u16 = 30_080;

impl Case {
    /// A client outside the cluster.
    pub(super) fn client(self) -> SocketAddr {
        Net::Clients.at(self.family, 7, 40_000)
    }

    /// Another one.
    pub(super) fn stranger(self) -> SocketAddr {
        Net::Clients.at(self.family, 8, 41_000)
    }

    /// The frontend that rows use.
    pub(super) fn vip(self) -> SocketAddr {
        Net::Vips.at(self.family, 1, 80)
    }

    /// The backend at a node.
    pub(super) fn backend(self, node: u8) -> SocketAddr {
        Net::Pods(node).at(self.family, 5, 8080)
    }

    /// What backends see of clients that are hidden.
    pub(super) fn snat(self) -> SocketAddr {
        Net::Uplink.at(self.family, NODE, SNAT_PORT)
    }

    /// A router outside.
    pub(super) fn router(self) -> IpAddr {
        Net::Clients.host(self.family, 254)
    }

    /// The unspecified address with a port: a NodePort.
    pub(super) fn any(self, port: u16) -> SocketAddr {
        let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        SocketAddr::new(self.family.pick(Ipv4Addr::UNSPECIFIED.into(), v6), port)
    }

    /// The first packet of a flow.
    pub(super) fn opening(self, src: SocketAddr, dst: SocketAddr) -> Packet {
        Packet::opening(self.protocol, src, dst)
    }

    /// The backend's first answer.
    pub(super) fn answering(self, src: SocketAddr, dst: SocketAddr) -> Packet {
        Packet::answering(self.protocol, src, dst)
    }

    /// The client's proof that it has it.
    pub(super) fn proving(self, src: SocketAddr, dst: SocketAddr) -> Packet {
        Packet::proving(self.protocol, src, dst)
    }

    /// A load balancer's service without backends.
    pub(super) fn service(self) -> Service {
        Service::new(SERVICE, self.protocol).frontend(self.vip(), FrontendKind::LoadBalancer)
    }

    /// A load balancer's address in front of a backend at `node`.
    pub(super) fn balanced(self, node: u8) -> World {
        World::node().with(&self.service().backend(self.backend(node)))
    }

    /// The client's flow to a local backend.
    pub(super) fn to_local(self) -> Flow {
        let from = (self.client(), self.vip());
        Flow::new(
            self.protocol,
            from,
            (self.client(), self.backend(1)),
            Path::STACK,
        )
    }

    /// The client's flow to a backend at another node.
    pub(super) fn to_remote(self, node: u8) -> Flow {
        self.to_remote_of(node, self.client())
    }

    /// Another client's flow to a backend at another node.
    pub(super) fn to_remote_of(self, node: u8, client: SocketAddr) -> Flow {
        let from = (client, self.vip());
        Flow::new(
            self.protocol,
            from,
            (self.snat(), self.backend(node)),
            Path::SNAT,
        )
    }
}

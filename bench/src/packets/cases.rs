//! Packets that a load balancer meets, and the node at which it meets them.

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{FrontendKind, Protocol, ServiceRangeFlags};
use lb_integration::packets::{
    flow::{Flow, Path},
    packet::Packet,
    topology::{Family, NODE, Net, Port},
    world::{Service, World},
};

/// XDP's return codes.
const PASS: u32 = 2;
const TX: u32 = 3;

/// The first of many source ports.
const SNAT_FIRST: u16 = 20_000;
/// Node of remote backends: behind a neighbour on the uplink.
const REMOTE: u8 = 4;
/// Frames must be as long as what is put back.
const DATA: [u8; 100] = [b'x'; 100];

/// What packets are, and what has to become of them.
pub struct Case {
    /// In a word.
    pub name: String,
    /// What the node knows.
    pub world: World,
    /// The packet.
    pub frame: Vec<u8>,
    /// Where its source port is, if every packet is to open a flow.
    pub vary: Option<u32>,
    /// The return code.
    pub verdict: u32,
    /// The destination that the packet has afterwards.
    pub to: IpAddr,
    /// At most this many times the floor that parses, rewrites and sends.
    pub most: Option<f64>,
}

/// The packet with which floors are measured.
pub fn plain(family: Family) -> Packet {
    let pod = Net::Pods(1).at(family, 5, 8080);
    Packet::proving(Protocol::Tcp, client(family), pod).payload(&DATA)
}

/// All cases of a family.
pub fn all(family: Family) -> Vec<Case> {
    let build = Build { family };
    vec![
        build.foreign("to a pod", Net::Pods(1).at(family, 5, 8080)),
        build.foreign("to this node", Net::Uplink.at(family, NODE, 22)),
        build.established(1),
        build.established(REMOTE),
        build.reply(),
        build.error(),
        build.new_flow(1),
        build.new_flow(REMOTE),
    ]
}

struct Build {
    family: Family,
}

fn client(family: Family) -> SocketAddr {
    Net::Clients.at(family, 7, 40_000)
}

impl Build {
    fn vip(&self) -> SocketAddr {
        Net::Vips.at(self.family, 1, 80)
    }

    fn backend(&self, node: u8) -> SocketAddr {
        Net::Pods(node).at(self.family, 5, 8080)
    }

    fn snat(&self) -> SocketAddr {
        Net::Uplink.at(self.family, NODE, SNAT_FIRST)
    }

    /// A load balancer's address in front of a backend at `node`.
    fn balanced(&self, node: u8) -> World {
        let service = Service::new(1, Protocol::Tcp)
            .frontend(self.vip(), FrontendKind::LoadBalancer)
            .backend(self.backend(node));
        World::node().with(&service).configured(|config| {
            config.snat_first = u32::from(SNAT_FIRST);
            config.snat_count = 10_000;
        })
    }

    /// The client's flow to the backend at `node`, which has been used.
    fn flow(&self, node: u8) -> Flow {
        let client = client(self.family);
        let (source, path) = match node {
            1 => (client, Path::STACK),
            _ => (self.snat(), Path::SNAT),
        };
        let becomes = (source, self.backend(node));
        Flow::new(Protocol::Tcp, (client, self.vip()), becomes, path).proven()
    }

    fn case(&self, name: &str, world: World, packet: &Packet, then: (u32, IpAddr)) -> Case {
        Case {
            name: format!("{name}, {}", self.family.pick("IPv4", "IPv6")),
            world,
            frame: packet.bytes(),
            vary: None,
            verdict: then.0,
            to: then.1,
            most: None,
        }
    }

    fn foreign(&self, name: &str, to: SocketAddr) -> Case {
        let packet = plain(self.family).between(client(self.family), to);
        let name = format!("foreign, {name}");
        // As where there is a ServiceCIDR: what is outside of it costs a comparison.
        let net = Net::Services.host(self.family, 0);
        let world = self.balanced(1).flow(&self.flow(1), 0, 1).service_range(
            net,
            self.family.pick(24, 112),
            ServiceRangeFlags::SERVICE_CIDR,
        );
        Case {
            most: Some(2.5),
            ..self.case(&name, world, &packet, (PASS, to.ip()))
        }
    }

    fn established(&self, node: u8) -> Case {
        let packet = plain(self.family).between(client(self.family), self.vip());
        let world = self.balanced(node).flow(&self.flow(node), 0, 1);
        let name = format!("established, {}", place(node));
        Case {
            most: Some(4.0),
            ..self.case(&name, world, &packet, then(node, self.backend(node).ip()))
        }
    }

    fn reply(&self) -> Case {
        let packet = plain(self.family).between(self.backend(REMOTE), self.snat());
        let world = self.balanced(REMOTE).flow(&self.flow(REMOTE), 0, 1);
        let to = client(self.family).ip();
        self.case("reply of a remote backend", world, &packet, (TX, to))
    }

    /// "Packet too big" from a router before the backend.
    fn error(&self) -> Case {
        let sent = plain(self.family).between(self.snat(), self.backend(REMOTE));
        let router = Net::Pods(REMOTE).host(self.family, 200);
        let kind = self.family.pick((3, 4), (2, 0));
        let error = Packet::error(router, kind, 1280, self.snat().ip(), &sent.ip());
        let world = self.balanced(REMOTE).flow(&self.flow(REMOTE), 0, 1);
        let to = client(self.family).ip();
        self.case("ICMP error about a remote flow", world, &error, (TX, to))
    }

    fn new_flow(&self, node: u8) -> Case {
        let packet = Packet::opening(Protocol::Tcp, client(self.family), self.vip()).payload(&DATA);
        let name = format!("new flow, {}", place(node));
        let then = then(node, self.backend(node).ip());
        Case {
            vary: Some(self.family.pick(34, 54)),
            most: Some(30.0),
            ..self.case(&name, self.balanced(node), &packet, then)
        }
    }
}

fn place(node: u8) -> &'static str {
    match node {
        1 => "local backend",
        _ => "remote backend",
    }
}

/// Packets to pods of this node go through its stack, others are sent at once.
fn then(node: u8, to: IpAddr) -> (u32, IpAddr) {
    let verdict = match node {
        1 => PASS,
        _ => TX,
    };
    (verdict, to)
}

/// Where all packets come in.
pub const PORT: Port = Port::Uplink;

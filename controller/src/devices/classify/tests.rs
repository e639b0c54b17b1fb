use super::super::Patterns;
use super::*;

/// A node under construction: devices get indices from 1 in order.
#[derive(Default)]
struct Node {
    inventory: Inventory,
}

impl Node {
    fn link(mut self, name: &str, kind: LinkKind) -> Self {
        let index = self.inventory.links.len() as u32 + 1;
        self.inventory.links.push(Link {
            index,
            name: name.into(),
            kind,
            ethernet: true,
            loopback: name == "lo",
            mtu: 1500,
            master: None,
            peer_elsewhere: kind == LinkKind::Pair,
        });
        self
    }

    fn last(&mut self) -> &mut Link {
        self.inventory.links.last_mut().unwrap()
    }

    fn index(&self, name: &str) -> u32 {
        let mut links = self.inventory.links.iter();
        links.find(|link| link.name == name).unwrap().index
    }

    fn port_of(mut self, master: &str) -> Self {
        let master = self.index(master);
        self.last().master = Some(master);
        self
    }

    fn here(mut self) -> Self {
        self.last().peer_elsewhere = false;
        self
    }

    fn without_ethernet(mut self) -> Self {
        self.last().ethernet = false;
        self
    }

    fn address(mut self, address: &str) -> Self {
        let (ip, len) = address.split_once('/').unwrap();
        let link = self.last().index;
        self.inventory.addresses.push(Address {
            link,
            ip: ip.parse().unwrap(),
            prefix_len: len.parse().unwrap(),
            preferred: true,
        });
        self
    }

    fn secondary(mut self, address: &str) -> Self {
        self = self.address(address);
        self.inventory.addresses.last_mut().unwrap().preferred = false;
        self
    }

    fn route(mut self, destination: &str, metric: u32) -> Self {
        let (ip, len) = destination.split_once('/').unwrap();
        let link = self.last().index;
        self.inventory.routes.push(Route {
            link,
            destination: (ip.parse().unwrap(), len.parse().unwrap()),
            source: None,
            metric,
        });
        self
    }

    fn source(mut self, source: &str) -> Self {
        self.inventory.routes.last_mut().unwrap().source = Some(source.parse().unwrap());
        self
    }

    fn lo() -> Self {
        Self::default()
            .link("lo", LinkKind::Nic)
            .address("127.0.0.1/8")
            .address("::1/128")
    }

    /// `lo` and an uplink with a default route.
    fn usual() -> Self {
        Self::lo()
            .link("eth0", LinkKind::Nic)
            .address("192.0.2.10/24")
            .address("2001:db8::10/64")
            .address("fe80::1/64")
            .route("0.0.0.0/0", 100)
            .route("::/0", 100)
    }

    fn devices(&self, options: &Options) -> Vec<NodeDevice> {
        classify(&self.inventory, options)
    }

    /// `eth0=uplink veth1=pod` …
    fn classes(&self, options: &Options) -> String {
        let word = |device: &NodeDevice| {
            let class = match device.class {
                DeviceClass::Uplink => "uplink",
                DeviceClass::BackendRoute => "route",
                DeviceClass::PodFacing => "pod",
            };
            format!("{}={class}", device.name)
        };
        let words: Vec<_> = self.devices(options).iter().map(word).collect();
        words.join(" ")
    }

    fn snat(&self, name: &str, options: &Options) -> (String, String) {
        let devices = self.devices(options);
        let device = devices.iter().find(|device| device.name == name).unwrap();
        let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        (
            text(device.snat_v4.map(Into::into)),
            text(device.snat_v6.map(Into::into)),
        )
    }
}

#[test]
fn devices_of_known_node_layouts_are_told_apart() {
    use LinkKind::{Bond, Bridge, Nic, Pair, Silent, Tap, Tunnel};
    let rows = [
        (
            "a card with the default route",
            Node::usual(),
            "eth0=uplink",
        ),
        (
            "routed pods: veths with a route to each, some with the pods' gateway",
            Node::usual()
                .link("cali1", Pair)
                .route("10.244.1.2/32", 0)
                .link("ptp1", Pair)
                .address("10.244.1.1/32")
                .route("10.244.1.3/32", 0)
                .link("lxc1", Pair)
                .address("fe80::1/64"),
            "eth0=uplink cali1=pod ptp1=pod lxc1=pod",
        ),
        (
            "bridged pods, also before the first one",
            Node::usual()
                .link("cni0", Bridge)
                .address("10.244.1.1/24")
                .route("10.244.1.0/24", 0)
                .link("veth1", Pair)
                .port_of("cni0")
                .link("docker0", Bridge)
                .address("172.17.0.1/16"),
            "eth0=uplink cni0=pod veth1=pod docker0=pod",
        ),
        (
            "a node in a container: its uplink is a veth",
            Node::lo()
                .link("eth0", Pair)
                .address("172.30.0.11/24")
                .route("0.0.0.0/0", 0)
                .link("eth1", Pair)
                .address("172.31.0.11/24")
                .link("veth1", Pair),
            "eth0=uplink eth1=uplink veth1=pod",
        ),
        (
            "an overlay, and a second one without Ethernet",
            Node::usual()
                .link("flannel.1", Tunnel)
                .address("10.244.1.0/32")
                .route("10.244.2.0/24", 0)
                .link("wg0", Tunnel)
                .without_ethernet()
                .route("10.245.0.0/16", 0)
                .link("gre0", Tunnel)
                .route("fe80::/64", 256)
                .link("sit0", Tunnel),
            "eth0=uplink flannel.1=route wg0=route",
        ),
        (
            "a bond: its ports are not looked at",
            Node::lo()
                .link("bond0", Bond)
                .address("192.0.2.10/24")
                .route("0.0.0.0/0", 0)
                .link("eth0", Nic)
                .port_of("bond0")
                .link("eth1", Nic)
                .port_of("bond0"),
            "bond0=uplink",
        ),
        (
            "an uplink that is a bridge, with virtual machines at it",
            Node::lo()
                .link("br0", Bridge)
                .address("192.0.2.10/24")
                .link("eth0", Nic)
                .port_of("br0")
                .link("tap0", Tap)
                .port_of("br0"),
            "br0=uplink tap0=pod",
        ),
        (
            "a second network with an address, a third without",
            Node::usual()
                .link("eth1", Nic)
                .address("10.0.0.10/24")
                .link("eth2", Nic)
                .route("10.9.0.0/16", 0)
                .link("eth3", Nic),
            "eth0=uplink eth1=uplink eth2=route",
        ),
        (
            "addresses of a DNS cache and of IPVS",
            Node::usual()
                .link("nodelocaldns", Silent)
                .address("169.254.20.10/32")
                .link("kube-ipvs0", Silent)
                .address("10.96.0.1/32"),
            "eth0=uplink",
        ),
        (
            "a veth pair of the host itself",
            Node::usual().link("a", Pair).here().link("b", Pair).here(),
            "eth0=uplink",
        ),
    ];
    for (what, node, wanted) in rows {
        assert_eq!(node.classes(&Options::default()), wanted, "{what}");
    }
}

#[test]
fn patterns_overrule_what_devices_look_like() {
    let node = || {
        Node::usual()
            .link("eth1", LinkKind::Nic)
            .address("10.0.0.10/24")
            .link("cni0", LinkKind::Bridge)
            .link("veth1", LinkKind::Pair)
            .port_of("cni0")
            .link("other1", LinkKind::Pair)
    };
    let rows = [
        (
            "",
            "",
            "eth0=uplink eth1=uplink cni0=pod veth1=pod other1=pod",
        ),
        ("eth0", "", "eth0=uplink cni0=pod veth1=pod other1=pod"),
        ("!eth1", "", "eth0=uplink cni0=pod veth1=pod other1=pod"),
        ("", "veth*", "eth0=uplink eth1=uplink cni0=pod veth1=pod"),
        ("", "!cni0,!veth1", "eth0=uplink eth1=uplink other1=pod"),
        ("eth0", "eth1", "eth0=uplink eth1=pod cni0=pod"),
        ("other1", "other*", "cni0=pod other1=uplink"),
        ("lo", "lo", "cni0=pod"),
    ];
    for (uplinks, pods, wanted) in rows {
        let options = Options {
            uplinks: uplinks.parse::<Patterns>().unwrap(),
            pods: pods.parse().unwrap(),
            ..Options::default()
        };
        assert_eq!(node().classes(&options), wanted, "{uplinks:?} {pods:?}");
    }
}

#[test]
fn programs_are_kept_from_devices_that_they_cannot_serve() {
    let node = Node::usual()
        .link("cni0", LinkKind::Bridge)
        .link("wg0", LinkKind::Tunnel)
        .without_ethernet()
        .route("10.0.0.0/8", 0);
    let obstacles: Vec<_> = node
        .devices(&Options::default())
        .iter()
        .map(|device| device.obstacle)
        .collect();
    let wanted = [None, Some(Obstacle::PortsDoIt), Some(Obstacle::NoEthernet)];
    assert_eq!(obstacles, wanted);
}

#[test]
fn flows_leave_with_an_address_of_their_device_or_of_the_node() {
    let node = Node::usual()
        .link("eth1", LinkKind::Nic)
        .secondary("10.0.0.9/24")
        .address("10.0.0.10/24")
        .link("veth1", LinkKind::Pair)
        .address("169.254.1.1/32");
    let options = Options::default();
    let wanted = |v4: &str, v6: &str| (v4.to_owned(), v6.to_owned());
    assert_eq!(
        node.snat("eth0", &options),
        wanted("192.0.2.10", "2001:db8::10")
    );
    assert_eq!(
        node.snat("eth1", &options),
        wanted("10.0.0.10", "2001:db8::10"),
        "a secondary address comes second"
    );
    assert_eq!(
        node.snat("veth1", &options),
        wanted("192.0.2.10", "2001:db8::10"),
        "a link-local address is none"
    );
    let options = Options {
        node_ips: ["192.0.2.99", "10.0.0.9"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        ..Options::default()
    };
    assert_eq!(
        node.snat("veth1", &options),
        wanted("10.0.0.9", "2001:db8::10"),
        "as told, but only an address that is there"
    );
}

#[test]
fn address_of_the_node_is_that_of_its_best_default_route() {
    let two = Node::lo()
        .link("eth0", LinkKind::Nic)
        .address("192.0.2.10/24")
        .route("0.0.0.0/0", 200)
        .link("eth1", LinkKind::Nic)
        .address("198.51.100.10/24")
        .route("0.0.0.0/0", 100)
        .link("veth1", LinkKind::Pair);
    assert_eq!(two.snat("veth1", &Options::default()).0, "198.51.100.10");
    let asked = Node::lo()
        .link("eth0", LinkKind::Nic)
        .address("192.0.2.10/24")
        .route("0.0.0.0/0", 0)
        .source("203.0.113.1")
        .link("veth1", LinkKind::Pair);
    assert_eq!(asked.snat("veth1", &Options::default()).0, "203.0.113.1");
    let loopback = Node::lo()
        .address("203.0.113.2/32")
        .link("eth0", LinkKind::Nic)
        .route("0.0.0.0/0", 0);
    assert_eq!(loopback.snat("eth0", &Options::default()).0, "203.0.113.2");
    let none = Node::lo().link("veth1", LinkKind::Pair);
    assert_eq!(none.snat("veth1", &Options::default()).0, "");
}

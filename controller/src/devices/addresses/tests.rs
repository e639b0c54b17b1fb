use super::super::{Address, Link, LinkKind, Route};
use super::*;

const LOCAL: u32 = NodeAddress::LOCAL;
const SERVED: u32 = NodeAddress::LOCAL | NodeAddress::NODE_PORTS;
const LOOPBACK: u32 = NodeAddress::LOCAL | NodeAddress::LOOPBACK;
const UNSPECIFIED: u32 = NodeAddress::LOOPBACK;

/// A node with two networks; the first has the default route.
fn node() -> Inventory {
    let link = |index, name: &str| Link {
        index,
        name: name.into(),
        kind: LinkKind::Nic,
        ethernet: true,
        loopback: name == "lo",
        mtu: 1500,
        master: None,
        peer_elsewhere: false,
    };
    let address = |link, ip: &str, prefix_len| Address {
        link,
        ip: ip.parse().unwrap(),
        prefix_len,
        preferred: true,
    };
    let default = |ip: IpAddr| Route {
        link: 2,
        destination: (ip, 0),
        source: None,
        metric: 0,
    };
    Inventory {
        links: vec![
            link(1, "lo"),
            link(2, "eth0"),
            link(3, "eth1"),
            link(4, "kube-ipvs0"),
        ],
        addresses: vec![
            address(1, "127.0.0.1", 8),
            address(1, "::1", 128),
            address(2, "192.0.2.10", 24),
            address(2, "2001:db8::10", 64),
            address(2, "fe80::1", 64),
            address(3, "10.0.0.10", 24),
            address(4, "10.96.0.1", 32),
        ],
        routes: vec![
            default(Ipv4Addr::UNSPECIFIED.into()),
            default(Ipv6Addr::UNSPECIFIED.into()),
        ],
    }
}

fn bits(node_ports: &str, localhost: bool) -> BTreeMap<String, u32> {
    let options = Options {
        node_ports: node_ports.parse().unwrap(),
        localhost_node_ports: localhost,
        ..Options::default()
    };
    let all = node_addresses(&node(), &options).into_iter();
    all.map(|(ip, bits)| (ip.to_string(), bits)).collect()
}

fn table(rows: &[(&str, u32)]) -> BTreeMap<String, u32> {
    let rows = rows.iter();
    rows.map(|(ip, bits)| ((*ip).to_owned(), *bits)).collect()
}

#[test]
fn node_ports_are_served_where_they_are_wanted() {
    let all = table(&[
        ("127.0.0.1", LOOPBACK),
        ("0.0.0.0", UNSPECIFIED),
        ("::1", LOOPBACK),
        ("::", UNSPECIFIED),
        ("192.0.2.10", SERVED),
        ("2001:db8::10", SERVED),
        ("fe80::1", LOCAL),
        ("10.0.0.10", SERVED),
    ]);
    assert_eq!(bits("", true), all);
    assert_eq!(bits("0.0.0.0/0,::/0", true), all, "a network of everything");
    let primary = table(&[
        ("127.0.0.1", LOCAL),
        ("::1", LOCAL),
        ("192.0.2.10", SERVED),
        ("2001:db8::10", SERVED),
        ("fe80::1", LOCAL),
        ("10.0.0.10", LOCAL),
    ]);
    assert_eq!(bits("primary", true), primary);
    let network = table(&[
        ("127.0.0.1", LOCAL),
        ("::1", LOOPBACK),
        ("::", UNSPECIFIED),
        ("192.0.2.10", LOCAL),
        ("2001:db8::10", SERVED),
        ("fe80::1", LOCAL),
        ("10.0.0.10", SERVED),
    ]);
    assert_eq!(bits("10.0.0.0/8", true), network, "of one family only");
}

#[test]
fn node_ports_at_loopback_can_be_switched_off() {
    let off = bits("", false);
    assert_eq!(off.get("127.0.0.1"), Some(&LOCAL));
    assert_eq!(off.get("::1"), Some(&LOCAL));
    assert_eq!(off.get("0.0.0.0"), None);
    assert_eq!(off.get("192.0.2.10"), Some(&SERVED));
}

#[test]
fn primary_is_not_mixed_with_networks() {
    assert!("primary,10.0.0.0/8".parse::<NodePortAddresses>().is_err());
    assert!("10.0.0.0".parse::<NodePortAddresses>().is_err());
    assert_eq!(" ".parse(), Ok(NodePortAddresses::All));
}

#[test]
fn j7_health_checks_are_answered_everywhere_or_where_node_ports_are_restricted_to() {
    let at = |node_ports: &str, inventory: &Inventory| {
        let options = Options {
            node_ports: node_ports.parse().unwrap(),
            ..Options::default()
        };
        let addresses = health_check_addresses(inventory, &options).into_iter();
        addresses.map(|ip| ip.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(at("", &node()), ["0.0.0.0", "::"]);
    assert_eq!(at("0.0.0.0/0,::/0", &node()), ["0.0.0.0", "::"]);
    assert_eq!(at("primary", &node()), ["192.0.2.10", "2001:db8::10"]);
    assert_eq!(at("10.0.0.0/8", &node()), ["10.0.0.10", "::"]);
    assert_eq!(at("127.0.0.0/8", &node()), ["127.0.0.1", "::"]);
    assert_eq!(at("203.0.113.0/24", &node()), ["::"]);
    let mut without_v6 = node();
    without_v6.addresses.retain(|address| address.ip.is_ipv4());
    assert_eq!(at("", &without_v6), ["0.0.0.0"]);
}

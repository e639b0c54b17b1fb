//! A controller and what happens to the devices of its node.

mod netns {
    use std::{collections::BTreeMap, fs, net::IpAddr};

    use lb_controller::maps::{Access, Maps};
    use lb_ebpf::abi::NodeAddress;

    use crate::{
        kernel::{device_links, tcx, xdp_mode},
        node::Node,
    };

    const ETH0: &str = "eth0 uplink tcx none";

    fn addresses(node: &Node) -> BTreeMap<IpAddr, u32> {
        let maps = Maps::open(&node.pinned().join("1"), Access::Read).expect("maps");
        let entries = maps.node_addresses.dump().expect("NODE_ADDRESSES");
        let entries = entries.into_iter();
        entries.map(|(addr, bits)| (addr.to_ip(), bits)).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn devices_that_come_and_go_are_followed() {
        let mut node = Node::new();
        node.veth("veth1");
        node.start("");
        node.shows(&[ETH0, "veth1 pod-facing tcx none"]);
        let both = |ingress: &str, egress: &str| [ingress, egress].map(|p| vec![p.to_owned()]);
        assert_eq!(tcx(&node, "eth0"), both("lb_ingress", "lb_egress"));
        assert_eq!(tcx(&node, "veth1"), both("lb_pod_ingress", "lb_pod_egress"));

        let before = node.device("veth1")["ifindex"].clone();
        node.ip("link del veth1");
        node.shows(&[ETH0]);
        assert_eq!(device_links(&node.pinned()).len(), 2, "its pins are gone");

        node.veth("veth1");
        node.shows(&[ETH0, "veth1 pod-facing tcx none"]);
        assert_ne!(node.device("veth1")["ifindex"], before);
        assert_eq!(tcx(&node, "veth1"), both("lb_pod_ingress", "lb_pod_egress"));

        node.ip("link add cni0 type bridge");
        node.ip("link set veth1 master cni0");
        node.ip("link set cni0 up");
        node.shows(&[
            ETH0,
            "veth1 pod-facing tcx none",
            "cni0 pod-facing none none",
        ]);
        assert_eq!(
            node.device("cni0")["reason"],
            "the programs are at its ports"
        );

        node.ip("link set eth0 mtu 1400");
        node.until("the MTU is followed", || {
            (node.device("eth0")["mtu"] == 1400).then_some(())
        });
    }

    #[test]
    fn addresses_that_come_and_go_are_followed() {
        let mut node = Node::new();
        node.start("");
        let served = NodeAddress::LOCAL | NodeAddress::NODE_PORTS;
        let loopback = NodeAddress::LOCAL | NodeAddress::LOOPBACK;
        let found = addresses(&node);
        assert_eq!(found.get(&ip("172.30.0.11")), Some(&served));
        assert_eq!(found.get(&ip("fd00:30::11")), Some(&served));
        assert_eq!(found.get(&ip("127.0.0.1")), Some(&loopback));
        assert_eq!(found.get(&ip("0.0.0.0")), Some(&NodeAddress::LOOPBACK));

        node.ip("addr add 172.30.1.99/24 dev eth0");
        node.until("the new address is served", || {
            (addresses(&node).get(&ip("172.30.1.99")) == Some(&served)).then_some(())
        });
        node.ip("addr del 172.30.0.11/24 dev eth0");
        node.until("the old address is gone, and not used any more", || {
            let gone = !addresses(&node).contains_key(&ip("172.30.0.11"));
            (gone && node.device("eth0")["snat_v4"] == "172.30.1.99").then_some(())
        });

        node.start("--nodeport-addresses fd00::/8,10.0.0.0/8 --localhost-nodeports false");
        let found = addresses(&node);
        assert_eq!(found.get(&ip("172.30.1.99")), Some(&NodeAddress::LOCAL));
        assert_eq!(found.get(&ip("fd00:30::11")), Some(&served));
        assert_eq!(found.get(&ip("127.0.0.1")), Some(&NodeAddress::LOCAL));
        assert_eq!(found.get(&ip("0.0.0.0")), None);
    }

    #[test]
    fn bursts_of_changes_end_in_what_is_there() {
        let mut node = Node::new();
        node.start("");
        let commands = |verb: &str| -> String {
            let line = |n| format!("addr {verb} 10.9.{}.{}/32 dev lo\n", n / 250, n % 250 + 1);
            (0..3000).map(line).collect()
        };
        let batch = node.source.join("batch");
        let counted = |node: &Node| {
            let burst = |ip: &IpAddr| ip.to_string().starts_with("10.9.");
            addresses(node).keys().filter(|ip| burst(ip)).count()
        };
        for (verb, left) in [("add", 3000), ("del", 0)] {
            fs::write(&batch, commands(verb)).expect("a batch");
            node.ip(&format!("-batch {}", batch.display()));
            node.until("the last change is followed", || {
                (counted(&node) == left).then_some(())
            });
        }
    }

    #[test]
    fn restart_replaces_programs_and_keeps_links() {
        let mut node = Node::new();
        node.veth("veth1");
        node.start("--xdp generic");
        let before = device_links(&node.pinned());
        assert_eq!(before.len(), 5);
        node.start("--xdp generic");
        let after = device_links(&node.pinned());
        assert_eq!(before.len(), after.len());
        for (name, old) in &before {
            assert_eq!(after[name].link, old.link, "{name}: another link");
            assert_ne!(after[name].program, old.program, "{name}: the old program");
        }

        // A device that is unplugged while no controller runs.
        node.kill();
        node.ip("link del veth1");
        node.start("--xdp generic");
        node.shows(&["eth0 uplink tcx generic"]);
        assert_eq!(device_links(&node.pinned()).len(), 3);
    }

    #[test]
    fn link_that_somebody_removed_is_made_anew() {
        let mut node = Node::new();
        node.start("");
        node.shows(&[ETH0]);
        let index = node.device("eth0")["ifindex"].clone();
        let name = format!("lb_ingress-tcx@{index}");
        let before = device_links(&node.pinned())[&name];
        fs::remove_file(node.pinned().join("links").join(&name)).expect("the pin");
        // Anything that happens makes the controller look.
        node.ip("link set eth0 mtu 1400");
        node.until("another link is there, and it alone", || {
            let links = device_links(&node.pinned());
            let found = links
                .get(&name)
                .is_some_and(|link| link.link != before.link);
            (found && tcx(&node, "eth0")[0] == ["lb_ingress"]).then_some(())
        });
    }

    #[test]
    fn xdp_runs_as_asked_for_and_not_otherwise() {
        let mut node = Node::new();
        node.veth("eth1");
        node.ip("addr add 172.31.0.11/24 dev eth1");
        let eth = |eth0: &str, eth1: &str| {
            [
                format!("eth0 uplink tcx {eth0}"),
                format!("eth1 uplink tcx {eth1}"),
            ]
        };
        let modes = |node: &Node| ["eth0", "eth1"].map(|device| xdp_mode(node, device));
        let redirects = |node: &Node| {
            ["eth0", "eth1"].map(|device| node.device(device)["xdp_redirect"] == true)
        };
        node.start("");
        assert_eq!(node.devices(), eth("none", "none"));
        let reason = "a veth gets native XDP only on request";
        assert_eq!(node.device("eth0")["reason"], reason);
        assert_eq!(modes(&node), [None, None]);
        assert_eq!(redirects(&node), [false, false]);

        node.start("--xdp generic");
        assert_eq!(node.devices(), eth("generic", "generic"));
        assert_eq!(modes(&node), [Some(2), Some(2)]);
        assert_eq!(redirects(&node), [true, true]);

        node.start("--xdp off --xdp-device eth1=native");
        assert_eq!(node.devices(), eth("none", "native"));
        assert_eq!(modes(&node), [None, Some(1)]);
        assert_eq!(redirects(&node), [false, true]);

        node.start("--xdp off");
        assert_eq!(node.devices(), eth("none", "none"));
        assert_eq!(modes(&node), [None, None]);
    }

    #[test]
    fn device_that_refuses_xdp_does_without_and_says_why() {
        let mut node = Node::new();
        node.ip("link add br0 type bridge");
        node.ip("addr add 172.31.0.11/24 dev br0");
        node.ip("link set br0 up");
        node.start("--uplink-devices eth0,br0 --xdp native");
        assert_eq!(
            node.devices(),
            ["eth0 uplink tcx native", "br0 uplink tcx none"]
        );
        let reason = node.device("br0")["reason"].to_string();
        assert!(reason.contains("not supported"), "{reason}");
        assert_eq!(node.device("eth0")["reason"], serde_json::Value::Null);
    }

    #[test]
    fn ports_of_snat_are_reserved_beside_those_of_others() {
        let mut node = Node::new();
        let sysctl = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        let reserve = format!("echo 8080 > {sysctl}");
        assert!(node.shell(&reserve).is_empty());
        node.start("--snat-ports 21000-21999");
        let reserved = || node.output("cat", sysctl).trim().to_owned();
        assert_eq!(reserved(), "8080,21000-21999");
        node.clean();
        let reserved = || node.output("cat", sysctl).trim().to_owned();
        assert_eq!(reserved(), "8080");
    }

    #[test]
    fn cleanup_leaves_nothing() {
        let mut node = Node::new();
        node.veth("veth1");
        node.start("--xdp native");
        node.shows(&["eth0 uplink tcx native", "veth1 pod-facing tcx none"]);
        node.clean();
        for device in ["eth0", "veth1"] {
            assert_eq!(
                tcx(&node, device).concat(),
                Vec::<String>::new(),
                "{device}"
            );
            assert_eq!(xdp_mode(&node, device), None, "{device}");
        }
        assert!(!node.pins.exists());
    }
}

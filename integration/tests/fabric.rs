//! What lies between nodes and outside clients: routes to virtual addresses, narrow paths,
//! cables that are pulled, and the packet filter of a CNI plugin.
//!
//! No service proxy runs here: what fails in this file is the harness, not the proxy.

use std::net::{IpAddr, SocketAddr};

use lb_integration::{
    Cluster,
    agent::{ServeOptions, dial::Dial, socket::ErrorKind, start_server},
    client::{Client, tcp},
    cluster::CniRules,
    ip::Batch,
};

const VIPS: [&str; 2] = ["203.0.113.7", "2001:db8:cb00::7"];

#[test]
fn the_fabric_routes_virtual_addresses_to_one_node_after_another() {
    let cluster = Cluster::builder().build().unwrap();
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    let _servers: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| {
            let mut batch = Batch::new();
            for vip in vips {
                batch.add(format!("addr add {vip} dev lo"));
            }
            node.netns().ip(&batch).unwrap();
            let tcp = vips.map(|vip| SocketAddr::new(vip, 80)).to_vec();
            let name = node.name().to_owned();
            let options = ServeOptions {
                name,
                tcp,
                ..ServeOptions::default()
            };
            start_server(&node.host(), &options).unwrap()
        })
        .collect();
    let mut client = Client::new(cluster.outside("user").unwrap().control().unwrap());
    for (number, node) in cluster.nodes().iter().enumerate() {
        for vip in vips {
            cluster.route_vip(vip, number).unwrap();
            assert_eq!(client.ask(&tcp(SocketAddr::new(vip, 80))), node.name());
        }
    }
}

#[test]
fn narrow_paths_are_discovered_in_both_directions() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let pod = cluster.pod(0, "server").create().unwrap();
    let _server = pod.serve(&[80], &[80]).unwrap();
    let outside = cluster.outside("user").unwrap();
    outside.limit_path_mtu(1_300).unwrap();
    pod.limit_path_mtu(1_400).unwrap();
    let mut client = Client::new(outside.control().unwrap());
    let large = "x".repeat(300_000);
    for address in pod.addresses() {
        let to = SocketAddr::new(address, 80);
        // Once the server knew its way to be narrow, it would say so in its SYN-ACK.
        let upload = tcp(to).request(format!("length {large}"));
        assert_eq!(client.ask(&upload), "300000");
        assert_eq!(client.ask(&tcp(to).request("body 300000")), large);
    }
    // Both ends have learned the width of their way to the other.
    let learned = |netns: &lb_integration::netns::Netns, to: IpAddr| {
        let family = if to.is_ipv4() { "-4" } else { "-6" };
        let arguments = [family, "route", "get", &to.to_string()];
        let route = netns.tool_output("ip", &arguments).unwrap();
        let mut words = route.split_whitespace().skip_while(|&word| word != "mtu");
        words.nth(1).map(str::to_owned)
    };
    for (pod_address, user) in pod.addresses().into_iter().zip(outside.addresses()) {
        let (there, back) = (&outside.placement().netns, &pod.placement().netns);
        assert_eq!(learned(there, pod_address).as_deref(), Some("1400"));
        assert_eq!(learned(back, user).as_deref(), Some("1300"));
    }
}

#[test]
fn a_node_is_unplugged_and_plugged_in_again() {
    let cluster = Cluster::builder().complete_checksums().build().unwrap();
    let pod = cluster.pod(1, "server").create().unwrap();
    let _server = pod.serve(&[80], &[]).unwrap();
    let mut client = Client::in_pod(cluster.pod(0, "client").create().unwrap()).unwrap();
    let dials: Vec<Dial> = pod
        .addresses()
        .iter()
        .map(|&address| tcp(SocketAddr::new(address, 80)))
        .collect();
    client.reaches_all(&dials, &["server"]);
    let cable = cluster.unplug(1).unwrap();
    client.fails_all(&dials);
    cluster.plug(1, &cable).unwrap();
    client.reaches_all(&dials, &["server"]);
}

#[test]
fn a_cnis_rules_masquerade_pods_and_keep_others_from_passing() {
    let cluster = Cluster::builder().build().unwrap();
    let rules = CniRules::install(cluster.node(0)).unwrap();
    let server = cluster.pod(1, "server").host_network().create().unwrap();
    let _server = server.serve(&[8080], &[]).unwrap();
    let mut client = Client::in_pod(cluster.pod(0, "client").create().unwrap()).unwrap();
    let node = cluster.node(0);
    for (address, seen) in server.addresses().into_iter().zip(node.addresses()) {
        let dial = tcp(SocketAddr::new(address, 8080));
        assert_eq!(client.source_seen(&dial), seen);
    }
    // A router hands the node a packet that is neither to nor from a pod.
    let stranger: IpAddr = "203.0.113.9".parse().unwrap();
    cluster.route_vip(stranger, 0).unwrap();
    let mut outside = Client::new(cluster.outside("user").unwrap().control().unwrap());
    let failure = outside
        .dial(&tcp(SocketAddr::new(stranger, 80)))
        .error
        .unwrap();
    assert_eq!(failure.kind, ErrorKind::Timeout);
    assert!(rules.dropped("stranger").unwrap() > 0);
    drop(rules);
    for (address, seen) in server
        .addresses()
        .into_iter()
        .zip(client.pod.as_ref().unwrap().addresses())
    {
        let dial = tcp(SocketAddr::new(address, 8080)).request("clientip");
        let seen = format!("{seen}");
        assert!(client.ask(&dial).contains(&seen));
    }
}

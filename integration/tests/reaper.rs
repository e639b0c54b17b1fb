//! Connected UDP sockets whose backend goes away are told at once, and no others (rule I7).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use lb_integration::{
    Cluster,
    agent::socket::{Family, Protocol},
    cluster::Pod,
    control::{Control, SocketId},
    objects::ControlPlane,
    process::Process,
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source},
    workload,
};
use serde_json::json;

/// How long a waiting socket may go without being told: a debug build on a busy machine
/// may still be loading the iterator.
const AT_ONCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(1);
const VIPS: [&str; 2] = ["10.96.0.53:53", "[fd00:96::53]:53"];

/// A node with two DNS-like servers behind one Service, and a client.
struct Setup {
    plane: ControlPlane,
    servers: Vec<Pod>,
    client: Pod,
    _processes: Vec<Process>,
    _proxy: ProxyUnderTest,
    cluster: Cluster,
}

impl Setup {
    fn new(arguments: &[&str]) -> Self {
        let cluster = Cluster::builder().nodes(1).build().unwrap();
        let servers: Vec<Pod> = ["first", "second"]
            .map(|name| cluster.pod(0, name).create().unwrap())
            .into();
        let client = cluster.pod(0, "client").create().unwrap();
        let processes = servers.iter().map(|s| s.serve(&[53], &[53]).unwrap());
        let processes = processes.collect();
        let directory = cluster.manifests().unwrap();
        let source = Source::Files(directory.path().to_owned());
        let mut plane = ControlPlane::new(Box::new(directory));
        plane
            .apply(&json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"namespace": "default", "name": "dns"},
                "spec": {
                    "selector": {"app": "dns"},
                    "clusterIP": "10.96.0.53", "clusterIPs": ["10.96.0.53", "fd00:96::53"],
                    "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                    "ports": [
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    ],
                },
            }))
            .unwrap();
        let pods = servers
            .iter()
            .map(|s| workload::Pod::of(s, "default", "dns"));
        plane.set_pods(pods).unwrap();
        let mut options = ProxyOptions::new(source);
        options.kind = Kind::Ours;
        options.arguments = arguments.iter().map(ToString::to_string).collect();
        let proxy = ProxyUnderTest::start(cluster.node(0), &options).unwrap();
        Self {
            plane,
            servers,
            client,
            _processes: processes,
            _proxy: proxy,
            cluster,
        }
    }
}

/// A client process with sockets through the VIPs, and some that go to pods directly.
struct Client {
    control: Control,
    /// By the server that answers.
    through_vip: BTreeMap<String, Vec<(SocketAddr, SocketId)>>,
    tcp: Vec<SocketId>,
    direct: Vec<SocketId>,
}

impl Client {
    fn new(mut control: Control, servers: &[Pod]) -> Self {
        let mut through_vip: BTreeMap<String, Vec<(SocketAddr, SocketId)>> = BTreeMap::new();
        let mut tcp = Vec::new();
        for vip in VIPS.map(|vip| vip.parse::<SocketAddr>().unwrap()) {
            // An IPv6 socket reaches the IPv4 address mapped.
            for family in [Family::of(vip.ip()), Family::V6] {
                // Servers are chosen by chance: all 16 at one happens once in 32,768 runs.
                for _ in 0..16 {
                    let socket = control.open(Protocol::Udp, family, None).unwrap().unwrap();
                    control.connect(socket, vip, PATIENCE).unwrap().unwrap();
                    let answer = control.ask(socket, "hostname").unwrap().unwrap();
                    through_vip
                        .entry(answer.data)
                        .or_default()
                        .push((vip, socket));
                }
            }
            for _ in 0..4 {
                tcp.push(control.connect_new(Protocol::Tcp, vip).unwrap().unwrap());
            }
        }
        for stream in &tcp {
            control.ask(*stream, "stream").unwrap().unwrap();
        }
        let mut direct = Vec::new();
        for address in servers.iter().flat_map(Pod::addresses) {
            let to = SocketAddr::new(address, 53);
            direct.push(control.connect_new(Protocol::Udp, to).unwrap().unwrap());
        }
        assert_eq!(through_vip.len(), 2, "both servers are in use");
        Self {
            control,
            through_vip,
            tcp,
            direct,
        }
    }

    /// All sockets of `server` get `errno` in time.
    fn sockets_of_are_told(&mut self, server: &str, errno: i32) {
        let deadline = Instant::now() + AT_ONCE;
        for (_, socket) in &self.through_vip[server] {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = left.max(Duration::from_millis(1));
            let told = self.control.receive(*socket, limit).unwrap().unwrap_err();
            assert_eq!(told.errno, Some(errno), "{told}");
        }
    }

    /// After the error the application connects the same sockets again.
    fn sockets_connect_again(&mut self, from: &str, to: &str) {
        for (vip, socket) in self.through_vip.remove(from).unwrap() {
            self.control
                .connect(socket, vip, PATIENCE)
                .unwrap()
                .unwrap();
            let answer = self.control.ask(socket, "hostname").unwrap().unwrap();
            assert_eq!(answer.data, to);
            self.through_vip.get_mut(to).unwrap().push((vip, socket));
        }
    }

    /// Nothing has happened to any of the sockets that are left.
    fn everything_works(&mut self) {
        for (name, sockets) in &self.through_vip {
            for (_, socket) in sockets {
                let answer = self.control.ask(*socket, "hostname").unwrap().unwrap();
                assert_eq!(&answer.data, name);
            }
        }
        for socket in &self.direct {
            self.control.ask(*socket, "hostname").unwrap().unwrap();
        }
        for stream in &self.tcp {
            let answer = self.control.ask(*stream, "still there").unwrap().unwrap();
            assert_eq!(answer.data, "still there");
        }
    }
}

fn sockets_of_a_gone_backend_are_told(
    arguments: &[&str],
    errno: i32,
    change: impl FnOnce(&mut ControlPlane),
) {
    let mut setup = Setup::new(arguments);
    let clients = [
        setup.client.control().unwrap(),
        setup.cluster.node(0).control().unwrap(),
    ];
    let mut clients = clients.map(|control| Client::new(control, &setup.servers));
    change(&mut setup.plane);
    for client in &mut clients {
        client.sockets_of_are_told("first", errno);
    }
    for client in &mut clients {
        client.sockets_connect_again("first", "second");
    }
    // The second look must not tell anyone either.
    thread::sleep(Duration::from_millis(1_300));
    for client in &mut clients {
        client.everything_works();
    }
}

#[test]
fn sockets_of_a_removed_backend_are_destroyed() {
    sockets_of_a_gone_backend_are_told(&[], libc::ECONNABORTED, |plane| {
        plane.remove_pods("default", &["first"]).unwrap();
    });
}

#[test]
fn sockets_of_a_backend_that_terminates_without_serving_are_destroyed() {
    sockets_of_a_gone_backend_are_told(&[], libc::ECONNABORTED, |plane| {
        let change = |pod: &mut workload::Pod| (pod.ready, pod.terminating) = (false, true);
        plane.change_pod("default", "first", change).unwrap();
    });
}

#[test]
fn sockets_are_told_by_icmp_where_namespaces_must_not_be_entered() {
    // The node's own sockets are not in another namespace, but the flag is about all.
    let arguments = ["--no-netns-walk"];
    sockets_of_a_gone_backend_are_told(&arguments, libc::ECONNREFUSED, |plane| {
        plane.remove_pods("default", &["first"]).unwrap();
    });
}

#[test]
fn sockets_of_a_backend_that_serves_while_it_terminates_are_left_alone() {
    let mut setup = Setup::new(&[]);
    let mut client = Client::new(setup.client.control().unwrap(), &setup.servers);
    let change = |pod: &mut workload::Pod| pod.terminating = true;
    setup.plane.change_pod("default", "first", change).unwrap();
    thread::sleep(Duration::from_millis(2_000));
    client.everything_works();
}

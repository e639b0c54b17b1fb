//! Two nodes with a backend each, three Services over both backends, and clients of each kind
//! at the first node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use lb_integration::{
    Cluster, PodNetwork,
    agent::{dial::Dial, socket::Protocol},
    client::{Client, tcp},
    cluster::{Outside, Pod},
    objects::{ControlPlane, Objects},
    patience::{CHANGE_LIMIT, wait},
    process::Process,
    proxy::{ProxyOptions, ProxyUnderTest, Source, lbctl},
    workload::{self, Service},
};
use serde_json::json;

/// How long proxies may take to start: kernels verify large programs slowly.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Connections after which a set of backends counts as complete.
const TRIES: usize = 24;

/// The Services: by their policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policies {
    Cluster,
    ExternalLocal,
    InternalLocal,
}

impl Policies {
    pub(crate) const ALL: [Self; 3] = [Self::Cluster, Self::ExternalLocal, Self::InternalLocal];
}

/// Kinds of addresses of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    ClusterIp,
    /// At the first node.
    NodePort,
    LoadBalancer,
}

/// Where a client is; all are at the first node but the one outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Pod,
    /// Its sockets have no hooks: its packets are translated.
    PodWithoutHooks,
    Node,
    Outside,
}

/// Whose address a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SeenAs {
    /// The client's own.
    Own,
    /// One of the first node, which is not the client's own.
    Node,
    Other(IpAddr),
}

/// The scene; see the module's documentation. Fields drop in order.
pub(crate) struct Stage {
    pub(crate) pod: Client,
    pub(crate) pod_without_hooks: Client,
    pub(crate) node: Client,
    pub(crate) user: Client,
    outside: Outside,
    servers: Vec<(Process, Pod)>,
    pub(crate) control_plane: ControlPlane,
    proxies: Vec<ProxyUnderTest>,
    pub(crate) cluster: Cluster,
}

fn number(policies: Policies) -> u8 {
    policies as u8 + 1
}

/// Both addresses of a kind, IPv4 first; node ports as at the first node.
fn ips(policies: Policies, address: Address, node: &[IpAddr]) -> [IpAddr; 2] {
    let n = number(policies);
    match address {
        Address::ClusterIp => [
            Ipv4Addr::new(10, 96, 1, n).into(),
            Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 1, u16::from(n)).into(),
        ],
        Address::LoadBalancer => [
            Ipv4Addr::new(192, 0, 2, n).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(n)).into(),
        ],
        Address::NodePort => [node[0], node[1]],
    }
}

/// A Service of these policies; port 80, and a node port, over all backends.
pub(crate) fn service(policies: Policies) -> Service {
    let [v4, v6] = ips(policies, Address::ClusterIp, &[]);
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else {
        unreachable!("IPv4 first");
    };
    let name = format!("svc-{}", number(policies));
    let service = Service::new("default", &name, v4, v6)
        .spec("selector", json!({"app": "web"}))
        .port("tcp", 80, 80, "TCP")
        .port("udp", 80, 80, "UDP")
        .node_port("tcp", node_port(policies))
        .node_port("udp", node_port(policies))
        .load_balancer(&ips(policies, Address::LoadBalancer, &[]));
    match policies {
        Policies::Cluster => service,
        Policies::ExternalLocal => service.external_local(),
        Policies::InternalLocal => service.spec("internalTrafficPolicy", "Local"),
    }
}

pub(crate) fn node_port(policies: Policies) -> u16 {
    30_080 + u16::from(number(policies))
}

impl Stage {
    /// With proxies started with these further arguments.
    pub(crate) fn new(pods: PodNetwork, arguments: &[&str]) -> Self {
        Self::with_objects(pods, arguments, &[])
    }

    /// The same with further objects, which are there before the proxies.
    pub(crate) fn with_objects(
        pods: PodNetwork,
        arguments: &[&str],
        objects: &[serde_json::Value],
    ) -> Self {
        let builder = Cluster::builder().nodes(2).pod_network(pods);
        let cluster = builder.build().unwrap();
        let manifests = cluster.manifests().unwrap();
        for node in cluster.nodes() {
            let mut object = node.object();
            let third = node.number();
            object["spec"] = json!({
                "podCIDRs": [format!("10.244.{third}.0/24"), format!("fd00:244:{third}::/64")],
            });
            manifests.apply(&object).unwrap();
        }
        for object in objects {
            manifests.apply(object).unwrap();
        }
        let mut options = ProxyOptions::new(Source::Files(manifests.path().to_owned()));
        options.arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let launch = |node| ProxyUnderTest::launch(node, &options).unwrap();
        let mut proxies: Vec<_> = cluster.nodes().iter().map(|node| launch(node)).collect();
        let mut control_plane = ControlPlane::new(Box::new(manifests));
        let mut servers = Vec::new();
        for (node, name) in [(0, "local"), (1, "remote")] {
            let pod = cluster.pod(node, name).create().unwrap();
            let server = pod.serve(&[80], &[80]).unwrap();
            let record = workload::Pod::of(&pod, "default", "web");
            control_plane.set_pods([record]).unwrap();
            servers.push((server, pod));
        }
        for policies in Policies::ALL {
            control_plane.apply(service(policies).object()).unwrap();
            for address in [Address::ClusterIp, Address::LoadBalancer] {
                for ip in ips(policies, address, &[]) {
                    cluster.route_vip(ip, 0).unwrap();
                }
            }
        }
        for (node, proxy) in cluster.nodes().iter().zip(&mut proxies) {
            proxy.wait_healthy(node, START_LIMIT).unwrap();
        }
        let outside = cluster.outside("user").unwrap();
        let client = |name: &str| cluster.pod(0, name);
        Self {
            pod: Client::in_pod(client("client").create().unwrap()).unwrap(),
            pod_without_hooks: {
                let pod = client("bare").without_socket_hooks().create().unwrap();
                Client::in_pod(pod).unwrap()
            },
            node: Client::new(cluster.node(0).control().unwrap()),
            user: Client::new(outside.control().unwrap()),
            outside,
            servers,
            control_plane,
            proxies,
            cluster,
        }
    }

    pub(crate) fn client(&mut self, place: Place) -> &mut Client {
        match place {
            Place::Pod => &mut self.pod,
            Place::PodWithoutHooks => &mut self.pod_without_hooks,
            Place::Node => &mut self.node,
            Place::Outside => &mut self.user,
        }
    }

    /// Where a Service is dialled, IPv4 first.
    pub(crate) fn at(&self, policies: Policies, address: Address) -> [SocketAddr; 2] {
        let port = match address {
            Address::NodePort => node_port(policies),
            _ => 80,
        };
        let node = self.cluster.node(0).addresses();
        ips(policies, address, &node).map(|ip| SocketAddr::new(ip, port))
    }

    fn source(&self, place: Place, seen: IpAddr) -> SeenAs {
        let node = self.cluster.node(0);
        let own = match place {
            Place::Pod => self.pod.pod.as_ref().unwrap().addresses(),
            Place::PodWithoutHooks => self.pod_without_hooks.pod.as_ref().unwrap().addresses(),
            Place::Node => node.addresses(),
            Place::Outside => self.outside.addresses(),
        };
        if own.contains(&seen) {
            return SeenAs::Own;
        }
        // Addresses of the pods' gateways are the node's, too.
        let gateway = match seen {
            IpAddr::V4(v4) => v4.octets() == [10, 244, node.number(), 1],
            IpAddr::V6(v6) => v6.segments()[7] == 1 && v6.segments()[1] == 0x244,
        };
        match (node.addresses().contains(&seen) || gateway, place) {
            (true, Place::Node) => SeenAs::Own,
            (true, _) => SeenAs::Node,
            (false, _) => SeenAs::Other(seen),
        }
    }

    /// Who answers at an address, and whose address they see; waits until the backends are
    /// `wanted`, for the proxies to follow.
    pub(crate) fn answers(
        &mut self,
        place: Place,
        to: SocketAddr,
        wanted: &BTreeSet<String>,
    ) -> BTreeMap<String, SeenAs> {
        let mut seen = BTreeMap::new();
        // Whoever answers instead is the caller's to judge.
        let _late = wait(CHANGE_LIMIT, || {
            seen = self.once(place, to);
            let right = seen.keys().eq(wanted);
            right.then_some(()).ok_or_else(String::new)
        });
        seen
    }

    fn once(&mut self, place: Place, to: SocketAddr) -> BTreeMap<String, SeenAs> {
        let mut seen = BTreeMap::new();
        for _ in 0..TRIES {
            let control = &mut self.client(place).control;
            let Ok(socket) = control.connect_new(Protocol::Tcp, to).unwrap() else {
                continue;
            };
            control.abort_on_close(socket).unwrap().unwrap();
            let name = control.ask(socket, "hostname").unwrap();
            let from = control.ask(socket, "clientip").unwrap();
            control.close(socket).unwrap().unwrap();
            if let (Ok(name), Ok(from)) = (name, from) {
                let from: SocketAddr = from.data.parse().unwrap();
                let source = self.source(place, from.ip().to_canonical());
                let before = seen.insert(name.data.clone(), source);
                assert!(
                    before.is_none_or(|before| before == source),
                    "{} sees {place:?} as {before:?} and {source:?}",
                    name.data
                );
            }
        }
        seen
    }

    /// A dial to a port of a Service's ClusterIPs.
    pub(crate) fn cluster_ips(policies: Policies, port: u16) -> [SocketAddr; 2] {
        ips(policies, Address::ClusterIp, &[]).map(|ip| SocketAddr::new(ip, port))
    }

    /// `lbctl` at the first node.
    pub(crate) fn lbctl(&self, arguments: &[&str]) -> String {
        lbctl(self.cluster.node(0), arguments).unwrap()
    }

    /// What the proxies have to say.
    pub(crate) fn explain(&self) -> String {
        let words = self.proxies.iter().map(|proxy| proxy.recent_output(15));
        let servers = self.servers.len();
        format!(
            "{servers} servers; {}",
            words.collect::<Vec<_>>().join("\n")
        )
    }
}

/// A dial that gives up soon.
pub(crate) fn quick(to: SocketAddr) -> Dial {
    tcp(to).timeout(Duration::from_millis(400))
}

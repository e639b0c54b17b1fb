//! A cluster with proxies, a client outside, and addresses that are routed to the first node.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use lb_integration::{
    Cluster, PodNetwork,
    client::{Client, tcp, udp},
    cluster::{Outside, Pod},
    objects::{ControlPlane, Objects},
    process::Process,
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source, lbctl},
    workload::{self, Service},
};

/// The Kubernetes namespace of all objects.
const NAMESPACE: &str = "default";
/// Where hosts serve; pods serve on port 80.
const HOST_PORT: u16 = 18_080;

/// How long proxies may take to start: kernels verify large programs slowly.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How the proxy takes packets from a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Xdp {
    Native,
    Generic,
    Off,
}

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) xdp: Xdp,
    pub(crate) pods: PodNetwork,
    pub(crate) overlay: bool,
    pub(crate) nodes: u8,
}

/// The scene of one test. Pods go before the cluster they are part of: fields drop in order.
pub(crate) struct Stage {
    pub(crate) profile: Profile,
    /// A client outside.
    pub(crate) user: Client,
    /// Where it is.
    pub(crate) outside: Outside,
    pub(crate) control_plane: ControlPlane,
    backends: Vec<Backend>,
    pub(crate) proxies: Vec<ProxyUnderTest>,
    options: ProxyOptions,
    next: u8,
    pub(crate) cluster: Cluster,
}

/// A pod that serves TCP and UDP under its name.
pub(crate) struct Backend {
    pub(crate) server: Process,
    pub(crate) pod: Pod,
}

/// Addresses of one Service under which outside clients reach it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frontends {
    pub(crate) node_port: u16,
    pub(crate) load_balancer: [IpAddr; 2],
    pub(crate) external: [IpAddr; 2],
}

// === impl Xdp ===

impl Xdp {
    fn flag(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            xdp: Xdp::Native,
            pods: PodNetwork::Routed,
            overlay: false,
            nodes: 2,
        }
    }
}

// === impl Stage ===

impl Stage {
    /// Builds the cluster and starts its proxies, with further arguments.
    pub(crate) fn new(profile: Profile, arguments: &[&str]) -> Self {
        let builder = Cluster::builder()
            .nodes(profile.nodes)
            .pod_network(profile.pods);
        let builder = if profile.overlay {
            builder.overlay()
        } else {
            builder
        };
        let builder = match profile.xdp {
            // Without XDP, packets are as long and as unfinished as hosts hand them on.
            Xdp::Off => builder,
            Xdp::Native | Xdp::Generic => builder.complete_checksums(),
        };
        let cluster = builder.build().unwrap();
        let manifests = cluster.manifests().unwrap();
        for node in cluster.nodes() {
            manifests.apply(&node.object()).unwrap();
        }
        let mut options = ProxyOptions::new(Source::Files(manifests.path().to_owned()));
        options.arguments = ["--xdp", profile.xdp.flag()]
            .iter()
            .chain(arguments)
            .map(|&argument| argument.to_owned())
            .collect();
        let launch = |node| ProxyUnderTest::launch(node, &options).unwrap();
        let mut proxies: Vec<_> = cluster.nodes().iter().map(|node| launch(node)).collect();
        for (node, proxy) in cluster.nodes().iter().zip(&mut proxies) {
            proxy.wait_healthy(node, START_LIMIT).unwrap();
        }
        let outside = cluster.outside("user").unwrap();
        Self {
            profile,
            user: Client::new(outside.control().unwrap()),
            outside,
            control_plane: ControlPlane::new(Box::new(manifests)),
            backends: Vec::new(),
            proxies,
            options,
            next: 0,
            cluster,
        }
    }

    /// A stage that the tests of this binary use one after the other: starting proxies takes
    /// long. Nothing drops it; the harness removes its cluster when the process ends.
    pub(crate) fn shared(xdp: Xdp) -> MutexGuard<'static, Self> {
        static NATIVE: OnceLock<Mutex<Stage>> = OnceLock::new();
        static GENERIC: OnceLock<Mutex<Stage>> = OnceLock::new();
        static OFF: OnceLock<Mutex<Stage>> = OnceLock::new();
        let cell = match xdp {
            Xdp::Native => &NATIVE,
            Xdp::Generic => &GENERIC,
            Xdp::Off => &OFF,
        };
        let profile = Profile {
            xdp,
            ..Profile::default()
        };
        let stage = cell.get_or_init(|| Mutex::new(Self::new(profile, &[])));
        // A test that failed has left its own objects behind, which bother nobody.
        stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the proxy is ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.options.kind == Kind::Ours
    }

    /// A pod that serves on port 80, published under its name.
    pub(crate) fn backend(&mut self, node: usize, name: &str) {
        let pod = self.cluster.pod(node, name).create().unwrap();
        self.serve_and_publish(pod, 80);
    }

    /// A host-network pod that serves on a port of its own, published under its name.
    pub(crate) fn host_backend(&mut self, node: usize, name: &str) {
        let pod = self
            .cluster
            .pod(node, name)
            .host_network()
            .create()
            .unwrap();
        self.serve_and_publish(pod, HOST_PORT);
    }

    /// Lets a pod serve on this port, published under its name.
    pub(crate) fn serve_and_publish(&mut self, pod: Pod, port: u16) {
        let server = pod.serve(&[port], &[port]).unwrap();
        self.publish(&pod, pod.name());
        self.backends.push(Backend { server, pod });
    }

    /// Makes a pod an endpoint of the Services that select `app`.
    pub(crate) fn publish(&mut self, pod: &Pod, app: &str) {
        let port = if pod.is_host_network() { HOST_PORT } else { 80 };
        let record = workload::Pod::of(pod, NAMESPACE, app)
            .port("tcp", port, "TCP")
            .port("udp", port, "UDP");
        self.control_plane.set_pods([record]).unwrap();
    }

    /// Makes the control plane forget pods; they go on serving.
    pub(crate) fn withdraw(&mut self, names: &[&str]) {
        self.control_plane.remove_pods(NAMESPACE, names).unwrap();
    }

    /// Makes a backend an endpoint of the Services that select `app`, instead of those that
    /// select its name.
    pub(crate) fn select(&mut self, name: &str, app: &str) {
        let change = |pod: &mut workload::Pod| {
            pod.labels.insert("app".to_owned(), app.to_owned());
        };
        let changed = self.control_plane.change_pod(NAMESPACE, name, change);
        changed.unwrap();
    }

    /// Kills all proxies, which leaves no chance to tidy up.
    pub(crate) fn kill_proxies(&mut self) {
        for mut proxy in self.proxies.drain(..) {
            proxy.process().kill();
        }
    }

    /// Starts proxies where there are none.
    pub(crate) fn start_proxies(&mut self) {
        let nodes = self.cluster.nodes();
        let start = |node| ProxyUnderTest::launch(node, &self.options).unwrap();
        self.proxies = nodes.iter().map(|node| start(node)).collect();
        for (node, proxy) in nodes.iter().zip(&mut self.proxies) {
            proxy.wait_healthy(node, START_LIMIT).unwrap();
        }
    }

    /// The backend of this name.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        let found = self.backends.iter().find(|b| b.pod.name() == name);
        &found.unwrap().pod
    }

    /// Ends the server of a backend, which stays published.
    pub(crate) fn stop(&mut self, name: &str) {
        let found = self.backends.iter_mut().find(|b| b.pod.name() == name);
        found.unwrap().server.kill();
    }

    /// Takes a backend and the Services that selected it away.
    pub(crate) fn clear(&mut self, name: &str, services: &[&Service]) {
        for service in services {
            self.delete(service);
        }
        self.withdraw(&[name]);
        self.backends.retain(|backend| backend.pod.name() != name);
    }

    /// A Service that selects the pods published as `app`, under every kind of address, TCP and
    /// UDP; not yet applied. Its virtual addresses are routed to the first node.
    pub(crate) fn service(&mut self, name: &str, app: &str) -> (Service, Frontends) {
        self.next += 1;
        let n = self.next;
        let [low, high] = [n, 128 + n];
        let frontends = Frontends {
            node_port: 30_000 + u16::from(n),
            load_balancer: [vip_v4(low), vip_v6(low)],
            external: [vip_v4(high), vip_v6(high)],
        };
        for vip in frontends
            .load_balancer
            .into_iter()
            .chain(frontends.external)
        {
            self.cluster.route_vip(vip, 0).unwrap();
        }
        let v4 = Ipv4Addr::new(10, 96, 1, n);
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 1, u16::from(n));
        let service = Service::new(NAMESPACE, name, v4, v6)
            .port("tcp", 80, "tcp", "TCP")
            .port("udp", 80, "udp", "UDP")
            .node_port("tcp", frontends.node_port)
            .node_port("udp", frontends.node_port)
            .load_balancer(&frontends.load_balancer)
            .external_ips(&frontends.external)
            .spec("selector", serde_json::json!({"app": app}));
        (service, frontends)
    }

    pub(crate) fn apply(&mut self, service: &Service) {
        self.control_plane.apply(service.object()).unwrap();
    }

    pub(crate) fn delete(&mut self, service: &Service) {
        self.control_plane.delete(service.object()).unwrap();
    }

    /// A Service of its own over one backend, which the client outside reaches.
    pub(crate) fn serving(&mut self, node: usize, name: &str) -> (Service, Frontends) {
        self.backend(node, name);
        let (service, frontends) = self.service(name, name);
        self.apply(&service);
        self.wait_for(&frontends, name);
        (service, frontends)
    }

    /// Waits until the client outside reaches a backend everywhere.
    pub(crate) fn wait_for(&mut self, frontends: &Frontends, name: &str) {
        for (_, to) in self.addresses(frontends) {
            self.user.reaches(&tcp(to), &[name]);
            self.user.reaches(&udp(to), &[name]);
        }
    }

    /// The node's addresses with a port.
    pub(crate) fn node_port(&self, node: usize, port: u16) -> [SocketAddr; 2] {
        let node = self.cluster.node(node);
        let v6 = IpAddr::V6(node.v6().unwrap());
        [node.v4().into(), v6].map(|address: IpAddr| SocketAddr::new(address, port))
    }

    /// Everywhere the first node serves the Service, with what the address is.
    pub(crate) fn addresses(&self, frontends: &Frontends) -> Vec<(&'static str, SocketAddr)> {
        let with_port = |kind, ips: [IpAddr; 2]| ips.map(|ip| (kind, SocketAddr::new(ip, 80)));
        let node_port = self.node_port(0, frontends.node_port);
        let mut all = node_port.map(|to| ("NodePort", to)).to_vec();
        all.extend(with_port("load-balancer IP", frontends.load_balancer));
        all.extend(with_port("external IP", frontends.external));
        all
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for (node, proxy) in self.cluster.nodes().iter().zip(&self.proxies) {
            eprintln!("--- proxy of {}:\n{}", node.name(), proxy.recent_output(15));
            match lbctl(node, &["status"]) {
                Ok(text) => eprintln!("--- lbctl status on {}:\n{text}", node.name()),
                Err(error) => eprintln!("--- no lbctl on {}: {error:#}", node.name()),
            }
        }
    }
}

fn vip_v4(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).into()
}

fn vip_v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xcb00, 0, 0, 0, 0, u16::from(n)).into()
}

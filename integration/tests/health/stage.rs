//! A cluster with a proxy on each node, a pod that serves, and places to ask from.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lb_integration::{
    Cluster,
    apiserver::{self, ApiServer},
    cluster::{Outside, Pod},
    objects::{Api, ControlPlane, Objects},
    process::{Placement, Process},
    proxy::{ProxyOptions, ProxyUnderTest, Source},
    workload::{self, Service},
};

/// The Service's health-check node port.
pub(crate) const HEALTH: u16 = 32_100;
/// Its node port.
pub(crate) const NODE_PORT: u16 = 30_100;
const HEALTHZ: u16 = 10_256;
const METRICS: u16 = 10_249;

/// Where proxies take their objects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Files,
    Api,
}

pub(crate) struct Stage {
    pub(crate) proxies: Vec<ProxyUnderTest>,
    servers: Vec<(Process, Pod)>,
    /// A pod of the last node that serves nothing.
    pub(crate) client: Pod,
    pub(crate) outside: Outside,
    pub(crate) control_plane: ControlPlane,
    pub(crate) api: Option<Arc<ApiServer>>,
    pub(crate) options: ProxyOptions,
    pub(crate) cluster: Cluster,
}

impl Stage {
    /// Every node has its Node object and a healthy proxy.
    pub(crate) fn new(nodes: u8, from: From, arguments: &[&str]) -> Self {
        let mut stage = Self::without_proxies(nodes, from, arguments);
        for index in 0..nodes {
            let node = stage.cluster.node(usize::from(index));
            stage.control_plane.apply(&node.object()).unwrap();
        }
        stage.launch();
        for (node, proxy) in stage.cluster.nodes().iter().zip(&mut stage.proxies) {
            proxy.wait_healthy(node, Duration::from_secs(60)).unwrap();
        }
        stage
    }

    /// Nothing is known of the nodes, and nothing runs.
    pub(crate) fn without_proxies(nodes: u8, from: From, arguments: &[&str]) -> Self {
        let cluster = Cluster::builder()
            .nodes(nodes)
            .dual_stack()
            .build()
            .unwrap();
        let (objects, source, api): (Box<dyn Objects>, _, _) = match from {
            From::Files => {
                let manifests = cluster.manifests().unwrap();
                let source = Source::Files(manifests.path().to_owned());
                (Box::new(manifests), source, None)
            }
            From::Api => {
                let (server, kubeconfig) =
                    cluster.api_server(apiserver::Options::default()).unwrap();
                let api = Api::new(Arc::clone(&server));
                (Box::new(api), Source::Kubeconfig(kubeconfig), Some(server))
            }
        };
        let mut options = ProxyOptions::new(source);
        options.arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let last = usize::from(nodes) - 1;
        Self {
            proxies: Vec::new(),
            servers: Vec::new(),
            client: cluster.pod(last, "client").create().unwrap(),
            outside: cluster.outside("user").unwrap(),
            control_plane: ControlPlane::new(objects),
            api,
            options,
            cluster,
        }
    }

    /// Starts the proxies, without waiting.
    pub(crate) fn launch(&mut self) {
        let nodes = self.cluster.nodes().iter();
        let launched = nodes.map(|node| ProxyUnderTest::launch(node, &self.options).unwrap());
        self.proxies = launched.collect();
    }

    /// `default/web`: a load balancer with policy Local and a health check, not yet applied.
    pub(crate) fn checked() -> Service {
        let v4 = Ipv4Addr::new(10, 96, 0, 100);
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x100);
        let vips: [IpAddr; 2] = [
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).into(),
        ];
        Service::new("default", "web", v4, v6)
            .port("", 80, 80, "TCP")
            .node_port("", NODE_PORT)
            .load_balancer(&vips)
            .external_local()
            .spec("healthCheckNodePort", HEALTH)
    }

    /// A pod that serves `default/web`, ready.
    pub(crate) fn serve(&mut self, node: usize, name: &str) {
        let pod = self.cluster.pod(node, name).create().unwrap();
        let server = pod.serve(&[80], &[80]).unwrap();
        let record = workload::Pod::of(&pod, "default", "web");
        self.control_plane.set_pods([record]).unwrap();
        self.servers.push((server, pod));
    }

    /// Where requests come from: a pod, the host of the first node, outside.
    pub(crate) fn everywhere(&self) -> [Placement; 3] {
        [
            self.client.placement().clone(),
            self.cluster.node(0).host(),
            self.outside.placement().clone(),
        ]
    }

    /// Both addresses of a node with a port.
    pub(crate) fn at(&self, node: usize, port: u16) -> Vec<SocketAddr> {
        let addresses = self.cluster.node(node).addresses().into_iter();
        addresses.map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// `/healthz` of the first node.
    pub(crate) fn healthz(&self) -> SocketAddr {
        (self.cluster.node(0).v4(), HEALTHZ).into()
    }

    /// What the first node's metrics server has at a path.
    pub(crate) fn operator(&self, path: &str) -> (u16, String) {
        let address = (Ipv4Addr::LOCALHOST, METRICS).into();
        self.cluster.node(0).http_get(address, path).unwrap()
    }

    /// The sum of a metric's samples whose line contains `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.operator("/metrics");
        let samples = text.lines().filter(|line| {
            let after = line.strip_prefix(name);
            after.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// [`Stage::metric`] of what counts.
    pub(crate) fn count(&self, name: &str, labels: &str) -> u64 {
        self.metric(name, labels) as u64
    }

    /// The last lines of the first node's proxy.
    pub(crate) fn output(&self) -> String {
        self.proxies[0].recent_output(60)
    }
}

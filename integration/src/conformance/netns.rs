//! The site out of network namespaces: three nodes, a client outside, a proxy on each node.
//!
//! Objects go to a directory, to a stand-in API server, or to the API server of a kubeconfig.

mod plane;
mod remote;

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::{
    plane::{Own, Plane},
    remote::Remote,
};
use super::{
    Needs, Site,
    site::{Place, PodSpec, SiteNode, SitePod},
};
use crate::{
    Cluster,
    agent::ServeOptions,
    apiserver::{self, Cidr},
    cluster::{self, Builder, Families, Outside},
    control::Control,
    objects::{Api, ControlPlane, Http, Kubeconfig, Objects},
    process::{Placement, Process},
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source, lbctl},
    teardown::working_directory,
    workload,
};

const NODES: u8 = 3;
/// Where ClusterIPs come from, unless an API server of somebody else's says so.
const OWN_RANGES: (&str, &str) = ("10.96.0.0/16", "fd00:96::/112");
/// How long a proxy may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a site out of namespaces is like.
#[derive(Clone, Debug)]
pub struct NetnsOptions {
    /// Its address families.
    pub families: Families,
    /// How objects reach the proxies.
    pub delivery: Delivery,
    /// Instead: the API server of this kubeconfig, whose controllers make the EndpointSlices.
    pub kubeconfig: Option<PathBuf>,
    /// What the proxies use instead, with credentials of their own.
    pub proxy_kubeconfig: Option<PathBuf>,
    /// The proxy under test.
    pub proxy: Kind,
}

/// How objects reach the proxies of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// As manifests in a directory.
    #[default]
    Files,
    /// From a stand-in API server.
    Api,
}

/// The cluster. It may live in a static, which nothing drops: then it is removed when the process
/// ends.
pub struct NetnsSite {
    proxies: Mutex<Vec<ProxyUnderTest>>,
    plane: Box<dyn Plane>,
    outside: Outside,
    cluster: Cluster,
    /// Whether ClusterIPs may be any.
    any_cluster_ip: bool,
    service_ranges: (Cidr, Cidr),
    next_ip: AtomicU16,
    next_node_port: AtomicU16,
    next_vip: AtomicU8,
}

// === impl NetnsSite ===

impl NetnsSite {
    /// What sites of this kind have, with these families.
    pub fn would_offer(families: Families, need: Needs) -> bool {
        match need {
            Needs::V4 => families.has_v4(),
            Needs::V6 => families.has_v6(),
            Needs::Namespaces
            | Needs::Outside
            | Needs::Routes
            | Needs::AnyClusterIp
            | Needs::Zones => true,
        }
    }

    /// Builds the cluster, starts the proxies and waits until they are healthy.
    pub fn build(options: &NetnsOptions) -> Result<Self> {
        match &options.kubeconfig {
            Some(file) => Self::with_objects_at(file, options),
            None => Self::with_own_objects(options),
        }
    }

    fn with_own_objects(options: &NetnsOptions) -> Result<Self> {
        let cluster = builder(options).build()?;
        let (objects, source) = delivery(&cluster, options.delivery)?;
        for node in cluster.nodes() {
            objects.apply(&node.object())?;
        }
        let plane = Box::new(Own::new(ControlPlane::new(objects)));
        let ranges = (OWN_RANGES.0.parse()?, OWN_RANGES.1.parse()?);
        let proxies = start_proxies(&cluster, source, &options.proxy)?;
        Ok(Self {
            any_cluster_ip: true,
            // The first ones are taken, in a cluster with an API server.
            next_ip: AtomicU16::new(0x100),
            next_node_port: AtomicU16::new(30_000),
            ..Self::assemble(cluster, plane, proxies, ranges)?
        })
    }

    /// Somebody else may use the API server: names are the run's own, numbers are far apart.
    fn with_objects_at(kubeconfig: &Path, options: &NetnsOptions) -> Result<Self> {
        let of_proxies = options.proxy_kubeconfig.as_deref();
        let read = Kubeconfig::read(of_proxies.unwrap_or(kubeconfig))?;
        let http = Http::connect(kubeconfig)?;
        let ranges = remote::service_ranges(&http, options.families)?;
        let run = format!("lbc-{:06x}", fastrand::u32(..0x0100_0000));
        let cluster = builder(options)
            .node_names(&format!("{run}-node"))
            .build()?;
        let at_nodes = read.address().and_then(|server| cluster.relay(server))?;
        let file = working_directory(cluster.prefix()).join("kubeconfig");
        fs::create_dir_all(working_directory(cluster.prefix()))?;
        read.through(at_nodes).write(&file)?;
        let plane = Box::new(Remote::register(http, &cluster, &run)?);
        let proxies = start_proxies(&cluster, Source::Kubeconfig(file), &options.proxy)?;
        Ok(Self {
            any_cluster_ip: false,
            next_ip: AtomicU16::new(fastrand::u16(0x1000..0x8000)),
            next_node_port: AtomicU16::new(fastrand::u16(30_200..32_000)),
            ..Self::assemble(cluster, plane, proxies, ranges)?
        })
    }

    fn assemble(
        cluster: Cluster,
        plane: Box<dyn Plane>,
        proxies: Vec<ProxyUnderTest>,
        service_ranges: (Cidr, Cidr),
    ) -> Result<Self> {
        Ok(Self {
            proxies: Mutex::new(proxies),
            plane,
            outside: cluster.outside("user")?,
            cluster,
            any_cluster_ip: true,
            service_ranges,
            next_ip: AtomicU16::default(),
            next_node_port: AtomicU16::default(),
            next_vip: AtomicU8::new(1),
        })
    }
}

fn builder(options: &NetnsOptions) -> Builder {
    let builder = Cluster::builder().nodes(NODES).complete_checksums();
    builder.families(options.families)
}

fn delivery(cluster: &Cluster, by: Delivery) -> Result<(Box<dyn Objects>, Source)> {
    match by {
        Delivery::Files => {
            let manifests = cluster.manifests()?;
            let source = Source::Files(manifests.path().to_owned());
            Ok((Box::new(manifests), source))
        }
        Delivery::Api => {
            let (server, kubeconfig) = cluster.api_server(apiserver::Options::default())?;
            Ok((Box::new(Api::new(server)), Source::Kubeconfig(kubeconfig)))
        }
    }
}

fn start_proxies(cluster: &Cluster, source: Source, kind: &Kind) -> Result<Vec<ProxyUnderTest>> {
    let options = ProxyOptions {
        kind: kind.clone(),
        ..ProxyOptions::new(source)
    };
    let nodes = cluster.nodes().iter();
    let mut proxies: Vec<ProxyUnderTest> = nodes
        .map(|node| ProxyUnderTest::launch(node, &options))
        .collect::<Result<_>>()?;
    for (node, proxy) in cluster.nodes().iter().zip(&mut proxies) {
        proxy.wait_healthy(node, START_LIMIT)?;
    }
    Ok(proxies)
}

impl Site for NetnsSite {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn families(&self) -> Families {
        self.cluster.families()
    }

    fn offers(&self, need: Needs) -> bool {
        Self::would_offer(self.families(), need)
            && (need != Needs::AnyClusterIp || self.any_cluster_ip)
    }

    fn namespace(&self, name: &str) -> String {
        self.plane.namespace(name)
    }

    fn node(&self, node: usize) -> SiteNode {
        let node = self.cluster.node(node);
        SiteNode {
            name: node.name().to_owned(),
            zone: node.zone().to_owned(),
            addresses: node.addresses(),
        }
    }

    fn start_pod(&self, spec: &PodSpec) -> Result<Box<dyn SitePod>> {
        let mut builder = self.cluster.pod(spec.node, &spec.name);
        if spec.host_network {
            builder = builder.host_network();
        }
        let pod = builder.create()?;
        let has_ports = !spec.tcp.is_empty() || !spec.udp.is_empty();
        let options = ServeOptions {
            name: spec.name.clone(),
            delay_shutdown: spec.linger,
            ..ServeOptions::default()
        };
        let server = has_ports.then(|| pod.serve_with(&options, &spec.tcp, &spec.udp));
        let server = server.transpose()?;
        Ok(Box::new(NetnsPod { server, pod }))
    }

    fn host_client(&self, node: usize) -> Result<Place> {
        let node = self.cluster.node(node);
        Ok(Place {
            control: node.control()?,
            addresses: node.addresses(),
            placement: Some(node.host()),
        })
    }

    fn outside_client(&self) -> Result<Place> {
        place(&self.outside)
    }

    fn new_outside_client(&self, name: &str) -> Result<Place> {
        place(&self.cluster.outside(name)?)
    }

    fn route(&self, address: IpAddr, node: usize) -> Result<()> {
        self.cluster.route_vip(address, node)
    }

    fn cluster_ips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = u128::from(self.next_ip.fetch_add(1, Ordering::Relaxed));
        let (v4, v6) = self.service_ranges;
        match (v4.nth(n), v6.nth(n)) {
            (IpAddr::V4(v4), IpAddr::V6(v6)) => (v4, v6),
            other => unreachable!("ranges of the wrong families: {other:?}"),
        }
    }

    fn node_port(&self) -> u16 {
        self.next_node_port.fetch_add(1, Ordering::Relaxed)
    }

    fn vips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.next_vip.fetch_add(1, Ordering::Relaxed);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(n));
        (Ipv4Addr::new(192, 0, 2, n), v6)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        self.plane.apply(object)
    }

    fn delete(&self, object: &Value) -> Result<()> {
        self.plane.delete(object)
    }

    fn set_pods(&self, pods: Vec<workload::Pod>) -> Result<()> {
        self.plane.set_pods(pods)
    }

    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()> {
        self.plane.remove_pods(namespace, names)
    }

    fn delete_namespace(&self, namespace: &str) -> Result<()> {
        self.plane.delete_namespace(namespace)
    }

    fn explain(&self, namespace: &str) -> String {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (node, proxy) in self.cluster.nodes().iter().zip(proxies.iter()) {
            let (name, output) = (node.name(), proxy.recent_output(15));
            let _ = writeln!(text, "--- proxy of {name}:\n{output}");
            // Another proxy has no maps that it could show.
            if let Ok(table) = lbctl(node, &["list", "--by-service", "--namespace", namespace]) {
                let _ = writeln!(text, "--- lbctl list on {name}:\n{table}");
            }
        }
        text
    }
}

fn place(outside: &Outside) -> Result<Place> {
    Ok(Place {
        control: outside.control()?,
        addresses: outside.addresses(),
        placement: Some(outside.placement().clone()),
    })
}

/// A pod with its server; the server ends first.
#[derive(Debug)]
struct NetnsPod {
    server: Option<Process>,
    pod: cluster::Pod,
}

impl SitePod for NetnsPod {
    fn addresses(&self) -> Vec<IpAddr> {
        self.pod.addresses()
    }

    fn control(&self) -> Result<Control> {
        self.pod.control()
    }

    fn terminate(&self) -> Result<()> {
        let server = self.server.as_ref().context("the pod serves nothing")?;
        server.signal(Signal::SIGTERM)
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let server = self.server.as_mut().context("the pod serves nothing")?;
        server.wait(limit).map(drop)
    }

    fn placement(&self) -> Option<&Placement> {
        Some(self.pod.placement())
    }
}

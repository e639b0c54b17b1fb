//! The site out of network namespaces: a client outside, and nodes with a
//! proxy on each: three, and three more once a case needs them.
//!
//! Objects go to a directory, to a stand-in API server, or to the API server of a kubeconfig.

mod plane;
mod proxies;
mod remote;

use std::{
    fs,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::{
    plane::{Own, Plane},
    proxies::Proxies,
    remote::Remote,
};
use super::{
    Needs, Numbers, Site,
    site::{NodeFate, Place, PodSpec, ProxySettings, SiteNode, SitePod},
};
use crate::{
    Cluster,
    agent::ServeOptions,
    apiserver::{self, ApiServer},
    cluster::{self, Builder, Families, Outside},
    control::Control,
    objects::{Api, ControlPlane, Http, Kubeconfig, Objects},
    process::{Placement, Process},
    proxy::{Kind, ProxyOptions, Source},
    teardown::working_directory,
    workload,
};

/// How many nodes there are for every case; as many again for cases that need six.
const NODES: usize = 3;
/// By turns.
const ZONES: [&str; NODES] = ["zone-1", "zone-2", "zone-3"];
/// Where ClusterIPs come from, unless an API server of somebody else's says so.
const OWN_RANGES: (&str, &str) = ("10.96.0.0/16", "fd00:96::/112");

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
    proxies: Proxies,
    plane: Box<dyn Plane>,
    /// The stand-in API server, if objects are in one.
    api_server: Option<Arc<ApiServer>>,
    outside: Outside,
    /// Further clients outside.
    outsides: Mutex<Vec<Outside>>,
    cluster: Cluster,
    options: NetnsOptions,
    numbers: Numbers,
}

// === impl NetnsOptions ===

impl NetnsOptions {
    /// What a site of this kind has.
    pub fn would_offer(&self, need: Needs) -> bool {
        match need {
            Needs::V4 => self.families.has_v4(),
            Needs::V6 => self.families.has_v6(),
            Needs::Namespaces
            | Needs::Outside
            | Needs::Routes
            | Needs::Zones
            | Needs::ProxyRestarts => true,
            // Somebody else's API server has ranges and nodes of its own.
            Needs::AnyClusterIp | Needs::SixNodes | Needs::NodeChanges => self.kubeconfig.is_none(),
            Needs::ApiRestarts => self.kubeconfig.is_none() && self.delivery == Delivery::Api,
            Needs::ProxySettings => self.proxy.takes_settings(),
        }
    }

    fn nodes(&self) -> usize {
        if self.would_offer(Needs::SixNodes) {
            2 * NODES
        } else {
            NODES
        }
    }

    fn builder(&self) -> Builder {
        let builder = Cluster::builder().nodes(self.nodes() as u8).zones(&ZONES);
        builder.complete_checksums().families(self.families)
    }
}

// === impl NetnsSite ===

impl NetnsSite {
    /// Builds the cluster, starts the proxies and waits until they are healthy.
    pub fn build(options: &NetnsOptions) -> Result<Self> {
        match &options.kubeconfig {
            Some(file) => Self::with_objects_at(file, options),
            None => Self::with_own_objects(options),
        }
    }

    fn with_own_objects(options: &NetnsOptions) -> Result<Self> {
        let cluster = options.builder().build()?;
        let (objects, source, api_server) = delivery(&cluster, options.delivery)?;
        let plane = Own::new(ControlPlane::new(objects));
        plane.apply(&service_cidr())?;
        let ranges = (OWN_RANGES.0.parse()?, OWN_RANGES.1.parse()?);
        // An API server gives out the first ones.
        let numbers = Numbers::new(ranges, 0x100, 31_000);
        let site = Self {
            api_server,
            ..Self::assemble(cluster, Box::new(plane), source, options, numbers)?
        };
        site.start_nodes(0..NODES)?;
        Ok(site)
    }

    /// Somebody else may use the API server: names are the run's own, numbers are far apart.
    fn with_objects_at(kubeconfig: &Path, options: &NetnsOptions) -> Result<Self> {
        let of_proxies = options.proxy_kubeconfig.as_deref();
        let read = Kubeconfig::read(of_proxies.unwrap_or(kubeconfig))?;
        let http = Http::connect(kubeconfig)?;
        let ranges = remote::service_ranges(&http, options.families)?;
        let run = format!("lbc-{:06x}", fastrand::u32(..0x0100_0000));
        let cluster = options
            .builder()
            .node_names(&format!("{run}-node"))
            .build()?;
        let at_nodes = read.address().and_then(|server| cluster.relay(server))?;
        let file = working_directory(cluster.prefix()).join("kubeconfig");
        fs::create_dir_all(working_directory(cluster.prefix()))?;
        read.through(at_nodes).write(&file)?;
        let plane = Box::new(Remote::register(http, &cluster, &run)?);
        let (first_ip, first_port) = (fastrand::u16(0x1000..0x8000), fastrand::u16(30_200..32_000));
        let numbers = Numbers::new(ranges, first_ip, first_port);
        let source = Source::Kubeconfig(file);
        let site = Self::assemble(cluster, plane, source, options, numbers)?;
        site.proxies.ensure(&site.cluster, 0..NODES)?;
        Ok(site)
    }

    fn assemble(
        cluster: Cluster,
        plane: Box<dyn Plane>,
        source: Source,
        options: &NetnsOptions,
        numbers: Numbers,
    ) -> Result<Self> {
        let proxies = ProxyOptions {
            kind: options.proxy.clone(),
            ..ProxyOptions::new(source)
        };
        Ok(Self {
            proxies: Proxies::new(proxies),
            plane,
            api_server: None,
            outside: cluster.outside("user")?,
            outsides: Mutex::default(),
            cluster,
            options: options.clone(),
            numbers,
        })
    }

    /// Tells the control plane of these nodes, and starts their proxies.
    fn start_nodes(&self, nodes: Range<usize>) -> Result<()> {
        for node in nodes.clone() {
            self.plane.apply(&self.cluster.node(node).object())?;
        }
        self.proxies.ensure(&self.cluster, nodes)
    }
}

/// The ServiceCIDR that an API server makes for itself.
fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [OWN_RANGES.0, OWN_RANGES.1]},
    })
}

type Delivered = (Box<dyn Objects>, Source, Option<Arc<ApiServer>>);

fn delivery(cluster: &Cluster, by: Delivery) -> Result<Delivered> {
    match by {
        Delivery::Files => {
            let manifests = cluster.manifests()?;
            let source = Source::Files(manifests.path().to_owned());
            Ok((Box::new(manifests), source, None))
        }
        Delivery::Api => {
            let (server, kubeconfig) = cluster.api_server(apiserver::Options::default())?;
            let api = Api::new(Arc::clone(&server));
            Ok((Box::new(api), Source::Kubeconfig(kubeconfig), Some(server)))
        }
    }
}

/// Ends an outage, also when a case failed in it.
struct Outage<'a>(&'a ApiServer);

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.resume() {
            crate::panics::note(&format!("the API server stays away: {error}"));
        }
    }
}

impl Site for NetnsSite {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn families(&self) -> Families {
        self.cluster.families()
    }

    fn offers(&self, need: Needs) -> bool {
        self.options.would_offer(need)
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
        let outside = self.cluster.outside(name)?;
        let place = place(&outside)?;
        lock(&self.outsides).push(outside);
        Ok(place)
    }

    fn route(&self, address: IpAddr, node: usize) -> Result<()> {
        self.cluster.route_vip(address, node)
    }

    fn numbers(&self) -> &Numbers {
        &self.numbers
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

    fn prepare(&self, need: Needs) -> Result<()> {
        if need == Needs::SixNodes {
            self.start_nodes(NODES..2 * NODES)?;
        }
        Ok(())
    }

    fn restart_proxy(&self, node: usize, settings: &ProxySettings) -> Result<()> {
        self.proxies.restart(&self.cluster, node, settings)
    }

    fn restart_api_server(&self, meanwhile: &mut dyn FnMut()) -> Result<()> {
        let server = self.api_server.as_ref().context("no API server")?;
        server.begin_outage()?;
        let outage = Outage(server);
        meanwhile();
        server.compact();
        drop(outage);
        Ok(())
    }

    fn set_node(&self, node: usize, fate: NodeFate) -> Result<()> {
        let mut object = self.cluster.node(node).object();
        match fate {
            // What was deleted goes with its finalizer, and is made anew.
            NodeFate::Stays => self.plane.apply(&object)?,
            NodeFate::Doomed => {
                let key = "ToBeDeletedByClusterAutoscaler";
                object["spec"]["taints"] = json!([{"key": key, "effect": "NoSchedule"}]);
            }
            NodeFate::Deleted => {
                object["metadata"]["finalizers"] = json!(["lb-conformance/held"]);
                if self.api_server.is_some() {
                    self.plane.apply(&object)?;
                    return self.plane.delete(&object);
                }
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
        }
        self.plane.apply(&object)
    }

    fn narrow_path(&self, client: IpAddr, mtu: u32) -> Result<()> {
        let outsides = lock(&self.outsides);
        let mut found = outsides.iter();
        let found = found.find(|outside| outside.addresses().contains(&client));
        let found = found.with_context(|| format!("nobody outside is {client}"))?;
        found.limit_path_mtu(mtu)
    }

    fn explain(&self, namespace: &str) -> String {
        self.proxies.explain(&self.cluster, namespace)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn narrow_path(&self, mtu: u32) -> Result<()> {
        self.pod.limit_path_mtu(mtu)
    }
}

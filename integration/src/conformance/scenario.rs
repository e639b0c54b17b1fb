//! One case's part of a site: its Kubernetes namespace, pods, clients and checks.
//!
//! A failure of the site panics as a broken promise does: the case cannot say anything then.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::{
    Case, Site,
    site::{NodeFate, Place, PodSpec, ProxySettings, SitePod},
};
pub use crate::client::{tcp, udp};
use crate::{
    agent::dial::Dial,
    client,
    cluster::Families,
    process::Placement,
    workload::{self, ContainerPort, Service},
};

/// A namespace of its own; dropping it deletes its objects.
pub struct Scenario {
    site: Arc<dyn Site>,
    namespace: String,
    /// What has been published about pods.
    records: RefCell<BTreeMap<String, workload::Pod>>,
}

/// A pod that serves.
#[derive(Debug)]
pub struct Backend {
    pod: Box<dyn SitePod>,
    spec: PodSpec,
}

/// A client; see [`client::Client`] for what it can wait for.
#[derive(Debug)]
pub struct Client {
    inner: client::Client,
    addresses: Vec<IpAddr>,
    placement: Option<Placement>,
    /// The pod it lives in, if it is the client's own: it goes with it.
    pod: Option<Box<dyn SitePod>>,
}

// === impl Scenario ===

impl Scenario {
    /// The part of `site` that belongs to `case`.
    pub fn new(case: &Case, site: Arc<dyn Site>) -> Self {
        Self::named(site.namespace(&namespace_of(case.name)), site)
    }

    fn named(namespace: String, site: Arc<dyn Site>) -> Self {
        Self {
            site,
            namespace,
            records: RefCell::default(),
        }
    }

    /// Another namespace for the same case, for what it does twice.
    #[must_use]
    pub fn sibling(&self, suffix: &str) -> Self {
        let namespace = format!("{}-{suffix}", self.namespace);
        Self::named(namespace, Arc::clone(&self.site))
    }

    /// The name of the Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The families of the site.
    pub fn families(&self) -> Families {
        self.site.families()
    }

    /// A Service with ClusterIPs of its own and the selector `app=<name>`; not yet applied.
    pub fn service(&self, name: &str) -> Service {
        let (v4, v6) = self.site.numbers().cluster_ips();
        Service::of_families(&self.namespace, name, self.families(), v4, v6)
    }

    /// Creates or replaces an object.
    pub fn apply(&self, object: &Value) {
        self.site.apply(object).expect("the site takes objects");
    }

    /// Deletes an object.
    pub fn delete(&self, object: &Value) {
        self.site.delete(object).expect("the site deletes objects");
    }

    /// A pod on a node that serves on these ports; not yet published.
    pub fn backend(&self, node: usize, name: &str, tcp: &[u16], udp: &[u16]) -> Backend {
        self.start(PodSpec {
            tcp: tcp.to_vec(),
            udp: udp.to_vec(),
            ..self.spec(node, name)
        })
    }

    /// A pod that serves on a TCP port which Services may refer to by this name.
    pub fn named_port_backend(&self, node: usize, name: &str, port: (&str, u16)) -> Backend {
        let (label, number) = port;
        self.start(PodSpec {
            tcp: vec![number],
            ports: vec![ContainerPort {
                name: label.to_owned(),
                number,
                protocol: "TCP".to_owned(),
            }],
            ..self.spec(node, name)
        })
    }

    /// A host-network pod that serves.
    pub fn host_network_backend(&self, node: usize, name: &str, port: u16) -> Backend {
        self.start(PodSpec {
            host_network: true,
            tcp: vec![port],
            udp: vec![port],
            ..self.spec(node, name)
        })
    }

    /// A pod whose server goes on for `linger` after it was told to end.
    pub fn lingering_backend(&self, node: usize, name: &str, linger: Duration) -> Backend {
        self.start(PodSpec {
            tcp: vec![80],
            udp: vec![80],
            linger,
            ..self.spec(node, name)
        })
    }

    fn spec(&self, node: usize, name: &str) -> PodSpec {
        PodSpec {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            node,
            ..PodSpec::default()
        }
    }

    fn start(&self, spec: PodSpec) -> Backend {
        let pod = self.site.start_pod(&spec).expect("the site starts pods");
        Backend { pod, spec }
    }

    /// Pods serving TCP and UDP on port 80, one per name, on the first two nodes by turns,
    /// published under `app`.
    pub fn published_backends(&self, app: &str, names: &[&str]) -> Vec<Backend> {
        let backends: Vec<Backend> = names
            .iter()
            .enumerate()
            .map(|(i, name)| self.backend(i % 2, name, &[80], &[80]))
            .collect();
        self.publish(backends.iter().map(|backend| self.record(backend, app)));
        backends
    }

    /// What the control plane is to know about a backend: a ready pod with the label `app=<app>`.
    pub fn record(&self, backend: &Backend, app: &str) -> workload::Pod {
        let node = self.site.node(backend.spec.node);
        workload::Pod {
            namespace: self.namespace.clone(),
            name: backend.name().to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            addresses: backend.addresses(),
            node: node.name,
            zone: node.zone,
            ports: backend.spec.ports.clone(),
            ready: true,
            terminating: false,
        }
    }

    /// Tells the control plane about pods.
    pub fn publish(&self, pods: impl IntoIterator<Item = workload::Pod>) {
        let pods: Vec<workload::Pod> = pods.into_iter().collect();
        let mut records = self.records.borrow_mut();
        records.extend(pods.iter().map(|pod| (pod.name.clone(), pod.clone())));
        self.site.set_pods(pods).expect("the site publishes pods");
    }

    /// Changes what the control plane knows about a published pod.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut workload::Pod)) {
        let known = self.records.borrow().get(name).cloned();
        let mut record = known.unwrap_or_else(|| panic!("{name} was never published"));
        change(&mut record);
        self.publish([record]);
    }

    /// Tells a published pod to end: its server gets SIGTERM, the API says that it terminates.
    pub fn terminate(&self, backend: &Backend) {
        backend.pod.terminate().expect("the site signals pods");
        self.change(backend.name(), |pod| pod.terminating = true);
    }

    /// Waits until all that was changed is in force on the first two nodes: until they serve a Service
    /// that is made after it. For what must go on as it was, which a proxy that has not yet
    /// noticed anything does, too.
    pub fn settle(&self) {
        let name = format!("after-{}", self.records.borrow().len());
        let backend = self.backend(0, &name, &[80], &[]);
        self.publish([self.record(&backend, &name)]);
        let service = self.service(&name).port("", 80, 80, "TCP");
        self.apply(service.object());
        for node in 0..2 {
            let mut client = self.host_client(node);
            client.reaches_all(&tcp_at(&service, 80), &[&name]);
        }
    }

    /// Makes the control plane forget a pod; its processes go on.
    pub fn withdraw(&self, name: &str) {
        self.records.borrow_mut().remove(name);
        let removed = self.site.remove_pods(&self.namespace, &[name]);
        removed.expect("the site forgets pods");
    }

    /// A client in a pod of its own.
    pub fn client(&self, node: usize) -> Client {
        let pod = self.start(self.spec(node, "client")).pod;
        let mut client = Client::of(pod.as_ref());
        client.pod = Some(pod);
        client
    }

    /// A client inside a backend's pod.
    pub fn client_in(&self, backend: &Backend) -> Client {
        Client::of(backend.pod.as_ref())
    }

    /// A client among the host processes of a node.
    pub fn host_client(&self, node: usize) -> Client {
        Client::at(self.site.host_client(node))
    }

    /// A client outside the cluster, behind the nodes' router.
    pub fn outside_client(&self) -> Client {
        Client::at(self.site.outside_client())
    }

    /// A client in a place outside that no other case uses.
    pub fn new_outside_client(&self, name: &str) -> Client {
        Client::at(self.site.new_outside_client(name))
    }

    /// A node port of its own.
    pub fn node_port(&self) -> u16 {
        self.site.numbers().node_port()
    }

    /// The addresses of a node with a port, IPv4 first.
    pub fn at_node(&self, node: usize, port: u16) -> Vec<SocketAddr> {
        with_port(&self.node_addresses(node), port)
    }

    /// The addresses of a node, IPv4 first.
    pub fn node_addresses(&self, node: usize) -> Vec<IpAddr> {
        self.site.node(node).addresses
    }

    /// Addresses of a load balancer, routed to the first node.
    pub fn vips(&self) -> Vec<IpAddr> {
        let (v4, v6) = self.site.numbers().vips();
        let vips = self.in_use([v4.into(), v6.into()]);
        self.route(&vips, 0);
        vips
    }

    /// Those addresses whose family the site has.
    pub fn in_use(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        let families = self.families();
        let has = |address: &IpAddr| families.has(*address);
        addresses.into_iter().filter(has).collect()
    }

    /// Routes addresses to a node, as its announcements would.
    pub fn route(&self, vips: &[IpAddr], node: usize) {
        for &vip in vips {
            let routed = self.site.route(vip, node);
            routed.expect("the site routes addresses");
        }
    }

    /// Ends a node's proxy and starts it again with these settings.
    pub fn restart_proxy(&self, node: usize, settings: &ProxySettings) {
        let restarted = self.site.restart_proxy(node, settings);
        restarted.expect("the site restarts proxies");
    }

    /// Restarts the API server, and does this while it is away.
    pub fn restart_api_server(&self, mut meanwhile: impl FnMut()) {
        let restarted = self.site.restart_api_server(&mut meanwhile);
        restarted.expect("the site restarts the API server");
    }

    /// Changes what the control plane is about to do with a node.
    pub fn set_node(&self, node: usize, fate: NodeFate) {
        let set = self.site.set_node(node, fate);
        set.expect("the site changes nodes");
    }

    /// Makes the way to a client outside, in a place of its own, one for packets of this size.
    pub fn narrow_path(&self, client: &Client, mtu: u32) {
        for address in client.addresses() {
            let narrowed = self.site.narrow_path(address, mtu);
            narrowed.expect("the site narrows paths");
        }
    }

    /// What the site says about this namespace.
    pub fn explain(&self) -> String {
        self.site.explain(&self.namespace)
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if let Err(error) = self.site.delete_namespace(&self.namespace) {
            crate::panics::note(&format!("deleting {}: {error:#}", self.namespace));
        }
    }
}

/// `s8_creates_a_node_port` → `s8-creates-a-node-port`, as far as a namespace's name may go.
fn namespace_of(case: &str) -> String {
    // Leaves room for a suffix and for a name of the run.
    let name: String = case.replace('_', "-").chars().take(40).collect();
    name.trim_end_matches('-').to_owned()
}

// === impl Backend ===

impl Backend {
    /// The pod's name; also what its server answers to `hostname`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.pod.addresses()
    }

    /// Its address of the site's first family.
    pub fn address(&self) -> IpAddr {
        self.addresses()[0]
    }

    /// Makes its node's way to it one for packets of this size.
    pub fn narrow_path(&self, mtu: u32) {
        let narrowed = self.pod.narrow_path(mtu);
        narrowed.expect("the site narrows paths");
    }

    /// Waits for the end of its server.
    pub fn ends(&mut self, limit: Duration) {
        self.pod.wait(limit).expect("the server ends");
    }

    /// Where its processes run, for cases that need namespaces.
    pub fn placement(&self) -> &Placement {
        self.pod.placement().expect("the site offers namespaces")
    }
}

// === impl Client ===

impl Client {
    fn of(pod: &dyn SitePod) -> Self {
        Self {
            inner: client::Client::new(pod.control().expect("the site starts clients")),
            addresses: pod.addresses(),
            placement: pod.placement().cloned(),
            pod: None,
        }
    }

    fn at(place: anyhow::Result<Place>) -> Self {
        let place = place.expect("the site starts clients");
        Self {
            inner: client::Client::new(place.control),
            addresses: place.addresses,
            placement: place.placement,
            pod: None,
        }
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    /// Where it runs, for cases that need namespaces.
    pub fn placement(&self) -> &Placement {
        let placement = self.placement.as_ref();
        placement.expect("the site offers namespaces")
    }
}

impl Deref for Client {
    type Target = client::Client;

    fn deref(&self) -> &client::Client {
        &self.inner
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut client::Client {
        &mut self.inner
    }
}

/// TCP to each of these.
pub fn tcp_to(addresses: &[SocketAddr]) -> Vec<Dial> {
    addresses.iter().map(|&to| tcp(to)).collect()
}

/// UDP to each of these.
pub fn udp_to(addresses: &[SocketAddr]) -> Vec<Dial> {
    addresses.iter().map(|&to| udp(to)).collect()
}

/// These with a port.
pub fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let with_port = |&address| SocketAddr::new(address, port);
    addresses.iter().map(with_port).collect()
}

/// TCP to every ClusterIP of a Service.
pub fn tcp_at(service: &Service, port: u16) -> Vec<Dial> {
    tcp_to(&service.addresses(port))
}

/// UDP to every ClusterIP of a Service.
pub fn udp_at(service: &Service, port: u16) -> Vec<Dial> {
    udp_to(&service.addresses(port))
}

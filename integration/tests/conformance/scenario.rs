//! One test's part of the shared cluster: its Kubernetes namespace, pods, clients and checks.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

pub(crate) use lb_integration::client::{Client, tcp, udp};
use lb_integration::{
    agent::{ServeOptions, dial::Dial},
    cluster::{Outside, Pod},
    process::Process,
    workload::{self, Service},
};
use serde_json::Value;

use crate::suite::{Suite, suite};

/// A namespace of its own; dropping it deletes its objects.
pub(crate) struct Scenario {
    suite: &'static Suite,
    namespace: String,
}

/// A pod that serves.
pub(crate) struct Backend {
    pub(crate) pod: Pod,
    pub(crate) server: Process,
}

// === impl Scenario ===

impl Scenario {
    /// The part of the cluster that belongs to the test `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            suite: suite(),
            namespace: name.to_owned(),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A Service with ClusterIPs of its own and the selector `app=<name>`; not yet applied.
    pub(crate) fn service(&self, name: &str) -> Service {
        let (v4, v6) = self.suite.cluster_ips();
        Service::new(&self.namespace, name, v4, v6)
    }

    pub(crate) fn apply(&self, object: &Value) {
        self.suite.control_plane().apply(object).unwrap();
    }

    pub(crate) fn delete(&self, object: &Value) {
        self.suite.control_plane().delete(object).unwrap();
    }

    /// A pod on node 0 or 1 that serves on these ports; not yet published.
    pub(crate) fn backend(&self, node: usize, name: &str, tcp: &[u16], udp: &[u16]) -> Backend {
        let pod = self.suite.cluster.pod(node, name).create().unwrap();
        let server = pod.serve(tcp, udp).unwrap();
        Backend { pod, server }
    }

    /// A host-network pod that serves.
    pub(crate) fn host_network_backend(&self, node: usize, name: &str, port: u16) -> Backend {
        let pod = self
            .suite
            .cluster
            .pod(node, name)
            .host_network()
            .create()
            .unwrap();
        let server = pod.serve(&[port], &[port]).unwrap();
        Backend { pod, server }
    }

    /// A pod whose server goes on for `delay` after SIGTERM.
    pub(crate) fn lingering_backend(&self, node: usize, name: &str, delay: Duration) -> Backend {
        let pod = self.suite.cluster.pod(node, name).create().unwrap();
        let options = ServeOptions {
            name: name.to_owned(),
            delay_shutdown: delay,
            ..Default::default()
        };
        let server = pod.serve_with(&options, &[80], &[80]).unwrap();
        Backend { pod, server }
    }

    /// Pods serving TCP and UDP on port 80, one per name, on the two nodes by turns, published
    /// under `app`.
    pub(crate) fn published_backends(&self, app: &str, names: &[&str]) -> Vec<Backend> {
        let backends: Vec<Backend> = names
            .iter()
            .enumerate()
            .map(|(i, name)| self.backend(i % 2, name, &[80], &[80]))
            .collect();
        self.publish(backends.iter().map(|backend| self.record(backend, app)));
        backends
    }

    /// What the control plane knows about a backend, to be changed and published.
    pub(crate) fn record(&self, backend: &Backend, app: &str) -> workload::Pod {
        workload::Pod::of(&backend.pod, &self.namespace, app)
    }

    /// Tells the control plane about pods.
    pub(crate) fn publish(&self, pods: impl IntoIterator<Item = workload::Pod>) {
        self.suite.control_plane().set_pods(pods).unwrap();
    }

    /// Changes what the control plane knows about a pod.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut workload::Pod)) {
        self.suite
            .control_plane()
            .change_pod(&self.namespace, name, change)
            .unwrap();
    }

    /// Makes the control plane forget a pod.
    pub(crate) fn withdraw(&self, name: &str) {
        self.suite
            .control_plane()
            .remove_pods(&self.namespace, &[name])
            .unwrap();
    }

    /// A client in a pod of its own.
    pub(crate) fn client(&self, node: usize) -> Client {
        let pod = self.suite.cluster.pod(node, "client").create().unwrap();
        Client::in_pod(pod).unwrap()
    }

    /// A client among the host processes of a node.
    pub(crate) fn host_client(&self, node: usize) -> Client {
        Client::new(self.suite.cluster.node(node).control().unwrap())
    }

    /// A client outside the cluster, behind the nodes' router.
    pub(crate) fn outside_client(&self) -> Client {
        Client::new(self.suite.outside.control().unwrap())
    }

    /// A place outside that no other test uses.
    pub(crate) fn new_outside(&self, name: &str) -> Outside {
        self.suite.cluster.outside(name).unwrap()
    }

    /// The addresses of the client outside.
    pub(crate) fn outside_addresses(&self) -> Vec<IpAddr> {
        self.suite.outside.addresses()
    }

    /// A node port of its own.
    pub(crate) fn node_port(&self) -> u16 {
        self.suite.node_port()
    }

    /// Both addresses of a node with a port.
    pub(crate) fn at_node(&self, node: usize, port: u16) -> [SocketAddr; 2] {
        let addresses = self.node_addresses(node);
        [addresses[0], addresses[1]].map(|address| SocketAddr::new(address, port))
    }

    /// The addresses of a node, IPv4 first.
    pub(crate) fn node_addresses(&self, node: usize) -> Vec<IpAddr> {
        self.suite.cluster.node(node).addresses()
    }

    /// Addresses of a load balancer, routed to the first node.
    pub(crate) fn vips(&self) -> [IpAddr; 2] {
        let vips = self.suite.vips();
        self.route(&vips, 0);
        vips
    }

    /// Routes addresses to a node, as its announcements would.
    pub(crate) fn route(&self, vips: &[IpAddr], node: usize) {
        for &vip in vips {
            self.suite.cluster.route_vip(vip, node).unwrap();
        }
    }

    /// A client inside a backend's pod.
    #[expect(clippy::unused_self, reason = "reads as the other clients do")]
    pub(crate) fn client_in(&self, backend: &Backend) -> Client {
        Client::new(backend.pod.control().unwrap())
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if thread::panicking() {
            self.suite.explain(&self.namespace);
        }
        let deleted = self.suite.control_plane().delete_namespace(&self.namespace);
        if let Err(error) = deleted {
            eprintln!("deleting namespace {}: {error:#}", self.namespace);
        }
    }
}

/// TCP to each of these.
pub(crate) fn tcp_to(addresses: &[SocketAddr]) -> Vec<Dial> {
    addresses.iter().map(|&to| tcp(to)).collect()
}

/// UDP to each of these.
pub(crate) fn udp_to(addresses: &[SocketAddr]) -> Vec<Dial> {
    addresses.iter().map(|&to| udp(to)).collect()
}

/// These with a port.
pub(crate) fn with_port(addresses: [IpAddr; 2], port: u16) -> [SocketAddr; 2] {
    addresses.map(|address| SocketAddr::new(address, port))
}

/// TCP to both ClusterIPs.
pub(crate) fn tcp_both(service: &Service, port: u16) -> [Dial; 2] {
    service.at(port).map(tcp)
}

/// UDP to both ClusterIPs.
pub(crate) fn udp_both(service: &Service, port: u16) -> [Dial; 2] {
    service.at(port).map(udp)
}

//! The seam between cases and the place where they run.
//!
//! A site is a cluster that stands, with at least three nodes and the proxy under test on each.
//! Everything that differs between a cluster of network namespaces and one of real pods is behind
//! the two traits here; the rest (what cases do, wait for and clean up) is in [`super::scenario`].
//!
//! To add a site, implement [`Site`] and [`SitePod`]:
//!
//! * The traffic server and the clients are `lb-agent serve` and `lb-agent control`; a
//!   [`Control`] speaks to the latter over any process with pipes (see `Control::over`).
//! * A pod's processes and what the API says about the pod are separate steps, because cases
//!   change one without the other: [`Site::start_pod`] starts processes and must not make the pod
//!   an endpoint; [`Site::set_pods`] publishes records ([`workload::Pod`]: labels, readiness,
//!   termination) and may be called again with changed ones; [`Site::remove_pods`] takes pods out
//!   of every Service while their processes may go on.
//! * [`SitePod::terminate`] followed by a record with `terminating` set is one event: a pod told
//!   to end, which serves on for [`PodSpec::linger`].
//! * What a site has not, it does not [offer](Site::offers); cases that need it are skipped.
//!
//! Methods are called from several threads at once.

use std::{fmt::Debug, net::IpAddr, time::Duration};

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Needs, Numbers};
use crate::{
    cluster::Families,
    control::Control,
    process::Placement,
    workload::{self, ContainerPort},
};

/// A cluster in which cases run. Methods with a body here are for what a site may lack.
pub trait Site: Send + Sync {
    /// Its kind, for reports: `netns`.
    fn name(&self) -> &str;
    /// The families of its pods, nodes and Services.
    fn families(&self) -> Families;
    /// Whether it has this.
    fn offers(&self, need: Needs) -> bool;

    /// What the Kubernetes namespace for a case is called here.
    fn namespace(&self, name: &str) -> String {
        name.to_owned()
    }
    /// A node, counted from 0.
    fn node(&self, node: usize) -> SiteNode;
    /// Starts a pod's processes: a server if it has ports, and nothing that makes it an endpoint.
    fn start_pod(&self, spec: &PodSpec) -> Result<Box<dyn SitePod>>;
    /// A client among the host processes of a node.
    fn host_client(&self, node: usize) -> Result<Place>;
    /// A client outside the cluster ([`Needs::Outside`]).
    fn outside_client(&self) -> Result<Place>;
    /// A client outside, in a place that no other case uses ([`Needs::Namespaces`]).
    fn new_outside_client(&self, name: &str) -> Result<Place>;
    /// Makes clients outside find an address at a node ([`Needs::Routes`]), from wherever they
    /// found it before.
    fn route(&self, address: IpAddr, node: usize) -> Result<()>;

    /// Addresses and ports for Services.
    fn numbers(&self) -> &Numbers;

    /// Creates or replaces an object: a Service with its status, a user's EndpointSlice.
    fn apply(&self, object: &Value) -> Result<()>;
    /// Deletes an object.
    fn delete(&self, object: &Value) -> Result<()>;
    /// Publishes pods, or what has changed about them.
    fn set_pods(&self, pods: Vec<workload::Pod>) -> Result<()>;
    /// Makes the control plane forget pods.
    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()>;
    /// Deletes all objects of a namespace.
    fn delete_namespace(&self, namespace: &str) -> Result<()>;

    /// Makes ready what a case needs and the site does not keep standing; called before every case
    /// that needs it.
    fn prepare(&self, _need: Needs) -> Result<()> {
        Ok(())
    }
    /// Ends a node's proxy and starts it again with these settings; returns once it is healthy
    /// ([`Needs::ProxyRestarts`], for other settings than the default ones
    /// [`Needs::ProxySettings`]).
    fn restart_proxy(&self, node: usize, _settings: &ProxySettings) -> Result<()> {
        bail!(
            "the site {} leaves the proxy of node {node} alone",
            self.name()
        )
    }
    /// Restarts the API server, and does this while it is away ([`Needs::ApiRestarts`]). What
    /// watches were at is not known any more when it is back.
    fn restart_api_server(&self, _meanwhile: &mut dyn FnMut()) -> Result<()> {
        bail!("the site {} leaves the API server alone", self.name())
    }
    /// Changes what the control plane is about to do with a node ([`Needs::NodeChanges`]).
    fn set_node(&self, node: usize, fate: NodeFate) -> Result<()> {
        bail!(
            "the site {} leaves node {node} alone: {fate:?}",
            self.name()
        )
    }
    /// Makes the way to a client outside ([`Site::new_outside_client`]) one for packets of this
    /// size: a router before it answers larger ones with an ICMP error ([`Needs::Namespaces`]).
    fn narrow_path(&self, client: IpAddr, mtu: u32) -> Result<()> {
        bail!(
            "the site {} has no way of {mtu} bytes to {client}",
            self.name()
        )
    }

    /// What helps to understand a failure in this namespace: the proxies' last words, their
    /// tables.
    fn explain(&self, namespace: &str) -> String;
}

/// A pod's processes. Dropping it ends them and frees its addresses.
pub trait SitePod: Send + Debug {
    /// Its addresses, IPv4 first; the node's, for a host-network pod.
    fn addresses(&self) -> Vec<IpAddr>;
    /// A client in the pod.
    fn control(&self) -> Result<Control>;
    /// Tells its server to end (SIGTERM), where publishing that the pod terminates does not.
    fn terminate(&self) -> Result<()>;
    /// Waits for the end of its server.
    fn wait(&mut self, limit: Duration) -> Result<()>;
    /// Where its processes run ([`Needs::Namespaces`]).
    fn placement(&self) -> Option<&Placement>;
    /// Makes its node's way to it one for packets of this size: larger ones are answered with an
    /// ICMP error ([`Needs::Namespaces`]).
    fn narrow_path(&self, mtu: u32) -> Result<()> {
        bail!("no way of {mtu} bytes to {:?}", self.addresses())
    }
}

/// What a proxy is started with, where it is not the site's own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `nodePortAddresses`: networks, or the word `primary`.
    pub node_port_addresses: Vec<String>,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFate {
    /// It stays.
    Stays,
    /// The cluster autoscaler has tainted it, to delete it soon.
    Doomed,
    /// Its object has been deleted, and waits for a finalizer.
    Deleted,
}

/// A node as cases and the API know it.
#[derive(Clone, Debug)]
pub struct SiteNode {
    /// The Node object's name.
    pub name: String,
    /// `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// A client that is no pod of its own.
#[derive(Debug)]
pub struct Place {
    /// Its process.
    pub control: Control,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Where it runs ([`Needs::Namespaces`]).
    pub placement: Option<Placement>,
}

/// A pod to be started.
#[derive(Clone, Debug, Default)]
pub struct PodSpec {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name, and what its server answers to `hostname`. Names of clients repeat.
    pub name: String,
    /// The node it runs on, counted from 0.
    pub node: usize,
    /// Whether it lives in the node's network namespace.
    pub host_network: bool,
    /// TCP ports it serves.
    pub tcp: Vec<u16>,
    /// UDP ports it serves; without ports of either kind it has no server.
    pub udp: Vec<u16>,
    /// Named ports of its container, for Services that refer to them by name.
    pub ports: Vec<ContainerPort>,
    /// How long its server goes on after it was told to end.
    pub linger: Duration,
}

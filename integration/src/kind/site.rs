//! The kind cluster as a site of the conformance suite: real pods, real controllers, a client in a
//! container beside the nodes.
//!
//! EndpointSlices are the control plane's: publishing a pod gives it its labels and opens its
//! readiness gate, a pod that terminates is deleted. What takes raw access to namespaces, routes to
//! virtual addresses or ClusterIPs out of any range is not offered.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    net::IpAddr,
    sync::Mutex,
};

use anyhow::{Context, Error, Result, bail};
use serde_json::{Value, json};

use super::{
    KindCluster,
    cluster::{DAEMON_SET, LABEL, NAMESPACE},
    commands::{self, Kubectl},
    locked,
    pods::Pods,
    read::{object_path, outside_addresses, workers},
    runner::{Invocation, Runner},
};
use crate::{
    cluster::Families,
    conformance::{
        Needs, Numbers, Site,
        site::{Place, PodSpec, SiteNode, SitePod},
    },
    control::Control,
    workload,
};

/// What the agent's client is called in its image.
pub(super) const CLIENT: [&str; 2] = ["lb-agent", "control"];
/// kind's ranges of ClusterIPs.
const SERVICE_RANGES: (&str, &str) = ("10.96.0.0/16", "fd00:10:96::/112");
/// The namespace of clients among host processes.
const HOSTS: &str = "lb-conformance-hosts";

/// The site.
pub struct KindSite {
    cluster: KindCluster,
    families: Families,
    nodes: Vec<SiteNode>,
    /// The container outside.
    outside: String,
    namespaces: Mutex<BTreeSet<String>>,
    pods: Pods,
    making_host: Mutex<()>,
    numbers: Numbers,
}

// === impl KindSite ===

impl KindSite {
    /// A site out of a cluster that stands, with `image` for its pods.
    pub fn new(cluster: KindCluster, families: Families, image: &str) -> Result<Self> {
        let nodes = cluster.runner().output(&cluster.kubectl().list("nodes"))?;
        let nodes = workers(&serde_json::from_str(&nodes).context("the nodes")?);
        if nodes.len() < 3 {
            bail!("{} workers are not enough: cases need three", nodes.len());
        }
        let outside = format!("{}-outside", cluster.name());
        let run = commands::outside(&outside, image);
        cluster
            .runner()
            .output(&run)
            .context("the client outside")?;
        let pods = Pods::new(cluster.clone(), image);
        let ranges = (SERVICE_RANGES.0.parse()?, SERVICE_RANGES.1.parse()?);
        Ok(Self {
            cluster,
            families,
            nodes,
            outside,
            namespaces: Mutex::default(),
            pods,
            making_host: Mutex::default(),
            // The upper half of what is not given out by itself.
            numbers: Numbers::new(ranges, 0x1000, 30_100),
        })
    }

    /// Whether nodes n and n + 3 are in one of three zones.
    fn has_two_nodes_a_zone(&self) -> bool {
        let zones: Vec<&str> = self.nodes.iter().map(|node| node.zone.as_str()).collect();
        zones.len() >= 6 && zones[..3] == zones[3..6]
    }

    fn runner(&self) -> &dyn Runner {
        self.cluster.runner().as_ref()
    }

    fn kubectl(&self) -> Kubectl {
        self.cluster.kubectl()
    }

    fn run(&self, invocation: &Invocation) -> Result<String> {
        self.runner().output(invocation)
    }

    /// Creates a namespace and waits until pods can be made in it.
    fn ensure_namespace(&self, namespace: &str) -> Result<()> {
        let mut known = locked(&self.namespaces);
        if known.contains(namespace) {
            return Ok(());
        }
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace },
        });
        self.run(&self.kubectl().apply(&object))?;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "default", "namespace": namespace },
        });
        // Its controller would make it, but a little later.
        self.run(&self.kubectl().apply(&account))?;
        known.insert(namespace.to_owned());
        Ok(())
    }

    fn control(&self, invocation: &Invocation) -> Result<Control> {
        Control::over(self.runner().start(invocation)?)
    }
}

impl fmt::Debug for KindSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("KindSite");
        debug.field("cluster", &self.cluster.name());
        debug.field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Drop for KindSite {
    fn drop(&mut self) {
        let remove = commands::docker_remove(&self.outside);
        if let Err(error) = self.run(&remove) {
            crate::panics::note(&format!("the client outside stays: {error:#}"));
        }
        if let Err(error) = self.delete_namespace(HOSTS) {
            crate::panics::note(&format!("{HOSTS} stays: {error:#}"));
        }
    }
}

impl Site for KindSite {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn families(&self) -> Families {
        self.families
    }

    fn offers(&self, need: Needs) -> bool {
        match need {
            Needs::V4 => self.families.has_v4(),
            Needs::V6 => self.families.has_v6(),
            Needs::Outside | Needs::Zones => true,
            Needs::SixNodes => self.has_two_nodes_a_zone(),
            Needs::Namespaces
            | Needs::Routes
            | Needs::AnyClusterIp
            | Needs::ProxyRestarts
            | Needs::ProxySettings
            | Needs::ApiRestarts
            | Needs::NodeChanges => false,
        }
    }

    fn node(&self, node: usize) -> SiteNode {
        self.nodes[node].clone()
    }

    fn start_pod(&self, spec: &PodSpec) -> Result<Box<dyn SitePod>> {
        self.ensure_namespace(&spec.namespace)?;
        let node = &self.nodes[spec.node].name;
        Ok(Box::new(self.pods.start(spec, node)?))
    }

    fn host_client(&self, node: usize) -> Result<Place> {
        let spec = PodSpec {
            namespace: HOSTS.to_owned(),
            name: format!("host-{node}"),
            node,
            host_network: true,
            ..PodSpec::default()
        };
        // Two at once must not make two.
        let _making = locked(&self.making_host);
        let running = self.pods.name_of(HOSTS, &spec.name);
        let name = running.map_or_else(
            || {
                self.ensure_namespace(HOSTS)?;
                let pod = self.pods.start(&spec, &self.nodes[node].name)?;
                Ok::<_, Error>(pod.kept())
            },
            Ok,
        )?;
        let exec = self.kubectl().exec(HOSTS, &name, &CLIENT);
        Ok(Place {
            control: self.control(&exec)?,
            addresses: self.nodes[node].addresses.clone(),
            placement: None,
        })
    }

    fn outside_client(&self) -> Result<Place> {
        let network = self.run(&commands::docker_addresses(&self.outside))?;
        let network: Value = serde_json::from_str(&network).context("docker's network")?;
        let exec = commands::docker_exec(&self.outside, &CLIENT);
        Ok(Place {
            control: self.control(&exec)?,
            addresses: outside_addresses(&network, self.families),
            placement: None,
        })
    }

    fn new_outside_client(&self, _name: &str) -> Result<Place> {
        bail!("the site kind has one place outside")
    }

    fn route(&self, address: IpAddr, _node: usize) -> Result<()> {
        bail!("the site kind routes no addresses such as {address}")
    }

    fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let at = object_path(object)?;
        self.ensure_namespace(at.namespace)?;
        self.run(&self.kubectl().apply(object))?;
        // The status is written by itself.
        if let Some(status) = object.get("status").filter(|status| !status.is_null()) {
            let patch = json!({ "status": status });
            self.run(&self.kubectl().patch(&at, true, &patch))?;
        }
        Ok(())
    }

    fn delete(&self, object: &Value) -> Result<()> {
        let delete = self.kubectl().delete(&object_path(object)?);
        self.run(&delete).map(drop)
    }

    fn set_pods(&self, pods: Vec<workload::Pod>) -> Result<()> {
        pods.iter().try_for_each(|record| self.pods.set(record))
    }

    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()> {
        names
            .iter()
            .try_for_each(|name| self.pods.withdraw(namespace, name))
    }

    fn delete_namespace(&self, namespace: &str) -> Result<()> {
        if !locked(&self.namespaces).remove(namespace) {
            return Ok(());
        }
        let delete = self.kubectl().delete_namespace(namespace);
        self.run(&delete).map(drop)
    }

    fn explain(&self, namespace: &str) -> String {
        let kubectl = self.kubectl();
        let daemon_set = format!("daemonset/{DAEMON_SET}");
        let list = ["lbctl", "list", "--by-service", "--namespace", namespace];
        let mut text = String::new();
        for invocation in [
            kubectl.show(namespace, "services,endpointslices,pods"),
            kubectl.logs(NAMESPACE, LABEL, 15),
            kubectl.exec(NAMESPACE, &daemon_set, &list),
        ] {
            let said = self.run(&invocation);
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "--- {invocation}:\n{said}");
        }
        text
    }
}

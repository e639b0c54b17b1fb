//! Pods in the cluster, and what the API has been told about each.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Error, Result, bail};

use super::{
    KindCluster, commands::ObjectPath, locked, pod, read::pod_addresses, runner::Invocation,
    site::CLIENT,
};
use crate::{
    conformance::site::{PodSpec, SitePod},
    control::Control,
    process::Placement,
    workload,
};

/// Pods by namespace and the name that cases know.
type Registry = Arc<Mutex<BTreeMap<(String, String), Known>>>;

/// What is known about a pod.
#[derive(Clone, Debug)]
struct Known {
    /// Its name in the API.
    name: String,
    labels: BTreeMap<String, String>,
    ready: bool,
    grace: u64,
    terminating: bool,
}

/// The pods of a site.
pub(super) struct Pods {
    cluster: KindCluster,
    image: String,
    known: Registry,
    next: AtomicU32,
}

// === impl Pods ===

impl Pods {
    pub(super) fn new(cluster: KindCluster, image: &str) -> Self {
        Self {
            cluster,
            image: image.to_owned(),
            known: Registry::default(),
            next: AtomicU32::new(1),
        }
    }

    /// The name in the API of a pod that runs.
    pub(super) fn name_of(&self, namespace: &str, name: &str) -> Option<String> {
        let key = (namespace.to_owned(), name.to_owned());
        locked(&self.known)
            .get(&key)
            .map(|known| known.name.clone())
    }

    fn run(&self, invocation: &Invocation) -> Result<String> {
        self.cluster.runner().output(invocation)
    }

    /// Starts a pod on the node of this name, in a namespace that exists.
    pub(super) fn start(&self, spec: &PodSpec, node: &str) -> Result<KindPod> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", spec.name);
        let manifest = pod::manifest(spec, &name, node, &self.image);
        let kubectl = self.cluster.kubectl();
        self.run(&kubectl.apply(&manifest))?;
        let mut made = KindPod {
            cluster: self.cluster.clone(),
            namespace: spec.namespace.clone(),
            name: name.clone(),
            addresses: Vec::new(),
            known: Arc::clone(&self.known),
            key: (spec.namespace.clone(), spec.name.clone()),
        };
        let runs = kubectl.wait(&spec.namespace, &name, "condition=ContainersReady", 120);
        self.run(&runs)?;
        let at = ObjectPath {
            kind: "pod",
            namespace: &spec.namespace,
            name: &name,
        };
        let object = self.run(&kubectl.get(&at))?;
        let object = serde_json::from_str(&object).context("a pod")?;
        made.addresses = pod_addresses(&object);
        let known = Known {
            name,
            labels: BTreeMap::new(),
            ready: false,
            grace: pod::grace(spec),
            terminating: false,
        };
        locked(&self.known).insert(made.key.clone(), known);
        Ok(made)
    }

    /// Makes the API say of a pod what the record says.
    pub(super) fn set(&self, record: &workload::Pod) -> Result<()> {
        let key = (record.namespace.clone(), record.name.clone());
        let known = locked(&self.known).get(&key).cloned();
        let Some(mut known) = known else {
            bail!("{} is no pod that was started here", record.name);
        };
        let kubectl = self.cluster.kubectl();
        let name = known.name.clone();
        let at = ObjectPath {
            kind: "pod",
            namespace: &record.namespace,
            name: &name,
        };
        if known.labels != record.labels {
            let patch = pod::relabel(known.labels.keys(), &record.labels);
            self.run(&kubectl.patch(&at, false, &patch))?;
            known.labels.clone_from(&record.labels);
        }
        if known.ready != record.ready {
            self.run(&kubectl.patch(&at, true, &pod::gate(record.ready)))?;
            known.ready = record.ready;
        }
        if record.terminating && !known.terminating {
            self.run(&kubectl.end_pod(&record.namespace, &name, known.grace))?;
            known.terminating = true;
        }
        locked(&self.known).insert(key, known);
        Ok(())
    }

    /// Takes a pod out of every Service; it runs on.
    pub(super) fn withdraw(&self, namespace: &str, name: &str) -> Result<()> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = locked(&self.known).get(&key).cloned();
        let Some(mut known) = known else {
            return Ok(());
        };
        let at = ObjectPath {
            kind: "pod",
            namespace,
            name: &known.name,
        };
        let patch = pod::relabel(known.labels.keys(), []);
        let patched = self.run(&self.cluster.kubectl().patch(&at, false, &patch));
        if let Err(error) = patched
            && !(known.terminating && is_absent(&error))
        {
            return Err(error);
        }
        known.labels.clear();
        locked(&self.known).insert(key, known);
        Ok(())
    }
}

/// Whether this is `kubectl`'s complaint about an object that does not exist: a pod that was told
/// to end goes when it likes.
fn is_absent(error: &Error) -> bool {
    format!("{error:#}").contains("(NotFound)")
}

/// A pod in the cluster.
pub(super) struct KindPod {
    cluster: KindCluster,
    namespace: String,
    /// Its name in the API.
    name: String,
    addresses: Vec<IpAddr>,
    known: Registry,
    key: (String, String),
}

impl KindPod {
    /// Leaves the pod running; its name.
    pub(super) fn kept(self) -> String {
        let name = self.name.clone();
        std::mem::forget(self);
        name
    }
}

impl fmt::Debug for KindPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl SitePod for KindPod {
    fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    fn control(&self) -> Result<Control> {
        let kubectl = self.cluster.kubectl();
        let exec = kubectl.exec(&self.namespace, &self.name, &CLIENT);
        Control::over(self.cluster.runner().start(&exec)?)
    }

    /// The kubelet does, when the API says so.
    fn terminate(&self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let seconds = limit.as_secs().max(1);
        let kubectl = self.cluster.kubectl();
        let wait = kubectl.wait(&self.namespace, &self.name, "delete", seconds);
        self.cluster.runner().output(&wait).map(drop)
    }

    fn placement(&self) -> Option<&Placement> {
        None
    }
}

impl Drop for KindPod {
    fn drop(&mut self) {
        let mut pods = locked(&self.known);
        // A younger one of the same name stays.
        if pods
            .get(&self.key)
            .is_some_and(|known| known.name == self.name)
        {
            pods.remove(&self.key);
        }
        drop(pods);
        let end = self
            .cluster
            .kubectl()
            .end_pod(&self.namespace, &self.name, 0);
        if let Err(error) = self.cluster.runner().output(&end) {
            crate::panics::note(&format!("{self:?} stays: {error:#}"));
        }
    }
}

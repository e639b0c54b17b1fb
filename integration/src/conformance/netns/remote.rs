//! The control plane behind a kubeconfig: Services, Nodes and Pods are real objects there, and its
//! own controllers make the EndpointSlices.
//!
//! Pods are bound to the site's nodes when they are created, and their status is what the site
//! says: no kubelet runs. Everything carries the run's name, and goes with the site.

mod nodes;
mod paths;
mod ranges;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

pub(super) use self::ranges::service_ranges;
use self::{nodes::Leases, paths::path_of};
use super::plane::Plane;
use crate::{cluster::Cluster, objects::Http, panics::note, workload::Pod};

/// How long a pod that terminates may take; the site deletes it for good before.
const GRACE: u32 = 300;
/// How long the control plane may take to prepare a new namespace for pods.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(20);

/// See the module documentation.
pub(super) struct Remote {
    http: Arc<Http>,
    /// What the names of this run's namespaces begin with.
    run: String,
    pods: Mutex<BTreeMap<(String, String), Pod>>,
    namespaces: Mutex<BTreeSet<String>>,
    /// Keeps the nodes alive; they go with it.
    _leases: Leases,
}

// === impl Remote ===

impl Remote {
    /// Registers the nodes of `cluster`.
    pub(super) fn register(http: Http, cluster: &Cluster, run: &str) -> Result<Self> {
        let http = Arc::new(http);
        let leases = Leases::start(&http, cluster)?;
        Ok(Self {
            http,
            run: run.to_owned(),
            pods: Mutex::default(),
            namespaces: Mutex::default(),
            _leases: leases,
        })
    }

    fn ensure_namespace(&self, name: &str) -> Result<()> {
        let mut known = lock(&self.namespaces);
        if known.insert(name.to_owned()) {
            let labels = json!({nodes::RUN_LABEL: self.run});
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": labels},
            });
            self.http.create("/api/v1/namespaces", &object)?;
        }
        Ok(())
    }

    /// Creates a pod. A real control plane refuses it until the namespace has its service account.
    fn create_pod(&self, pod: &Pod) -> Result<()> {
        self.ensure_namespace(&pod.namespace)?;
        let mut object = pod.object();
        object["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        object["spec"]["automountServiceAccountToken"] = json!(false);
        object["spec"]["terminationGracePeriodSeconds"] = json!(GRACE);
        let collection = format!("/api/v1/namespaces/{}/pods", pod.namespace);
        let deadline = Instant::now() + NAMESPACE_LIMIT;
        loop {
            match self.http.create(&collection, &object) {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
        self.say_status(pod)
    }

    fn say_status(&self, pod: &Pod) -> Result<()> {
        let mut status = pod.object()["status"].clone();
        let ready = status["conditions"][0]["status"].clone();
        let condition = |kind: &str, status: &Value| json!({"type": kind, "status": status});
        status["conditions"] = json!([
            condition("Initialized", &json!("True")),
            condition("PodScheduled", &json!("True")),
            condition("ContainersReady", &ready),
            condition("Ready", &ready),
        ]);
        let path = format!("{}/status", pod_path(&pod.namespace, &pod.name));
        self.http.merge(&path, &json!({"status": status})).map(drop)
    }

    /// Brings what the API says about a pod from `before` to `pod`.
    fn update_pod(&self, before: &Pod, pod: &Pod) -> Result<()> {
        let path = pod_path(&pod.namespace, &pod.name);
        if before.labels != pod.labels {
            let change = json!({"metadata": {"labels": pod.labels}});
            self.http.merge(&path, &change)?;
        }
        if before.ready != pod.ready || before.addresses != pod.addresses {
            self.say_status(pod)?;
        }
        if pod.terminating && !before.terminating {
            self.http.delete(&path, Some(GRACE))?;
        }
        Ok(())
    }

    fn set_pod(&self, pod: Pod) -> Result<()> {
        let key = (pod.namespace.clone(), pod.name.clone());
        let before = lock(&self.pods).get(&key).cloned();
        let before = if let Some(before) = before {
            before
        } else {
            self.create_pod(&pod)?;
            Pod {
                terminating: false,
                ..pod.clone()
            }
        };
        self.update_pod(&before, &pod)?;
        lock(&self.pods).insert(key, pod);
        Ok(())
    }
}

impl Plane for Remote {
    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let mut object = object.clone();
        let status = object
            .as_object_mut()
            .and_then(|fields| fields.remove("status"));
        as_accepted(&mut object);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.ensure_namespace(namespace)?;
        let (collection, path) = path_of(&object)?;
        match self.http.get(&path)? {
            Some(before) => {
                as_changed(&mut object, &before);
                self.http.replace(&path, &object)?;
            }
            None => drop(self.http.create(&collection, &object)?),
        }
        if object["spec"]["type"] == "LoadBalancer" {
            let change = json!({"status": status});
            self.http.merge(&format!("{path}/status"), &change)?;
        }
        Ok(())
    }

    fn delete(&self, object: &Value) -> Result<()> {
        self.http.delete(&path_of(object)?.1, None)
    }

    fn set_pods(&self, pods: Vec<Pod>) -> Result<()> {
        pods.into_iter().try_for_each(|pod| self.set_pod(pod))
    }

    fn remove_pods(&self, namespace: &str, names: &[&str]) -> Result<()> {
        for &name in names {
            self.http.delete(&pod_path(namespace, name), Some(0))?;
            let mut pods = lock(&self.pods);
            pods.remove(&(namespace.to_owned(), name.to_owned()));
        }
        Ok(())
    }

    fn delete_namespace(&self, namespace: &str) -> Result<()> {
        let names: Vec<String> = {
            let pods = lock(&self.pods);
            let of_it = pods.keys().filter(|(of, _)| of == namespace);
            of_it.map(|(_, name)| name.clone()).collect()
        };
        // No kubelet would let them go.
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.remove_pods(namespace, &names)?;
        let known = lock(&self.namespaces).remove(namespace);
        if known {
            self.http
                .delete(&format!("/api/v1/namespaces/{namespace}"), None)?;
        }
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *lock(&self.namespaces));
        for namespace in left {
            if let Err(error) = self
                .http
                .delete(&format!("/api/v1/namespaces/{namespace}"), None)
            {
                note(&format!("deleting namespace {namespace}: {error:#}"));
            }
        }
    }
}

/// A case that failed while it held this has left it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// Leaves out of a Service what API servers refuse for its type, though proxies must bear it.
fn as_accepted(object: &mut Value) {
    if object["spec"]["type"] != "ExternalName" {
        return;
    }
    if object["spec"]["externalName"].is_null() {
        object["spec"]["externalName"] = json!("elsewhere.test");
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "externalTrafficPolicy",
    ] {
        spec.remove(field);
    }
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
}

/// Takes over from what is there what servers before 1.23 miss in a replacement.
fn as_changed(object: &mut Value, before: &Value) {
    let version = &before["metadata"]["resourceVersion"];
    object["metadata"]["resourceVersion"] = version.clone();
    let checked =
        |of: &Value| of["type"] == "LoadBalancer" && of["externalTrafficPolicy"] == "Local";
    let (spec, old) = (&mut object["spec"], &before["spec"]);
    if checked(spec) && checked(old) && spec["healthCheckNodePort"].is_null() {
        spec["healthCheckNodePort"] = old["healthCheckNodePort"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_keep_what_the_server_has_chosen() {
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let mut before = json!({"metadata": {"resourceVersion": "7"}, "spec": local.clone()});
        before["spec"]["healthCheckNodePort"] = json!(30_500);
        let mut changed = json!({"metadata": {}, "spec": local});
        as_changed(&mut changed, &before);
        assert_eq!(changed, before);
        let mut other = json!({"metadata": {}, "spec": {"type": "NodePort"}});
        as_changed(&mut other, &before);
        assert_eq!(other["spec"], json!({"type": "NodePort"}));
    }

    #[test]
    fn external_names_lose_what_api_servers_refuse() {
        let mut service = json!({"spec": {
            "type": "ExternalName", "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"],
            "ports": [{"port": 80, "nodePort": 30000}],
        }});
        as_accepted(&mut service);
        let spec = json!({
            "type": "ExternalName", "externalName": "elsewhere.test", "ports": [{"port": 80}],
        });
        assert_eq!(service["spec"], spec);
        let mut other = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.1.1"}});
        let before = other.clone();
        as_accepted(&mut other);
        assert_eq!(other, before);
    }
}

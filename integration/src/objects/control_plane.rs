//! Services and pods as tests change them, with the EndpointSlices that follow.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{ObjectId, Objects};
use crate::workload::{Pod, endpoint_slices, mirrored_slices};

/// The part of a control plane that matters to a proxy. Every method delivers what changed, and
/// nothing else, before it returns.
pub struct ControlPlane {
    store: Box<dyn Objects>,
    services: BTreeMap<(String, String), Value>,
    pods: BTreeMap<(String, String), Pod>,
    /// What has been delivered on behalf of the EndpointSlice controller.
    slices: BTreeMap<ObjectId, Value>,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (services, pods) = (self.services.keys(), self.pods.keys());
        f.debug_struct("ControlPlane")
            .field("services", &services.collect::<Vec<_>>())
            .field("pods", &pods.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// One without objects.
    pub fn new(store: Box<dyn Objects>) -> Self {
        Self {
            store,
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            slices: BTreeMap::new(),
        }
    }

    /// Delivers an object as it is: Nodes, user-made EndpointSlices, Services without selector.
    /// Of Endpoints, which no proxy reads, it delivers the mirrored slices.
    pub fn apply(&mut self, object: &Value) -> Result<()> {
        if object["kind"] == "Endpoints" {
            let slices = mirrored_slices(object);
            return slices.iter().try_for_each(|slice| self.store.apply(slice));
        }
        if object["kind"] == "Service" {
            self.services.insert(key(object)?, object.clone());
            self.store.apply(object)?;
            return self.sync_slices();
        }
        self.store.apply(object)
    }

    /// Deletes an object. With a Service go the slices made for it.
    pub fn delete(&mut self, object: &Value) -> Result<()> {
        if object["kind"] == "Endpoints" {
            let mut slices = mirrored_slices(object).into_iter();
            return slices.try_for_each(|slice| self.store.delete(&ObjectId::of(&slice)?));
        }
        self.store.delete(&ObjectId::of(object)?)?;
        if object["kind"] == "Service" {
            self.services.remove(&key(object)?);
            return self.sync_slices();
        }
        Ok(())
    }

    /// Adds pods, or replaces those of the same names.
    pub fn set_pods(&mut self, pods: impl IntoIterator<Item = Pod>) -> Result<()> {
        for pod in pods {
            self.pods
                .insert((pod.namespace.clone(), pod.name.clone()), pod);
        }
        self.sync_slices()
    }

    /// Changes one pod.
    pub fn change_pod(
        &mut self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Pod),
    ) -> Result<()> {
        let pod = self.pods.get_mut(&(namespace.to_owned(), name.to_owned()));
        change(pod.with_context(|| format!("no pod {namespace}/{name}"))?);
        self.sync_slices()
    }

    /// Forgets pods.
    pub fn remove_pods(&mut self, namespace: &str, names: &[&str]) -> Result<()> {
        for &name in names {
            self.pods.remove(&(namespace.to_owned(), name.to_owned()));
        }
        self.sync_slices()
    }

    /// Deletes all Services and pods of a namespace, and the slices made for them.
    pub fn delete_namespace(&mut self, namespace: &str) -> Result<()> {
        self.pods.retain(|(of, _), _| of != namespace);
        let gone = self.services.extract_if(.., |(of, _), _| of == namespace);
        for (_, service) in gone.collect::<Vec<_>>() {
            self.store.delete(&ObjectId::of(&service)?)?;
        }
        self.sync_slices()
    }

    fn sync_slices(&mut self) -> Result<()> {
        let pods: Vec<Pod> = self.pods.values().cloned().collect();
        let mut wanted = BTreeMap::new();
        for slice in self
            .services
            .values()
            .flat_map(|service| endpoint_slices(service, &pods))
        {
            wanted.insert(ObjectId::of(&slice)?, slice);
        }
        for (id, slice) in &wanted {
            if self.slices.get(id) != Some(slice) {
                self.store.apply(slice)?;
            }
        }
        for id in self.slices.keys().filter(|id| !wanted.contains_key(id)) {
            self.store.delete(id)?;
        }
        self.slices = wanted;
        Ok(())
    }
}

fn key(object: &Value) -> Result<(String, String)> {
    let id = ObjectId::of(object)?;
    Ok((id.namespace, id.name))
}

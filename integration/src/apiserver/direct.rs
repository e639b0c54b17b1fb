//! Access to the objects without HTTP, for the test that owns the server.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};

use super::{
    ApiServer, Cidr,
    error::ApiError,
    kinds::{self, KindRef},
    object::{Key, map_mut, meta, name_suffix, not_found},
    patch::{self, Format},
    store::{Part, Preconditions, WriteOptions},
    watch::EventType,
};

const WHOLE: WriteOptions = WriteOptions {
    part: Part::Whole,
    dry_run: false,
};

impl ApiServer {
    /// Creates an object; one of that name must not exist.
    pub fn create(&self, object: Value) -> Result<Value, ApiError> {
        self.write(object, |kind, key, object, before| match before {
            Some(_) => Err(ApiError::AlreadyExists {
                resource: kind.resource(),
                name: key.name.clone(),
            }),
            None => Ok(object),
        })
    }

    /// Creates an object or merges it into the stored one, as server-side apply does.
    pub fn apply(&self, object: Value) -> Result<Value, ApiError> {
        self.write(object, |kind, _, object, before| match before {
            Some(before) => patch::apply(kind, Format::Apply, before, &object),
            None => Ok(object),
        })
    }

    /// Creates an object or puts it in place of the stored one. A `resourceVersion`
    /// in it must be the stored one's.
    pub fn replace(&self, object: Value) -> Result<Value, ApiError> {
        self.write(object, |_, _, object, _| Ok(object))
    }

    /// Changes a stored object in place.
    pub fn edit(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Value, ApiError> {
        let kind = lookup(kind)?;
        let key = key(kind, namespace, name);
        let written = self.shared.store.write(kind, &key, WHOLE, |before| {
            let mut object = before.cloned().ok_or_else(|| not_found(kind, name))?;
            edit(&mut object);
            Ok(object)
        })?;
        Ok((*written.object).clone())
    }

    /// Deletes an object and answers its last state.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let kind = lookup(kind)?;
        let key = key(kind, namespace, name);
        let deleted = self
            .shared
            .store
            .delete(kind, &key, &Preconditions::default(), false)?;
        Ok(Arc::unwrap_or_clone(deleted))
    }

    /// One object. `kind` is a plural, kind or short name; the namespace of
    /// cluster-scoped kinds does not matter.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let kind = lookup(kind)?;
        self.shared
            .store
            .get(kind, &key(kind, namespace, name))
            .map(Arc::unwrap_or_clone)
    }

    /// All objects of a kind, of one namespace or of all, in order of name.
    pub fn list(&self, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>, ApiError> {
        let kind = lookup(kind)?;
        let namespace = namespace.filter(|_| kind.namespaced());
        let (_, objects) = self.shared.store.list(kind, namespace, None)?;
        Ok(objects
            .into_iter()
            .map(|(_, object)| Arc::unwrap_or_clone(object))
            .collect())
    }

    /// The version of the last write.
    pub fn resource_version(&self) -> u64 {
        self.shared.store.version()
    }

    /// Sends an event as is to all open watches of the object's kind, whatever
    /// their selectors: a replay of an old state, an event out of order. Answers
    /// how many watches are open, of any kind.
    pub fn inject_event(&self, event: EventType, object: Value) -> Result<usize, ApiError> {
        let kind = kind_of(&object)?;
        Ok(self.shared.faults.inject(kind, event, object))
    }

    fn write(
        &self,
        mut object: Value,
        edit: impl FnOnce(KindRef, &Key, Value, Option<&Value>) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let kind = kind_of(&object)?;
        let mut name = meta(&object, "name").to_owned();
        let prefix = meta(&object, "generateName");
        if name.is_empty() && !prefix.is_empty() {
            name = format!("{prefix}{}", name_suffix());
            map_mut(&mut object, "metadata").insert("name".into(), name.clone().into());
        }
        let key = key(kind, meta(&object, "namespace"), &name);
        if kind.namespaced() {
            self.ensure_namespace(&key.namespace)?;
        }
        let store = &self.shared.store;
        let written = store.write(kind, &key, WHOLE, |before| edit(kind, &key, object, before))?;
        Ok((*written.object).clone())
    }

    fn ensure_namespace(&self, name: &str) -> Result<(), ApiError> {
        let kind = lookup("namespaces")?;
        let store = &self.shared.store;
        let object = json!({"metadata": {"name": name}});
        store
            .write(kind, &Key::new("", name), WHOLE, |before| {
                Ok(before.cloned().unwrap_or(object))
            })
            .map(drop)
    }

    /// What a fresh cluster has.
    pub(super) fn create_own_objects(
        &self,
        cidrs: &[Cidr],
        advertise: Option<SocketAddr>,
    ) -> Result<(), ApiError> {
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            self.ensure_namespace(namespace)?;
        }
        let ranges: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        self.create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges},
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2024-01-01T00:00:00Z",
            }]},
        }))?;
        let (Some(address), Some(cidr)) = (advertise, cidrs.first()) else {
            return Ok(());
        };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        self.create(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "clusterIP": cidr.nth(1).to_string(),
                "ports": [{"name": "https", "port": 443, "targetPort": address.port()}],
            },
        }))?;
        self.create(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family,
            "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
        }))?;
        Ok(())
    }
}

fn lookup(name: &str) -> Result<KindRef, ApiError> {
    kinds::by_name(name).ok_or(ApiError::UnknownPath)
}

fn kind_of(object: &Value) -> Result<KindRef, ApiError> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    kinds::by_object(text("apiVersion"), text("kind")).ok_or_else(|| {
        let (kind, version) = (text("kind"), text("apiVersion"));
        ApiError::BadRequest(format!(
            "no matches for kind \"{kind}\" in version \"{version}\""
        ))
    })
}

fn key(kind: KindRef, namespace: &str, name: &str) -> Key {
    let namespace = match (kind.namespaced(), namespace) {
        (false, _) => "",
        (true, "") => "default",
        (true, namespace) => namespace,
    };
    Key::new(namespace, name)
}

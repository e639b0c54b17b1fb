//! Services as tests write them, with the defaults an API server would fill in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

/// A dual-stack Service of type ClusterIP under construction, or changed later.
#[derive(Clone, Debug)]
pub struct Service {
    object: Value,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

// === impl Service ===

impl Service {
    /// A Service without ports whose selector is `app=<name>`.
    pub fn new(namespace: &str, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name, "labels": {}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": v4.to_string(),
                "clusterIPs": [v4.to_string(), v6.to_string()],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "selector": {"app": name},
                "ports": [],
            },
            "status": {"loadBalancer": {}},
        });
        Self { object, v4, v6 }
    }

    /// With a port; `target` is a number or the name of a container port.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16, target: impl Into<Value>, protocol: &str) -> Self {
        let mut entry = json!({"port": port, "targetPort": target.into(), "protocol": protocol});
        if !name.is_empty() {
            entry["name"] = json!(name);
        }
        if let Some(ports) = self.object["spec"]["ports"].as_array_mut() {
            ports.push(entry);
        }
        self
    }

    /// Without the port of this name.
    #[must_use]
    pub fn without_port(mut self, name: &str) -> Self {
        if let Some(ports) = self.object["spec"]["ports"].as_array_mut() {
            ports.retain(|port| port["name"].as_str().unwrap_or_default() != name);
        }
        self
    }

    /// With a field of `spec` set; `null` removes it.
    #[must_use]
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.object["spec"][field] = value.into();
        if let (true, Some(spec)) = (
            self.object["spec"][field].is_null(),
            self.object["spec"].as_object_mut(),
        ) {
            spec.remove(field);
        }
        self
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["labels"][key] = json!(value);
        self
    }

    /// With `sessionAffinity: ClientIP` and this timeout.
    #[must_use]
    pub fn client_ip_affinity(self, seconds: u32) -> Self {
        self.spec("sessionAffinity", "ClientIP").spec(
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": seconds}}),
        )
    }

    /// The Kubernetes object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The IPv4 ClusterIP with a port.
    pub fn v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.v4), port)
    }

    /// The IPv6 ClusterIP with a port.
    pub fn v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v6), port)
    }

    /// Both.
    pub fn at(&self, port: u16) -> [SocketAddr; 2] {
        [self.v4(port), self.v6(port)]
    }
}

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

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// Of type NodePort (unless it is a LoadBalancer), with this node port for the port of this
    /// name.
    #[must_use]
    pub fn node_port(mut self, name: &str, number: u16) -> Self {
        let ports = self.object["spec"]["ports"].as_array_mut();
        for port in ports.into_iter().flatten() {
            if port["name"].as_str().unwrap_or_default() == name {
                port["nodePort"] = json!(number);
            }
        }
        if self.object["spec"]["type"] == "ClusterIP" {
            self.object["spec"]["type"] = json!("NodePort");
        }
        self.with_external_policy("Cluster")
    }

    /// Of type LoadBalancer, with these addresses assigned.
    #[must_use]
    pub fn load_balancer(mut self, addresses: &[IpAddr]) -> Self {
        let ingress: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"}))
            .collect();
        self.object["spec"]["type"] = json!("LoadBalancer");
        self.ingress(&ingress).with_external_policy("Cluster")
    }

    /// With this `status.loadBalancer.ingress`.
    #[must_use]
    pub fn ingress(mut self, ingress: &[Value]) -> Self {
        self.object["status"]["loadBalancer"] = json!({"ingress": ingress});
        self
    }

    /// With external IPs.
    #[must_use]
    pub fn external_ips(mut self, addresses: &[IpAddr]) -> Self {
        let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.object["spec"]["externalIPs"] = json!(all);
        self.with_external_policy("Cluster")
    }

    /// With `externalTrafficPolicy: Local`.
    #[must_use]
    pub fn external_local(self) -> Self {
        self.spec("externalTrafficPolicy", "Local")
    }

    /// The API server fills the policy in for every Service that is reachable from outside.
    fn with_external_policy(mut self, default: &str) -> Self {
        if self.object["spec"]["externalTrafficPolicy"].is_null() {
            self.object["spec"]["externalTrafficPolicy"] = json!(default);
        }
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

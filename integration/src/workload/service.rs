//! Services as tests write them, with the defaults an API server would fill in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::cluster::Families;

/// A Service of type ClusterIP under construction, or changed later.
#[derive(Clone, Debug)]
pub struct Service {
    object: Value,
    families: Families,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

// === impl Service ===

impl Service {
    /// A dual-stack Service without ports whose selector is `app=<name>`.
    pub fn new(namespace: &str, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        Self::of_families(namespace, name, Families::Dual, v4, v6)
    }

    /// The same with these families alone.
    pub fn of_families(
        namespace: &str,
        name: &str,
        families: Families,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
    ) -> Self {
        let ips = families.in_use([v4.into(), v6.into()]);
        let names = ips
            .iter()
            .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" });
        let names: Vec<&str> = names.collect();
        let policy = match families {
            Families::Dual => "RequireDualStack",
            Families::V4 | Families::V6 => "SingleStack",
        };
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name, "labels": {}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": ips[0],
                "clusterIPs": ips,
                "ipFamilies": names,
                "ipFamilyPolicy": policy,
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "selector": {"app": name},
                "ports": [],
            },
            "status": {"loadBalancer": {}},
        });
        Self {
            object,
            families,
            v4,
            v6,
        }
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

    /// The ClusterIPs of the families that the Service has, with a port.
    pub fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let ips = self.families.in_use([self.v4.into(), self.v6.into()]);
        ips.iter().map(|&ip| SocketAddr::new(ip, port)).collect()
    }

    /// The ClusterIP of the first family with a port.
    pub fn first(&self, port: u16) -> SocketAddr {
        self.addresses(port)[0]
    }

    /// Both.
    pub fn at(&self, port: u16) -> [SocketAddr; 2] {
        [self.v4(port), self.v6(port)]
    }
}

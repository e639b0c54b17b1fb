//! Frontends for clients outside the cluster, in the maps of a running node.

use std::{fs, thread, time::Instant};

use serde_json::{Value, json};

use crate::live::{Node, PATIENCE};

/// A load balancer in DSR mode that restricts its sources, with one backend on this node;
/// `ranges` is a YAML list.
fn manifest(ranges: &str, mode: &str, policy: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Node
metadata: {{name: n1}}
status: {{addresses: [{{type: InternalIP, address: 10.9.0.1}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: edge, namespace: shop, annotations: {{lb/forwarding-mode: {mode}}}}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: {policy}
  clusterIP: 10.96.0.12
  clusterIPs: [10.96.0.12]
  ipFamilies: [IPv4]
  externalIPs: [198.51.100.1]
  loadBalancerSourceRanges: {ranges}
  ports: [{{name: http, port: 80, protocol: TCP, nodePort: 30080}}]
status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.1}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: edge-1, namespace: shop, labels: {{kubernetes.io/service-name: edge}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints:
- addresses: [10.1.0.1]
  nodeName: n1
- addresses: [10.1.0.2]
  nodeName: n2
"
    )
}

impl Node {
    fn put(&self, manifest: Option<&str>) {
        let file = self.manifests.join("edge.yaml");
        match manifest {
            None => fs::remove_file(file).expect("the manifest was there"),
            Some(text) => {
                let new = self.manifests.join("edge.tmp");
                fs::write(&new, text).expect("a manifest");
                fs::rename(new, file).expect("rename");
            }
        }
    }

    /// The canonical form of the Service, once it is as `expected`.
    fn edge_when(&self, expected: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let dump = self.text(&["dump", "-o", "json", "--name", "edge"]);
            let dump: Value = serde_json::from_str(&dump).expect("JSON");
            let edge = &dump["services"][0];
            // A dump while the controller writes may contradict itself.
            if expected(edge) && dump["inconsistencies"] == json!([]) {
                return edge.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{dump}");
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn raw(&self) -> Value {
        serde_json::from_str(&self.text(&["dump", "--raw", "-o", "json"])).expect("JSON")
    }
}

/// `kind address:port scope flags` of each frontend.
fn frontends(edge: &Value) -> Vec<String> {
    let show = |f: &Value| {
        let text = |field: &str| f[field].as_str().unwrap_or("?").to_owned();
        let flags: Vec<_> = f["flags"].as_array().expect("flags").iter().collect();
        let flags: Vec<_> = flags.iter().filter_map(|flag| flag.as_str()).collect();
        let (kind, address, scope) = (text("kind"), text("address"), text("scope"));
        format!("{kind} {address}:{} {scope} {}", f["port"], flags.join("+"))
    };
    edge["frontends"]
        .as_array()
        .expect("frontends")
        .iter()
        .map(show)
        .collect()
}

#[test]
fn external_frontends_follow_their_service_and_survive_a_restart() {
    let Some(mut node) = Node::new("outside") else {
        return;
    };
    node.put(Some(&manifest(
        "[10.9.0.0/16, 172.16.0.0/12]",
        "dsr",
        "Local",
    )));
    if !node.start() {
        return;
    }
    let edge = node.edge_when(|edge| edge["forwarding"] == "dsr");
    assert_eq!(
        frontends(&edge),
        [
            "NodePort 0.0.0.0:30080 external dsr",
            "NodePort 0.0.0.0:30080 internal external-differs+dsr",
            "ClusterIP 10.96.0.12:80 internal ",
            "LoadBalancer 192.0.2.1:80 external source-ranges+dsr",
            "LoadBalancer 192.0.2.1:80 internal external-differs+source-ranges+dsr",
            "ExternalIP 198.51.100.1:80 external dsr",
            "ExternalIP 198.51.100.1:80 internal external-differs+dsr",
        ]
    );
    // The node's address is in a range: the VIP is admitted as a source.
    let admitted = json!(["10.9.0.0/16", "172.16.0.0/12", "192.0.2.1/32"]);
    assert_eq!(edge["source_ranges"], admitted);
    assert_eq!(edge["dsr_backends"], json!(["10.1.0.1"]));
    assert_eq!(edge["cluster_table"]["length"], 16_381);

    node.kill();
    let before = node.raw();
    assert!(node.start(), "it ran before");
    assert_eq!(node.raw(), before);

    // Changed while no controller runs: what is left over goes.
    node.kill();
    node.put(Some(&manifest("[172.16.0.0/12]", "snat", "Cluster")));
    assert!(node.start(), "it ran before");
    let edge = node.edge_when(|edge| edge["forwarding"] == "snat");
    assert_eq!(
        frontends(&edge),
        [
            "NodePort 0.0.0.0:30080 internal ",
            "ClusterIP 10.96.0.12:80 internal ",
            "LoadBalancer 192.0.2.1:80 internal source-ranges",
            "ExternalIP 198.51.100.1:80 internal ",
        ]
    );
    assert_eq!(edge["source_ranges"], json!(["172.16.0.0/12"]));
    assert_eq!(edge["dsr_backends"], json!([]));

    node.put(Some(&manifest("[0.0.0.0/0]", "snat", "Cluster")));
    let edge = node.edge_when(|edge| edge["source_ranges"] == json!([]));
    assert!(frontends(&edge).contains(&"LoadBalancer 192.0.2.1:80 internal ".to_owned()));

    let bits = node.raw()["node_ports"]["nonzero"].clone();
    node.put(None);
    node.edge_when(Value::is_null);
    let after = node.raw();
    assert_eq!(after["source_ranges"], json!([]));
    assert_eq!(after["local_backends"], json!([]));
    // Flows that began at the NodePort go on: its bit stays.
    assert_eq!(
        (&after["node_ports"]["nonzero"], &bits),
        (&json!(1), &json!(1))
    );
}

use serde_json::{Value, json};

use crate::apiserver::{
    allocator::Allocator,
    defaults::{self, Context},
    error::ApiError,
    kinds,
    object::Key,
};

struct Cluster {
    allocator: Allocator,
}

impl Cluster {
    fn new() -> Self {
        let cidrs = ["10.96.0.0/16", "fd00:96::/112"].map(|cidr| cidr.parse().unwrap());
        Self {
            allocator: Allocator::new(&cidrs),
        }
    }

    fn fill(&mut self, spec: Value, before: Option<&Value>) -> Result<Value, ApiError> {
        self.fill_named("web", spec, before)
    }

    /// Completes a Service and records what it holds, as the store does.
    fn fill_named(
        &mut self,
        name: &str,
        spec: Value,
        before: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut service = json!({});
        service["spec"] = spec;
        let key = Key::new("default", name);
        let kind = kinds::by_name("services").unwrap();
        let allocator = &mut self.allocator;
        defaults::fill(
            &mut service,
            Context {
                kind,
                key: &key,
                before,
                allocator,
            },
        )?;
        self.allocator.replace(&key, before, Some(&service));
        Ok(service)
    }
}

fn http() -> Value {
    json!([{"name": "http", "port": 80}])
}

#[test]
fn plain_service_gets_the_defaults_of_a_real_server() {
    let service = Cluster::new().fill(json!({"ports": http()}), None).unwrap();
    let expected = json!({
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "clusterIP": "10.96.1.0", "clusterIPs": ["10.96.1.0"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}],
    });
    assert_eq!(service["spec"], expected);
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
}

#[test]
fn families_follow_policy_and_order() {
    for (spec, families, ips) in [
        (
            json!({"ipFamilies": ["IPv6"]}),
            json!(["IPv6"]),
            json!(["fd00:96::100"]),
        ),
        (
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!(["IPv4", "IPv6"]),
            json!(["10.96.1.0", "fd00:96::100"]),
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            json!(["IPv6", "IPv4"]),
            json!(["fd00:96::100", "10.96.1.0"]),
        ),
        (
            json!({"clusterIP": "fd00:96::7"}),
            json!(["IPv6"]),
            json!(["fd00:96::7"]),
        ),
        (
            json!({"clusterIP": "None", "selector": {"a": "b"}}),
            json!(["IPv4"]),
            json!(["None"]),
        ),
        (
            json!({"clusterIP": "None"}),
            json!(["IPv4", "IPv6"]),
            json!(["None"]),
        ),
    ] {
        let service = Cluster::new().fill(spec.clone(), None).unwrap();
        assert_eq!(service["spec"]["ipFamilies"], families, "{spec}");
        assert_eq!(service["spec"]["clusterIPs"], ips, "{spec}");
        assert_eq!(service["spec"]["clusterIP"], ips[0], "{spec}");
    }
}

#[test]
fn impossible_services_are_refused() {
    let mut cluster = Cluster::new();
    cluster
        .fill_named(
            "other",
            json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 1, "nodePort": 30100}]}),
            None,
        )
        .unwrap();
    for spec in [
        json!({"clusterIP": "10.96.0.9"}),
        json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.11"]}),
        json!({"ipFamilies": ["IPv4", "IPv6"]}),
        json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}),
        json!({"type": "Balancer"}),
        json!({"ports": [{"port": 0}]}),
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30100}]}),
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}),
        json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 1, "nodePort": 30101},
            {"name": "b", "port": 2, "nodePort": 30101, "protocol": "UDP"},
        ]}),
    ] {
        let error = cluster.fill(spec.clone(), None).unwrap_err();
        assert_eq!(error.code(), 422, "{spec}");
    }
}

#[test]
fn node_ports_are_allocated_where_the_type_has_them() {
    let mut cluster = Cluster::new();
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53},
        {"name": "metrics", "port": 9153},
    ]);
    let node_ports = |service: &Value| -> Vec<Value> {
        service["spec"]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["nodePort"].clone())
            .collect()
    };
    let spec = json!({"type": "NodePort", "ports": ports});
    let service = cluster.fill_named("dns", spec, None).unwrap();
    assert_eq!(
        node_ports(&service),
        [30_000, 30_000, 30_001],
        "one port over two protocols"
    );
    let spec =
        json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": http()});
    let service = cluster.fill_named("lb", spec, None).unwrap();
    assert_eq!(node_ports(&service), [Value::Null]);
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": http()});
    let service = cluster.fill_named("local", spec, None).unwrap();
    assert_eq!(node_ports(&service), [30_002]);
    assert_eq!(service["spec"]["healthCheckNodePort"], 30_003);
    assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
}

#[test]
fn update_keeps_allocated_values_it_leaves_out() {
    let mut cluster = Cluster::new();
    let before = cluster
        .fill(json!({"type": "NodePort", "ports": http()}), None)
        .unwrap();
    let ports = json!([{"name": "http", "port": 8080}, {"name": "new", "port": 1}]);
    let after = cluster
        .fill(json!({"type": "NodePort", "ports": ports}), Some(&before))
        .unwrap();
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
    assert_eq!(after["spec"]["ports"][0]["nodePort"], 30_000);
    assert_eq!(after["spec"]["ports"][1]["nodePort"], 30_001);
}

#[test]
fn type_changes_forget_what_only_the_old_type_has() {
    let mut cluster = Cluster::new();
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": http()});
    let balancer = cluster.fill(spec, None).unwrap();
    let mut spec = balancer["spec"].clone();
    spec["type"] = "ClusterIP".into();
    let cluster_ip = cluster.fill(spec, Some(&balancer)).unwrap();
    for field in [
        "healthCheckNodePort",
        "externalTrafficPolicy",
        "allocateLoadBalancerNodePorts",
    ] {
        assert!(cluster_ip["spec"][field].is_null(), "{field}");
    }
    assert!(cluster_ip["spec"]["ports"][0]["nodePort"].is_null());

    let mut spec = cluster_ip["spec"].clone();
    spec["type"] = "ExternalName".into();
    spec["externalName"] = "example.org".into();
    let external = cluster.fill(spec, Some(&cluster_ip)).unwrap();
    assert!(external["spec"]["clusterIP"].is_null() && external["spec"]["clusterIPs"].is_null());

    let mut spec = external["spec"].clone();
    spec["type"] = "ClusterIP".into();
    let back = cluster.fill(spec, Some(&external)).unwrap();
    assert!(back["spec"]["clusterIP"].is_string());
}

#[test]
fn dual_stack_can_be_gained_and_lost_but_the_first_address_stays() {
    let mut cluster = Cluster::new();
    let single = cluster.fill(json!({"ports": http()}), None).unwrap();
    let mut spec = single["spec"].clone();
    spec["ipFamilyPolicy"] = "PreferDualStack".into();
    let dual = cluster.fill(spec, Some(&single)).unwrap();
    assert_eq!(
        dual["spec"]["clusterIPs"],
        json!(["10.96.1.0", "fd00:96::100"])
    );
    let mut spec = dual["spec"].clone();
    spec["ipFamilyPolicy"] = "SingleStack".into();
    let single = cluster.fill(spec, Some(&dual)).unwrap();
    assert_eq!(single["spec"]["clusterIPs"], json!(["10.96.1.0"]));
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    let moved = json!({"clusterIP": "10.96.2.2", "clusterIPs": ["10.96.2.2"]});
    assert_eq!(cluster.fill(moved, Some(&single)).unwrap_err().code(), 422);
}

#[test]
fn client_ip_affinity_lasts_three_hours_by_default() {
    let mut cluster = Cluster::new();
    let service = cluster
        .fill(json!({"sessionAffinity": "ClientIP"}), None)
        .unwrap();
    let timeout = &service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    assert_eq!(*timeout, 10_800);
    let mut spec = service["spec"].clone();
    spec["sessionAffinity"] = "None".into();
    let service = cluster.fill(spec, Some(&service)).unwrap();
    assert!(service["spec"]["sessionAffinityConfig"].is_null());
}

//! The same objects give the same state, whichever source they come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_integration::{
    Cluster,
    apiserver::Options,
    objects::{Api, ControlPlane, Objects},
    patience::becomes,
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source, lbctl},
    workload::{Pod, SERVICE_PROXY_NAME, Service},
};
use serde_json::json;

/// A pod that only exists as an object.
fn pod(app: &str, number: u8, node: &str) -> Pod {
    let v4 = Ipv4Addr::new(10, 244, 9, number);
    let v6 = Ipv6Addr::new(0xfd00, 0x244, 9, 0, 0, 0, 0, number.into());
    Pod {
        namespace: "default".to_owned(),
        name: format!("{app}-{number}"),
        labels: [("app".to_owned(), app.to_owned())].into(),
        addresses: vec![IpAddr::V4(v4), IpAddr::V6(v6)],
        node: node.to_owned(),
        zone: format!("zone-{}", number % 2),
        ports: Vec::new(),
        ready: true,
        terminating: false,
    }
}

fn service(name: &str, number: u8) -> Service {
    let v4 = Ipv4Addr::new(10, 96, 1, number);
    let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 1, number.into());
    Service::new("default", name, v4, v6)
}

/// One Service of every sort that the rules tell apart.
fn services() -> Vec<Service> {
    let tcp = |name, number| service(name, number).port("http", 80, 8080, "TCP");
    vec![
        tcp("web", 1).port("dns", 53, 53, "UDP"),
        tcp("sticky", 2).client_ip_affinity(60),
        tcp("local", 3).spec("internalTrafficPolicy", "Local"),
        tcp("named", 4).port("admin", 81, "admin", "TCP"),
        tcp("near", 5).spec("trafficDistribution", "PreferSameZone"),
        tcp("empty", 6),
        tcp("foreign", 7).label(SERVICE_PROXY_NAME, "other"),
        tcp("eager", 8).spec("publishNotReadyAddresses", true),
        tcp("v4-only", 9)
            .spec("ipFamilies", json!(["IPv4"]))
            .spec("ipFamilyPolicy", "SingleStack")
            .spec("clusterIPs", json!(["10.96.1.9"])),
        tcp("headless", 10)
            .spec("clusterIP", "None")
            .spec("clusterIPs", json!(["None"])),
        tcp("pinned", 11),
    ]
}

fn pods() -> Vec<Pod> {
    let mut pods = Vec::new();
    for (index, service) in services().iter().enumerate() {
        let app = service.name().to_owned();
        let first = index as u8 * 10 + 1;
        if app == "empty" {
            continue;
        }
        pods.push(pod(&app, first, "node-1").port("admin", 9001, "TCP"));
        pods.push(pod(&app, first + 1, "node-2").port("admin", 9002, "TCP"));
        pods.push(pod(&app, first + 2, "node-2").ready(false));
        pods.push(Pod {
            terminating: true,
            ..pod(&app, first + 3, "node-1")
        });
    }
    pods
}

fn deliver(objects: Box<dyn Objects>, cluster: &Cluster) -> ControlPlane {
    let mut plane = ControlPlane::new(objects);
    plane.apply(&cluster.node(0).object()).unwrap();
    for service in services() {
        plane.apply(service.object()).unwrap();
    }
    plane.set_pods(pods()).unwrap();
    plane
}

/// The canonical and the raw dump of a proxy that starts empty, which then goes on running.
fn dumps(cluster: &Cluster, source: Source) -> (String, String, ProxyUnderTest) {
    let node = cluster.node(0);
    ProxyUnderTest::cleanup(node).unwrap();
    let mut options = ProxyOptions::new(source);
    options.kind = Kind::Ours;
    let proxy = ProxyUnderTest::start(node, &options).unwrap();
    let canonical = lbctl(node, &["dump", "--canonical"]).unwrap();
    let raw = lbctl(node, &["dump", "--raw"]).unwrap();
    (canonical, raw, proxy)
}

#[test]
fn files_and_api_give_equal_canonical_dumps_and_from_empty_equal_maps() {
    let cluster = Cluster::builder().nodes(1).dual_stack().build().unwrap();
    let manifests = cluster.manifests().unwrap();
    let files = Source::Files(manifests.path().to_owned());
    let (server, kubeconfig) = cluster.api_server(Options::default()).unwrap();
    let kubeconfig = Source::Kubeconfig(kubeconfig);
    drop(deliver(Box::new(manifests), &cluster));
    let mut plane = deliver(Box::new(Api::new(server)), &cluster);

    let (canonical, raw, proxy) = dumps(&cluster, files);
    drop(proxy);
    for name in [
        "web", "sticky", "local", "named", "near", "empty", "eager", "v4-only", "pinned",
    ] {
        assert!(canonical.contains(name), "{name} is missing:\n{canonical}");
    }
    for name in ["foreign", "headless"] {
        assert!(
            !canonical.contains(name),
            "{name} is programmed:\n{canonical}"
        );
    }
    let (from_api, raw_from_api, proxy) = dumps(&cluster, kubeconfig);
    assert_eq!(canonical, from_api);
    assert_eq!(raw, raw_from_api);

    // Another way to the same objects leaves other slots and generations, but the same state.
    let (all, node) = (pods(), cluster.node(0));
    let names: Vec<&str> = all.iter().map(|pod| pod.name.as_str()).collect();
    let dump = |form| lbctl(node, &["dump", form]).unwrap();
    plane.remove_pods("default", &names).unwrap();
    becomes("all pods are gone", || {
        !dump("--canonical").contains("10.244.9.")
    });
    for pod in all.iter().rev() {
        plane.set_pods([pod.clone()]).unwrap();
    }
    becomes("the same state", || dump("--canonical") == canonical);
    assert_ne!(dump("--raw"), raw, "generations tell the way");
    drop(proxy);
}

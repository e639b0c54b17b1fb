//! What the site asks of `kubectl` and `docker` for what cases do.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use lb_integration::{
    Cluster,
    agent::{READY, dial::Dial},
    binaries,
    cluster::Families,
    conformance::{
        Needs, Site,
        site::{PodSpec, SitePod},
    },
    kind::{KindCluster, KindSite, Runner, pod},
    workload,
};
use serde_json::{Value, json};

use super::Recorder;

/// Three workers and a control plane, as the API lists them.
fn nodes() -> String {
    let node = |name: &str, labels: Value, last: u8| {
        let addresses = json!([
            { "type": "InternalIP", "address": format!("fc00::{last}") },
            { "type": "InternalIP", "address": format!("172.18.0.{last}") },
            { "type": "Hostname", "address": name },
        ]);
        json!({
            "metadata": { "name": name, "labels": labels },
            "status": { "addresses": addresses },
        })
    };
    let worker =
        |name, zone: &str, last| node(name, json!({ "topology.kubernetes.io/zone": zone }), last);
    let control = json!({ "node-role.kubernetes.io/control-plane": "" });
    json!({ "items": [
        worker("t-worker3", "zone-3", 5),
        node("t-control-plane", control, 2),
        worker("t-worker", "zone-1", 3),
        worker("t-worker2", "zone-2", 4),
    ] })
    .to_string()
}

const POD: &str = r#"{"status":{"podIPs":[{"ip":"fd00::9"},{"ip":"10.244.1.9"}]}}"#;
const OUTSIDE: &str =
    r#"{"IPAddress":"172.18.0.9","GlobalIPv6Address":"fc00::9","MacAddress":"x"}"#;

fn site() -> (Arc<Recorder>, KindSite) {
    let nodes = nodes();
    let recorder = Recorder::answering(&[
        ("get nodes", &nodes),
        ("get pod ", POD),
        ("docker inspect", OUTSIDE),
    ]);
    let runner: Arc<dyn Runner> = recorder.clone();
    let cluster = KindCluster::existing(runner, "t");
    let site = KindSite::new(cluster, Families::Dual, "agent:1").unwrap();
    (recorder, site)
}

fn spec(name: &str) -> PodSpec {
    PodSpec {
        namespace: "case".to_owned(),
        name: name.to_owned(),
        node: 1,
        tcp: vec![80],
        udp: vec![80],
        ports: vec![workload::ContainerPort {
            name: "http".to_owned(),
            number: 80,
            protocol: "TCP".to_owned(),
        }],
        linger: Duration::from_secs(5),
        ..PodSpec::default()
    }
}

fn record(pod: &dyn SitePod, name: &str) -> workload::Pod {
    workload::Pod {
        namespace: "case".to_owned(),
        name: name.to_owned(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        addresses: pod.addresses(),
        node: "t-worker2".to_owned(),
        zone: "zone-2".to_owned(),
        ports: Vec::new(),
        ready: true,
        terminating: false,
    }
}

fn addresses(texts: [&str; 2]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

#[test]
fn nodes_are_the_workers_by_name_with_zones_and_addresses() {
    let (recorder, site) = site();
    assert_eq!(
        recorder.lines(),
        [
            "kubectl get nodes -o json",
            "docker run --detach --rm --name t-outside --network kind agent:1 serve --name t-outside",
        ]
    );
    let node = site.node(2);
    assert_eq!(
        (node.name.as_str(), node.zone.as_str()),
        ("t-worker3", "zone-3")
    );
    assert_eq!(node.addresses, addresses(["172.18.0.5", "fc00::5"]));
    drop(site);
    assert_eq!(recorder.lines(), ["docker rm --force t-outside"]);
}

#[test]
fn a_pod_runs_unpublished_then_is_published_changed_and_ended() {
    let (recorder, site) = site();
    recorder.lines();
    let pod = site.start_pod(&spec("a")).unwrap();
    assert_eq!(pod.addresses(), addresses(["10.244.1.9", "fd00::9"]));
    let apply = "kubectl apply --server-side --force-conflicts -f -";
    assert_eq!(
        recorder.lines(),
        [
            // Its namespace, that one's account, the pod.
            apply,
            apply,
            apply,
            "kubectl -n case wait pod/a-1 --for=condition=ContainersReady --timeout=120s",
            "kubectl -n case get pod a-1 -o json",
        ]
    );
    let mut published = record(pod.as_ref(), "a");
    site.set_pods(vec![published.clone()]).unwrap();
    let patch = "kubectl -n case patch pod a-1 --type strategic -p";
    let gate = |status: &str| {
        format!(
            r#"{patch} '{{"status":{{"conditions":[{{"status":"{status}","type":"lb-conformance/published"}}]}}}}' --subresource=status"#
        )
    };
    assert_eq!(
        recorder.lines(),
        [
            format!(r#"{patch} '{{"metadata":{{"labels":{{"app":"web"}}}}}}'"#),
            gate("True"),
        ]
    );
    // Only what has changed.
    published.ready = false;
    site.set_pods(vec![published.clone()]).unwrap();
    assert_eq!(recorder.lines(), [gate("False")]);
    published.terminating = true;
    site.set_pods(vec![published.clone()]).unwrap();
    site.set_pods(vec![published]).unwrap();
    assert_eq!(
        recorder.lines(),
        ["kubectl -n case delete pod a-1 --grace-period=35 --wait=false --ignore-not-found"]
    );
    site.remove_pods("case", &["a"]).unwrap();
    assert_eq!(
        recorder.lines(),
        [format!(
            r#"{patch} '{{"metadata":{{"labels":{{"app":null}}}}}}'"#
        )]
    );
    drop(pod);
    assert_eq!(
        recorder.lines(),
        ["kubectl -n case delete pod a-1 --grace-period=0 --wait=false --ignore-not-found --force"]
    );
    site.delete_namespace("case").unwrap();
    site.delete_namespace("case").unwrap();
    assert_eq!(
        recorder.lines(),
        ["kubectl delete namespace case --wait=false --ignore-not-found"]
    );
}

#[test]
fn a_pod_that_was_told_to_end_may_be_gone_before_it_is_withdrawn() {
    let (recorder, site) = site();
    let pod = site.start_pod(&spec("a")).unwrap();
    let mut published = record(pod.as_ref(), "a");
    site.set_pods(vec![published.clone()]).unwrap();
    let absent = "Error from server (NotFound): pods \"a-1\" not found";
    *recorder.failure.lock().unwrap() = Some((" patch ", absent));
    assert!(site.remove_pods("case", &["a"]).is_err());
    published.terminating = true;
    site.set_pods(vec![published]).unwrap();
    site.remove_pods("case", &["a"]).unwrap();
}

#[test]
fn pods_that_never_ran_cannot_be_published() {
    let (_recorder, site) = site();
    let pod = site.start_pod(&spec("a")).unwrap();
    let error = site.set_pods(vec![record(pod.as_ref(), "b")]).unwrap_err();
    assert!(error.to_string().contains("b is no pod"), "{error}");
}

#[test]
fn pods_of_one_name_are_told_apart() {
    let (recorder, site) = site();
    let old = site.start_pod(&spec("client")).unwrap();
    let young = site.start_pod(&spec("client")).unwrap();
    drop(old);
    recorder.lines();
    site.set_pods(vec![record(young.as_ref(), "client")])
        .unwrap();
    assert!(recorder.lines()[0].contains("patch pod client-2 "));
}

#[test]
fn services_get_their_status_by_itself() {
    let (recorder, site) = site();
    recorder.lines();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "case" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    site.apply(&service).unwrap();
    site.delete(&service).unwrap();
    let lines = recorder.lines();
    assert_eq!(
        lines[3..],
        [
            r#"kubectl -n case patch Service web --type strategic -p '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}' --subresource=status"#,
            "kubectl -n case delete Service web --ignore-not-found",
        ]
    );
}

#[test]
fn clients_are_reached_through_exec_and_speak() {
    let (recorder, site) = site();
    let pod = site.start_pod(&spec("a")).unwrap();
    recorder.lines();
    let mut control = pod.control().unwrap();
    // Nobody listens there; the answer shows that the pipes lead to a client.
    let dial = Dial::tcp(SocketAddr::from(([127, 0, 0, 1], 1)));
    control.dial(&dial).unwrap();
    let outside = site.outside_client().unwrap();
    assert_eq!(outside.addresses, addresses(["172.18.0.9", "fc00::9"]));
    let host = site.host_client(0).unwrap();
    assert_eq!(host.addresses, site.node(0).addresses);
    // The place among a node's processes is made once.
    site.host_client(0).unwrap();
    let lines = recorder.lines();
    let execs: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains(" exec "))
        .collect();
    assert_eq!(
        execs,
        [
            "kubectl -n case exec -i a-1 -- lb-agent control",
            "docker exec -i t-outside lb-agent control",
            "kubectl -n lb-conformance-hosts exec -i host-0-2 -- lb-agent control",
            "kubectl -n lb-conformance-hosts exec -i host-0-2 -- lb-agent control",
        ]
    );
    drop((pod, site));
    let gone = "kubectl delete namespace lb-conformance-hosts --wait=false --ignore-not-found";
    assert!(recorder.lines().iter().any(|line| line == gone));
}

#[test]
fn what_takes_namespaces_and_routes_is_not_offered() {
    let (_recorder, site) = site();
    for need in [Needs::Namespaces, Needs::Routes, Needs::AnyClusterIp] {
        assert!(!site.offers(need), "{need}");
    }
    for need in [Needs::Outside, Needs::Zones, Needs::V4, Needs::V6] {
        assert!(site.offers(need), "{need}");
    }
}

#[test]
fn addresses_of_services_are_in_the_clusters_ranges() {
    let (_recorder, site) = site();
    for _ in 0..3 {
        let (v4, v6) = site.numbers().cluster_ips();
        assert!(v4.octets().starts_with(&[10, 96]), "{v4}");
        assert!(
            v6.segments().starts_with(&[0xfd00, 0x10, 0x96, 0, 0, 0, 0]),
            "{v6}"
        );
        assert!((30_000..32_768).contains(&site.numbers().node_port()));
    }
}

#[test]
fn pods_are_of_their_type_and_ready_only_when_published() {
    let manifest = pod::manifest(&spec("a"), "a-1", "t-worker", "agent:1");
    let typed: Pod = serde_json::from_value(manifest.clone()).unwrap();
    let spec = typed.spec.clone().unwrap();
    assert_eq!(spec.readiness_gates.unwrap()[0].condition_type, pod::GATE);
    assert_eq!(spec.node_name.as_deref(), Some("t-worker"));
    assert!(typed.metadata.labels.is_none());
    // Nothing was lost on the way.
    let read = serde_json::to_value(typed).unwrap();
    for field in [
        "tolerations",
        "terminationGracePeriodSeconds",
        "hostNetwork",
    ] {
        assert_eq!(read["spec"][field], manifest["spec"][field], "{field}");
    }
    assert_eq!(read["spec"]["containers"], manifest["spec"]["containers"]);
}

/// The arguments of the manifest, on a node of the harness whose addresses the kubelet would put in.
#[test]
fn the_agent_serves_every_port_at_every_address_of_its_pod() {
    let cluster = Cluster::builder().nodes(1).dual_stack().build().unwrap();
    let node = cluster.node(0);
    let manifest = pod::manifest(&spec("a"), "a-1", "t-worker", "agent:1");
    let ips: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
    let arguments = manifest["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    let mut command = Command::new(binaries::find("lb-agent").unwrap());
    for argument in arguments {
        command.arg(
            argument
                .as_str()
                .unwrap()
                .replace("$(POD_IPS)", &ips.join(",")),
        );
    }
    let server = node.spawn(command).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !server.stdout().contains(READY) {
        assert!(std::time::Instant::now() < deadline, "{}", server.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = node.control().unwrap();
    for ip in node.addresses() {
        for dial in [Dial::tcp((ip, 80).into()), Dial::udp((ip, 80).into())] {
            let reply = client.dial(&dial).unwrap();
            assert!(format!("{reply:?}").contains("\"a\""), "{ip}: {reply:?}");
        }
    }
}

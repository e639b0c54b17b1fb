//! The reference proxy as a process: what it serves, what a restart and `cleanup` leave.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use lb_integration::{
    Cluster, binaries,
    client::{Client, tcp},
    cluster::Node,
    objects::{ControlPlane, Objects},
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source},
    workload::{self, Service},
};

/// Everything of the rules in a node's namespace.
fn rules(node: &Node) -> String {
    let netns = node.netns();
    let tool = |program: &str, arguments: &[&str]| netns.tool_output(program, arguments).unwrap();
    [
        tool("iptables-save", &[]),
        tool("ip6tables-save", &[]),
        tool("nft", &["list", "ruleset"]),
    ]
    .concat()
}

fn follows_changes_and_leaves_nothing(mode: &str) {
    let program = binaries::find("lb-reference-proxy").unwrap();
    let cluster = Cluster::builder().nodes(1).dual_stack().build().unwrap();
    let node = cluster.node(0);
    let manifests = cluster.manifests().unwrap();
    manifests.apply(&node.object()).unwrap();
    let mut options = ProxyOptions::new(Source::Files(manifests.path().to_owned()));
    options.kind = Kind::Custom(format!(
        "exec {} run --mode {mode} --source-files {{files}} --node-name {{node}}",
        program.display()
    ));
    let mut objects = ControlPlane::new(Box::new(manifests));
    let mut proxy = ProxyUnderTest::start(node, &options).unwrap();
    let metrics = SocketAddr::from(([127, 0, 0, 1], 10249));
    let (code, body) = node.http_get(metrics, "/proxyMode").unwrap();
    assert_eq!((code, body.as_str()), (200, mode));

    let pod = cluster.pod(0, "pod-1").create().unwrap();
    let _server = pod.serve(&[80], &[]).unwrap();
    let services = [1u8, 2].map(|number| {
        let v4 = Ipv4Addr::new(10, 96, 0, number);
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(number));
        let name = format!("web-{number}");
        let service = Service::new("default", &name, v4, v6).port("", 80, 80, "TCP");
        service.spec("selector", serde_json::json!({"app": "web"}))
    });
    for service in &services {
        objects.apply(service.object()).unwrap();
    }
    let record = workload::Pod::of(&pod, "default", "web");
    objects.set_pods([record]).unwrap();
    let mut client = Client::in_pod(cluster.pod(0, "client").create().unwrap()).unwrap();
    for service in &services {
        client.reaches_all(&service.at(80).map(tcp), &["pod-1"]);
    }

    // Rule K2: rules work on; what changed meanwhile is found at the start.
    proxy.process().kill();
    drop(proxy);
    objects.delete(services[1].object()).unwrap();
    client.reaches_all(&services[1].at(80).map(tcp), &["pod-1"]);
    let proxy = ProxyUnderTest::start(node, &options).unwrap();
    client.fails_all(&services[1].at(80).map(tcp));
    client.reaches_all(&services[0].at(80).map(tcp), &["pod-1"]);
    let left = rules(node);
    assert!(
        !left.contains("10.96.0.2") && left.contains("10.96.0.1"),
        "{left}"
    );

    drop(proxy);
    // Twice: the second time there is nothing to remove.
    for _ in 0..2 {
        let mut command = Command::new(&program);
        command.arg("cleanup");
        let output = node.system().output(command, Duration::from_secs(20));
        let output = output.unwrap();
        assert!(output.status.success(), "{}", output.stderr);
    }
    let left = rules(node);
    assert!(
        !left.contains("KUBE-") && !left.contains("kube-proxy"),
        "{left}"
    );
}

#[test]
fn iptables_mode_follows_changes_and_leaves_nothing() {
    follows_changes_and_leaves_nothing("iptables");
}

#[test]
fn nftables_mode_follows_changes_and_leaves_nothing() {
    follows_changes_and_leaves_nothing("nftables");
}

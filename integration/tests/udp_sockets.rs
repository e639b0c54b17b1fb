//! Connected UDP sockets whose backend goes away are told at once (rule I7), both ways: by
//! destroying the socket where its namespace is reachable, and by an ICMP error where it is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use lb_integration::{
    Cluster,
    agent::{
        dial::Dial,
        socket::{ErrorKind, Family, Protocol},
    },
    control::Control,
    objects::{ControlPlane, Objects},
    proxy::{ProxyOptions, ProxyUnderTest, Source},
    workload::{self, Service},
};

fn answers(client: &mut Control, to: SocketAddr, name: &str) {
    let dial = Dial::udp(to).timeout(Duration::from_millis(200));
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.dial(&dial).unwrap().reply.as_deref() != Some(name) {
        assert!(Instant::now() < deadline, "{name} does not answer at {to}");
    }
}

/// Returns the errors that sockets to both families, and a v4-mapped one, were told, for clients
/// on the pod network and on the host.
fn errors_when_the_backend_goes(arguments: &[&str]) -> Vec<ErrorKind> {
    let cluster = Cluster::builder().nodes(1).dual_stack().build().unwrap();
    let node = cluster.node(0);
    let manifests = cluster.manifests().unwrap();
    let source = Source::Files(manifests.path().to_owned());
    let mut options = ProxyOptions::new(source);
    options.arguments = arguments
        .iter()
        .map(|&argument| argument.to_owned())
        .collect();
    manifests.apply(&node.object()).unwrap();
    let mut control_plane = ControlPlane::new(Box::new(manifests));
    let v4 = Ipv4Addr::new(10, 96, 0, 53);
    let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x53);
    let service = Service::new("default", "dns", v4, v6).port("", 53, 53, "UDP");
    control_plane.apply(service.object()).unwrap();
    let pods = ["pod-1", "pod-2"].map(|name| cluster.pod(0, name).create().unwrap());
    let _servers = pods.each_ref().map(|pod| pod.serve(&[], &[53]).unwrap());
    control_plane
        .set_pods([workload::Pod::of(&pods[0], "default", "dns")])
        .unwrap();
    let _proxy = ProxyUnderTest::start(node, &options).unwrap();

    let client_pod = cluster.pod(0, "client").create().unwrap();
    let mut clients = [client_pod.control().unwrap(), node.control().unwrap()];
    let mut sockets = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        for (family, to) in [
            (Family::V4, service.v4(53)),
            (Family::V6, service.v6(53)),
            (Family::V6, service.v4(53)),
        ] {
            answers(client, to, "pod-1");
            let socket = client.open(Protocol::Udp, family, None).unwrap().unwrap();
            client
                .connect(socket, to, Duration::from_secs(1))
                .unwrap()
                .unwrap();
            assert_eq!(
                client.ask(socket, "hostname").unwrap().unwrap().data,
                "pod-1"
            );
            sockets.push((number, socket, to));
        }
    }
    // The pod itself stays and would go on answering: only the proxy can tell its clients.
    control_plane.remove_pods("default", &["pod-1"]).unwrap();
    control_plane
        .set_pods([workload::Pod::of(&pods[1], "default", "dns")])
        .unwrap();

    let mut errors = Vec::new();
    for (number, socket, to) in sockets {
        let client = &mut clients[number];
        let told = client
            .receive(socket, Duration::from_secs(5))
            .unwrap()
            .unwrap_err();
        errors.push(told.kind);
        answers(client, to, "pod-2");
    }
    errors
}

#[test]
fn i7_reachable_sockets_are_destroyed() {
    let errors = errors_when_the_backend_goes(&[]);
    assert_eq!(errors.len(), 6);
    for error in errors {
        assert!(
            matches!(error, ErrorKind::Reset | ErrorKind::Refused),
            "{error:?}"
        );
    }
}

#[test]
fn i7_unreachable_sockets_get_an_icmp_error() {
    let errors = errors_when_the_backend_goes(&["--no-netns-walk"]);
    assert_eq!(errors, [ErrorKind::Refused; 6]);
}

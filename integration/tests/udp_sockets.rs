//! Connected UDP sockets whose backend goes away are told at once (rule I7), both ways: by
//! destroying the socket where its namespace is reachable, and by an ICMP error where it is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{net::SocketAddr, time::Duration};

use lb_integration::{
    agent::{
        dial::Dial,
        socket::{ErrorKind, Family, Protocol},
    },
    control::Control,
    patience::becomes,
    scene::Scene,
};

fn answers(client: &mut Control, to: SocketAddr, name: &str) {
    let dial = Dial::udp(to).timeout(Duration::from_millis(200));
    becomes(&format!("{name} answers at {to}"), || {
        client.dial(&dial).unwrap().reply.as_deref() == Some(name)
    });
}

/// Returns the errors that sockets to both families, and a v4-mapped one, were told, for clients
/// on the pod network and on the host.
fn errors_when_the_backend_goes(arguments: &[&str]) -> Vec<ErrorKind> {
    let mut scene = Scene::from_files(arguments).unwrap();
    scene.withdraw(&["pod-2"]).unwrap();
    scene.reaches(&["pod-1"]).unwrap();
    let [v4, v6] = scene.addresses();
    let mut clients = [
        scene.client_pod.control().unwrap(),
        scene.cluster.node(0).control().unwrap(),
    ];
    let mut sockets = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        for (family, to) in [(Family::V4, v4), (Family::V6, v6), (Family::V6, v4)] {
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
    scene.publish(&["pod-2"]).unwrap();
    scene.withdraw(&["pod-1"]).unwrap();

    let mut errors = Vec::new();
    for (number, socket, to) in sockets {
        let client = &mut clients[number];
        let told = client.receive(socket, Duration::from_secs(5)).unwrap();
        errors.push(told.expect_err("a datagram nobody asked for").kind);
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

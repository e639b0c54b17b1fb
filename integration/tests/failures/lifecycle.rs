//! A controller that ends, and a node that is cleaned up.

use std::{fs, time::Duration};

use lb_integration::{
    agent::{dial::Dial, socket::Protocol},
    patience::becomes,
    proxy::ProxyUnderTest,
    scene::Scene,
};

#[test]
fn sigterm_exits_0_and_connections_go_on() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let to = scene.addresses()[0];
    let stream = scene
        .client
        .connect_new(Protocol::Tcp, to)
        .unwrap()
        .unwrap();
    let status = scene.terminate_proxy().unwrap();
    assert_eq!(status.code(), Some(0));
    for to in scene.addresses() {
        let summary = scene.connect(to, 200).unwrap();
        let outcome = (summary.failed(), summary.replies.len());
        assert_eq!(outcome, (0, 2), "{summary:?}");
        assert_eq!(summary.peers.keys().collect::<Vec<_>>(), [&to]);
    }
    let answer = scene.client.ask(stream, "hostname").unwrap().unwrap();
    assert!(answer.data.starts_with("pod-"), "{answer:?}");
    assert_eq!(scene.client.peer(stream).unwrap().unwrap(), to);
}

#[test]
fn cleanup_leaves_no_pin_and_no_program_and_a_start_brings_all_back() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let to = scene.addresses()[0];
    let stream = scene
        .client
        .connect_new(Protocol::Tcp, to)
        .unwrap()
        .unwrap();
    scene.kill_proxy().unwrap();
    ProxyUnderTest::cleanup(scene.cluster.node(0)).unwrap();
    // The directory itself may go with its contents.
    let left = fs::read_dir(scene.cluster.node(0).pins()).map_or(0, Iterator::count);
    assert_eq!(left, 0, "pins are left");
    for to in scene.addresses() {
        // Nothing routes the Service range: what is not translated fails. The kernel
        // detaches the programs of an unpinned link a moment later.
        let dial = Dial::tcp(to).timeout(Duration::from_millis(200));
        becomes("what is not translated fails", || {
            scene.client.dial_many(&dial, 5).unwrap().failed() == 5
        });
    }
    // TCP connections were translated once, when they were made.
    let answer = scene.client.ask(stream, "hostname").unwrap().unwrap();
    assert!(answer.data.starts_with("pod-"), "{answer:?}");
    assert_ne!(scene.client.peer(stream).unwrap().unwrap(), to);
    // Once more is as good.
    ProxyUnderTest::cleanup(scene.cluster.node(0)).unwrap();
    scene.start_proxy().unwrap();
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

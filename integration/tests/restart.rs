//! Connections while the controller is killed, is away, and comes back. Rules K2 and C16.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use lb_integration::{
    agent::{dial::Dial, socket::Protocol},
    scene::Scene,
};

/// Kills and restarts the controller again and again while connections are made; every restart
/// also replaces the programs.
fn connections_survive_restarts(family: usize) {
    let mut scene = Scene::from_files(&[]).unwrap();
    let to = scene.addresses()[family];
    let dial = Dial::tcp(to).abort();
    let restarts = AtomicU32::new(0);
    // A client of its own, because the thread keeps it.
    let mut client = scene.client_pod.control().unwrap();
    thread::scope(|scope| {
        let dialling = scope.spawn(|| {
            let mut connections = 0;
            while connections < 10_000 || restarts.load(Ordering::Relaxed) < 5 {
                let summary = client.dial_many(&dial, 500).unwrap();
                connections += summary.dials;
                assert_eq!(summary.failed(), 0, "among {connections}: {summary:?}");
                assert_eq!(summary.replies.len(), 2, "{summary:?}");
                // An untranslated connection would have failed; one not translated back shows a
                // pod here.
                assert_eq!(
                    summary.peers.keys().collect::<Vec<_>>(),
                    [&to],
                    "{summary:?}"
                );
            }
        });
        while !dialling.is_finished() {
            scene.kill_proxy().unwrap();
            thread::sleep(Duration::from_millis(50));
            scene.start_proxy().unwrap();
            thread::sleep(Duration::from_millis(50));
            restarts.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn k2_ten_thousand_v4_connections_survive_restarts_of_the_controller() {
    connections_survive_restarts(0);
}

#[test]
fn k2_ten_thousand_v6_connections_survive_restarts_of_the_controller() {
    connections_survive_restarts(1);
}

#[test]
fn k2_services_work_while_no_controller_runs_and_changes_follow_when_it_is_back() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let to = scene.addresses()[0];
    let stream = scene
        .client
        .connect_new(Protocol::Tcp, to)
        .unwrap()
        .unwrap();
    assert_eq!(
        scene.client.ask(stream, "stream").unwrap().unwrap().data,
        "streaming"
    );

    scene.kill_proxy().unwrap();
    // Nobody acts on this yet.
    scene.withdraw(&["pod-1"]).unwrap();
    let summary = scene.connect(to, 200).unwrap();
    assert_eq!(
        (summary.failed(), summary.replies.len()),
        (0, 2),
        "{summary:?}"
    );

    scene.start_proxy().unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    // The connection made before all this goes on.
    assert_eq!(
        scene
            .client
            .ask(stream, "still here")
            .unwrap()
            .unwrap()
            .data,
        "still here"
    );
    assert_eq!(scene.client.peer(stream).unwrap().unwrap(), to);
}

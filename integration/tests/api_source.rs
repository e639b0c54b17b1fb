//! The controller against an API server: the state it makes, and a server that goes away,
//! forgets, repeats itself and mixes things up. Rules A1, A2, B2, B16, D7, K1 and K3.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "api_source/dumps.rs"]
mod dumps;
#[path = "api_source/expiry.rs"]
mod expiry;
#[path = "api_source/order.rs"]
mod order;
#[path = "api_source/selectors.rs"]
mod selectors;
#[path = "api_source/service_cidrs.rs"]
mod service_cidrs;
#[path = "api_source/start.rs"]
mod start;

use std::{net::SocketAddr, thread, time::Duration};

use lb_integration::{
    agent::{
        dial::{Dial, Summary},
        socket::ErrorKind,
    },
    apiserver::EventType,
    patience::becomes,
    proxy::{self, ProxyUnderTest},
    scene::Scene,
};

/// Longer than anything in flight takes.
const A_WHILE: Duration = Duration::from_millis(300);

/// What these tests ask of a scene beyond what it offers.
trait Asked {
    /// A few connections that need not succeed.
    fn try_connect(&mut self, to: SocketAddr) -> Summary;
    fn lbctl(&self, arguments: &[&str]) -> String;
    fn cleanup(&self);

    /// Connections are refused: the frontend is there, its backends are not (rule C11).
    fn refuses(&mut self, to: SocketAddr) -> bool {
        let summary = self.try_connect(to);
        summary.failures.get(&ErrorKind::Refused) == Some(&summary.dials)
    }

    /// Connections fail in the network: there is no frontend.
    fn untranslated(&mut self, to: SocketAddr) -> bool {
        let summary = self.try_connect(to);
        summary.failed() == summary.dials && !summary.failures.contains_key(&ErrorKind::Refused)
    }
}

impl Asked for Scene {
    fn try_connect(&mut self, to: SocketAddr) -> Summary {
        let dial = Dial::tcp(to).timeout(Duration::from_millis(200)).abort();
        self.client.dial_many(&dial, 3).unwrap()
    }

    fn lbctl(&self, arguments: &[&str]) -> String {
        proxy::lbctl(self.cluster.node(0), arguments).unwrap()
    }

    fn cleanup(&self) {
        ProxyUnderTest::cleanup(self.cluster.node(0)).unwrap();
    }
}

/// All connections succeed, and both pods answer.
fn serves_both_pods(scene: &mut Scene) {
    for to in scene.addresses() {
        let summary = scene.connect(to, 100).unwrap();
        assert_eq!(
            (summary.failed(), summary.replies.len()),
            (0, 2),
            "{summary:?}"
        );
    }
}

/// As [`Scene::reaches`], after a time without the Service.
fn settles(scene: &mut Scene, names: &[&str]) {
    for to in scene.addresses() {
        becomes("the Service is back", || {
            scene.try_connect(to).failed() == 0
        });
    }
    scene.reaches(names).unwrap();
}

#[test]
fn k3_last_state_is_served_while_the_api_server_is_away() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.begin_outage().unwrap();
    scene.withdraw(&["pod-1"]).unwrap();
    thread::sleep(A_WHILE);
    serves_both_pods(&mut scene);
    api.resume().unwrap();
    scene.reaches(&["pod-2"]).unwrap();
}

#[test]
fn k1_a_restart_without_the_api_server_keeps_what_is_programmed() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    scene.kill_proxy().unwrap();
    api.begin_outage().unwrap();
    scene.launch_proxy().unwrap();
    thread::sleep(A_WHILE * 3);
    serves_both_pods(&mut scene);
    scene.withdraw(&["pod-2"]).unwrap();
    api.resume().unwrap();
    scene.reaches(&["pod-1"]).unwrap();
}

#[test]
fn k1_endpoint_slices_that_cannot_be_listed_keep_services_untouched() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    scene.kill_proxy().unwrap();
    api.faults().fail_next_matching(3, 503, "endpointslices");
    scene.launch_proxy().unwrap();
    thread::sleep(A_WHILE);
    serves_both_pods(&mut scene);
    scene.withdraw(&["pod-2"]).unwrap();
    scene.reaches(&["pod-1"]).unwrap();
}

#[test]
fn expired_watches_are_listed_anew() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.begin_outage().unwrap();
    scene.withdraw(&["pod-1"]).unwrap();
    // What happened during the outage can no longer be watched: 410 Gone.
    api.compact();
    api.resume().unwrap();
    scene.reaches(&["pod-2"]).unwrap();

    api.faults().expire_next_watches(2);
    api.faults().drop_watches();
    scene.publish(&["pod-1"]).unwrap();
    scene.withdraw(&["pod-2"]).unwrap();
    scene.reaches(&["pod-1"]).unwrap();
}

#[test]
fn repeated_and_reordered_events_change_nothing() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.faults().duplicate_events(true);
    api.faults().reorder_events(true);
    for _ in 0..3 {
        scene.withdraw(&["pod-1"]).unwrap();
        scene.reaches(&["pod-2"]).unwrap();
        scene.publish(&["pod-1"]).unwrap();
        scene.reaches(&["pod-1", "pod-2"]).unwrap();
    }
    // The Service is deleted and made again in one go, under its name and addresses.
    let service = scene.service.object().clone();
    scene.control_plane.delete(&service).unwrap();
    scene.control_plane.apply(&service).unwrap();
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

#[test]
fn events_of_unknown_objects_change_nothing() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    let mut ghost = api
        .list("endpointslices", Some("default"))
        .unwrap()
        .remove(0);
    ghost["metadata"]["name"] = "ghost".into();
    ghost["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    assert!(api.inject_event(EventType::Deleted, ghost).unwrap() > 0);
    thread::sleep(A_WHILE);
    serves_both_pods(&mut scene);
}

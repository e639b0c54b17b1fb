//! Watches that cannot be resumed.

use lb_integration::{
    apiserver::Options,
    objects::{Api, ControlPlane},
    patience::becomes,
    scene::Scene,
    workload::Pod,
};

use super::{A_WHILE, Asked, serves_both_pods};

#[test]
fn expiry_told_by_http_status_is_listed_anew_as_well() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.faults().gone_as_http_status(true);
    api.begin_outage().unwrap();
    scene.withdraw(&["pod-1"]).unwrap();
    api.compact();
    api.resume().unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    // And what follows is followed.
    scene.publish(&["pod-1"]).unwrap();
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

#[test]
fn objects_deleted_while_a_watch_was_lost_are_removed() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.begin_outage().unwrap();
    let service = scene.service.object().clone();
    scene.control_plane.delete(&service).unwrap();
    api.compact();
    std::thread::sleep(A_WHILE);
    serves_both_pods(&mut scene);
    api.resume().unwrap();
    becomes("the Service is gone", || {
        scene
            .addresses()
            .into_iter()
            .all(|to| scene.untranslated(to))
    });
}

#[test]
fn continue_tokens_that_expire_between_pages_lose_nothing() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    // More than one page of Services: the list is chunked by 500.
    for number in 0..600 {
        let (name, address) = (
            format!("many-{number}"),
            format!("10.96.{}.{}", 2 + number / 200, number % 200),
        );
        api.create(serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "many", "name": name},
            "spec": {"clusterIP": address, "ports": [{"port": 80}]},
        }))
        .unwrap();
    }
    scene.kill_proxy().unwrap();
    scene.withdraw(&["pod-1"]).unwrap();
    api.clear_requests();
    api.faults().fail_next_matching(1, 410, "continue=");
    scene.start_proxy().unwrap();
    let chunks = api.requests();
    let chunks = chunks
        .iter()
        .filter(|request| request.query.contains("continue="));
    assert!(chunks.count() >= 2, "the second page was asked for once");
    scene.reaches(&["pod-2"]).unwrap();
    let programmed = scene.lbctl(&["list", "-n", "many", "-o", "json"]);
    assert_eq!(programmed.matches("10.96.").count(), 600);
}

#[test]
fn a_server_that_starts_anew_with_smaller_versions_is_listed_anew() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let old = scene.api.take().unwrap();
    for number in 0..200 {
        old.apply(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "default", "name": "counter"}, "data": {"n": number.to_string()},
        }))
        .unwrap();
    }
    // Bookmarks carry the watches past these versions.
    std::thread::sleep(Options::default().bookmark_interval + A_WHILE);
    let before = old.resource_version();
    old.begin_outage().unwrap();
    let (new, _) = scene.cluster.api_server(Options::default()).unwrap();
    let mut plane = ControlPlane::new(Box::new(Api::new(new.clone())));
    plane.apply(&scene.cluster.node(0).object()).unwrap();
    plane.apply(scene.service.object()).unwrap();
    let pod = scene.pods().find(|pod| pod.name() == "pod-2").unwrap();
    plane.set_pods([Pod::of(pod, "default", "web")]).unwrap();
    assert!(new.resource_version() < before);
    scene.reaches(&["pod-2"]).unwrap();
}

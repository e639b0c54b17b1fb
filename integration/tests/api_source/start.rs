//! Starts while the API server is not there yet, and what `/healthz` says meanwhile.

use std::thread;

use lb_integration::patience::becomes;
use lb_integration::scene::Scene;

use super::{A_WHILE, Asked, serves_both_pods};

fn health(scene: &Scene) -> Option<u16> {
    let node = scene.cluster.node(0);
    let answer = node.http_get((node.v4(), 10256).into(), "/healthz");
    answer.ok().map(|(code, _)| code)
}

#[test]
fn k1_a_controller_that_starts_first_is_unhealthy_until_the_api_server_comes() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    scene.kill_proxy().unwrap();
    scene.cleanup();
    api.begin_outage().unwrap();
    scene.launch_proxy().unwrap();
    becomes("the health server listens", || health(&scene).is_some());
    thread::sleep(A_WHILE * 3);
    assert_eq!(health(&scene), Some(503));
    assert!(
        scene.proxy_output().contains("cannot follow"),
        "{}",
        scene.proxy_output()
    );
    api.resume().unwrap();
    becomes("healthy", || health(&scene) == Some(200));
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

#[test]
fn k1_adopted_state_serves_but_counts_as_healthy_only_once_it_is_synced() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    scene.kill_proxy().unwrap();
    api.begin_outage().unwrap();
    // Nothing of this may be acted on before everything is known.
    let service = scene.service.object().clone();
    scene.control_plane.delete(&service).unwrap();
    scene.launch_proxy().unwrap();
    becomes("the health server listens", || health(&scene).is_some());
    let before = scene.lbctl(&["dump", "--raw"]);
    for _ in 0..3 {
        thread::sleep(A_WHILE);
        assert_eq!(health(&scene), Some(503));
        serves_both_pods(&mut scene);
    }
    assert_eq!(scene.lbctl(&["dump", "--raw"]), before);
    api.resume().unwrap();
    becomes("healthy", || health(&scene) == Some(200));
    for to in scene.addresses() {
        assert!(scene.untranslated(to), "{to} still works");
    }
}

#[test]
fn k3_healthz_stays_200_through_an_outage() {
    let scene = Scene::from_api(&[]).unwrap();
    assert_eq!(health(&scene), Some(200));
    let api = scene.api.clone().unwrap();
    api.begin_outage().unwrap();
    thread::sleep(A_WHILE * 2);
    // The last known state is in force: that is all a proxy can promise (rules J13 and K3).
    assert_eq!(health(&scene), Some(200));
    api.resume().unwrap();
    becomes("the outage is over in the log", || {
        scene
            .proxy_output()
            .matches("following the Kubernetes API")
            .count()
            >= 2
    });
}

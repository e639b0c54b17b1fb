//! ServiceCIDRs of the API server (rule E3): followed if it has them, missed by nobody if not.

use lb_integration::patience::becomes;
use lb_integration::scene::Scene;
use serde_json::{Value, json};

use super::Asked;

fn cidr(networks: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "another" },
        "spec": { "cidrs": networks },
    })
}

fn knows(scene: &Scene, network: &str) -> bool {
    scene.lbctl(&["status"]).contains(network)
}

#[test]
fn e3_service_cidrs_of_the_api_server_are_followed() {
    let mut scene = Scene::from_api(&[]).unwrap();
    assert!(!knows(&scene, "203.0.113.0/24"));
    scene
        .control_plane
        .apply(&cidr(&["203.0.113.0/24"]))
        .unwrap();
    becomes("the network is known", || knows(&scene, "203.0.113.0/24"));
    scene
        .control_plane
        .delete(&cidr(&["203.0.113.0/24"]))
        .unwrap();
    becomes("the network is gone", || !knows(&scene, "203.0.113.0/24"));
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

#[test]
fn e3_a_server_that_refuses_service_cidrs_holds_up_nothing_and_is_told_of_once() {
    for code in [403, 404] {
        let mut scene = Scene::from_api(&[]).unwrap();
        let api = scene.api.clone().unwrap();
        scene.kill_proxy().unwrap();
        api.faults()
            .fail_next_matching(u32::MAX, code, "servicecidrs");
        scene.start_proxy().unwrap();
        scene.withdraw(&["pod-1"]).unwrap();
        scene.reaches(&["pod-2"]).unwrap();
        let asked = || {
            let requests = api.requests();
            let asked = requests.iter().filter(|r| r.path.contains("servicecidrs"));
            asked.count()
        };
        // Twice before the restart; the refusal is met again, and not told again.
        let before = asked();
        becomes("asked again", || asked() > before);
        let told = scene
            .proxy_output()
            .matches("cannot follow ServiceCIDRs")
            .count();
        assert_eq!(told, 1, "{code}: {}", scene.proxy_output());
        scene.reaches(&["pod-2"]).unwrap();
    }
}

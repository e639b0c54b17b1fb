//! Events in every order.

use lb_integration::{apiserver::EventType, patience::becomes, scene::Scene, workload};
use serde_json::{Value, json};

use super::{A_WHILE, Asked, serves_both_pods, settles};

/// The Service's slices, as they are now.
fn slices(scene: &Scene) -> Vec<Value> {
    let api = scene.api.as_ref().unwrap();
    api.list("endpointslices", Some("default")).unwrap()
}

#[test]
fn states_of_the_past_are_put_right_by_the_next_event_and_by_the_next_list() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    let past = slices(&scene);
    scene.withdraw(&["pod-1"]).unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    // No server sends these; the controller takes the last event for the truth.
    for slice in &past {
        api.inject_event(EventType::Modified, slice.clone())
            .unwrap();
    }
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
    scene.publish(&["pod-1"]).unwrap();
    scene.withdraw(&["pod-2"]).unwrap();
    scene.reaches(&["pod-1"]).unwrap();
    for slice in &past {
        api.inject_event(EventType::Deleted, slice.clone()).unwrap();
    }
    becomes("no endpoint is left", || {
        scene.addresses().into_iter().all(|to| scene.refuses(to))
    });
    api.compact();
    api.faults().drop_watches();
    settles(&mut scene, &["pod-1"]);
}

#[test]
fn events_twice_and_out_of_order_lead_to_the_state_of_a_fresh_start() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    api.faults().duplicate_events(true);
    api.faults().reorder_events(true);
    let original = scene.service.object().clone();
    for round in 0..5 {
        scene.withdraw(&["pod-1"]).unwrap();
        scene.control_plane.delete(&original).unwrap();
        scene.publish(&["pod-1"]).unwrap();
        let mut service = original.clone();
        if round % 2 == 1 {
            service["spec"]["sessionAffinity"] = json!("ClientIP");
        }
        scene.control_plane.apply(&service).unwrap();
    }
    std::thread::sleep(A_WHILE * 3);
    serves_both_pods(&mut scene);
    let followed = scene.lbctl(&["dump", "--canonical"]);
    scene.kill_proxy().unwrap();
    scene.cleanup();
    scene.start_proxy().unwrap();
    assert_eq!(scene.lbctl(&["dump", "--canonical"]), followed);
}

#[test]
fn b16_slices_may_come_before_their_service_and_after_it() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    let pods: Vec<_> = scene
        .pods()
        .map(|pod| workload::Pod::of(pod, "default", "web"))
        .collect();
    let service = scene.service.object().clone();
    let slices = workload::endpoint_slices(&service, &pods);
    scene.control_plane.delete(&service).unwrap();
    becomes("the Service is gone", || {
        scene
            .addresses()
            .into_iter()
            .all(|to| scene.untranslated(to))
    });
    let put_slices = || {
        for slice in &slices {
            api.replace(slice.clone()).unwrap();
        }
    };
    for slices_first in [true, false] {
        if slices_first {
            put_slices();
            std::thread::sleep(A_WHILE);
            api.replace(service.clone()).unwrap();
        } else {
            api.replace(service.clone()).unwrap();
            std::thread::sleep(A_WHILE);
            put_slices();
        }
        settles(&mut scene, &["pod-1", "pod-2"]);
        api.delete("services", "default", "web").unwrap();
        for slice in &slices {
            let name = slice["metadata"]["name"].as_str().unwrap();
            api.delete("endpointslices", "default", name).unwrap();
        }
        becomes("the Service is gone again", || {
            scene
                .addresses()
                .into_iter()
                .all(|to| scene.untranslated(to))
        });
    }
}

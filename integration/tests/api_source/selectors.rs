//! Objects that enter and leave the selectors of the watches, and this node's zone.

use lb_integration::{
    patience::becomes,
    scene::Scene,
    workload::{HEADLESS, SERVICE_PROXY_NAME},
};
use serde_json::{Value, json};

use super::{Asked, settles};

/// Sets or removes a label of every object of a kind in `default`.
fn label_all(scene: &Scene, kind: &str, key: &str, value: Option<&str>) {
    let api = scene.api.as_ref().unwrap();
    for object in api.list(kind, Some("default")).unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap();
        let change = |object: &mut Value| {
            let labels = &mut object["metadata"]["labels"];
            if let Some(value) = value {
                labels[key] = json!(value);
            } else {
                labels.as_object_mut().unwrap().remove(key);
            }
        };
        api.edit(kind, "default", name, change).unwrap();
    }
}

#[test]
fn s21_a_service_that_gains_the_proxy_name_label_goes_and_comes_back_without_it() {
    let mut scene = Scene::from_api(&[]).unwrap();
    for value in ["another-proxy", ""] {
        label_all(&scene, "services", SERVICE_PROXY_NAME, Some(value));
        becomes("the Service is not ours", || {
            scene
                .addresses()
                .into_iter()
                .all(|to| scene.untranslated(to))
        });
        // Its slices are watched all the while (rule A2): nothing but the label changes.
        label_all(&scene, "services", SERVICE_PROXY_NAME, None);
        settles(&mut scene, &["pod-1", "pod-2"]);
    }
}

#[test]
fn s22_slices_that_gain_the_headless_label_go_and_come_back_without_it() {
    let mut scene = Scene::from_api(&[]).unwrap();
    for value in ["true", ""] {
        label_all(&scene, "endpointslices", HEADLESS, Some(value));
        becomes("no endpoint is left", || {
            scene.addresses().into_iter().all(|to| scene.refuses(to))
        });
        label_all(&scene, "endpointslices", HEADLESS, None);
        settles(&mut scene, &["pod-1", "pod-2"]);
    }
}

#[test]
fn d7_a_new_zone_of_this_node_recomputes_everything() {
    let mut scene = Scene::from_api(&[]).unwrap();
    for (name, zone) in [("pod-1", "zone-one"), ("pod-2", "zone-two")] {
        let change = |pod: &mut lb_integration::workload::Pod| pod.zone = zone.to_owned();
        scene
            .control_plane
            .change_pod("default", name, change)
            .unwrap();
    }
    let near = scene
        .service
        .clone()
        .spec("trafficDistribution", "PreferSameZone");
    scene.control_plane.apply(near.object()).unwrap();
    let api = scene.api.clone().unwrap();
    let node = scene.cluster.node(0).name().to_owned();
    let zone = |zone: Value| {
        let change = |node: &mut Value| {
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone;
        };
        api.edit("nodes", "", &node, change).unwrap();
    };
    zone(json!("zone-one"));
    scene.reaches(&["pod-1"]).unwrap();
    zone(json!("zone-two"));
    scene.reaches(&["pod-2"]).unwrap();
    // No endpoint is hinted for this zone: all serve (rule D2).
    zone(json!("zone-three"));
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
    zone(json!("zone-one"));
    scene.reaches(&["pod-1"]).unwrap();
    // Without a zone, hints are void (rule D4); so they are without a Node.
    api.delete("nodes", "", &node).unwrap();
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

//! Who counts as a pod of this node: each mode of `--detect-local-mode` (rules F9, F10, L5).

use lb_integration::{PodNetwork, client::Client};

use crate::stage::{Address, Place, Policies, Stage, quick};

/// Backends that answer a client of the first node under externalTrafficPolicy Local.
fn meets(stage: &mut Stage, place: Place, names: &[&str]) {
    for address in [Address::NodePort, Address::LoadBalancer] {
        for to in stage.at(Policies::ExternalLocal, address) {
            stage.client(place).reaches(&quick(to), names);
        }
    }
}

const BOTH: &[&str] = &["local", "remote"];

#[test]
fn f9_cluster_cidr_and_node_cidr_tell_pods_by_their_address() {
    let cidr = "10.244.0.0/16,fd00:244::/32";
    for mode in [
        &["--detect-local-mode", "ClusterCIDR", "--cluster-cidr", cidr][..],
        &["--detect-local-mode", "NodeCIDR"],
    ] {
        let mut stage = Stage::new(PodNetwork::Routed, mode);
        meets(&mut stage, Place::Pod, BOTH);
        meets(&mut stage, Place::PodWithoutHooks, BOTH);
        meets(&mut stage, Place::Node, BOTH);
        meets(&mut stage, Place::Outside, &["local"]);
        assert!(stage.lbctl(&["status"]).contains("healthy"));
    }
}

#[test]
fn f9_pods_outside_of_the_cluster_cidr_are_none() {
    let elsewhere = "172.20.0.0/16,fd00:20::/32";
    let mode = [
        "--detect-local-mode",
        "ClusterCIDR",
        "--cluster-cidr",
        elsewhere,
    ];
    let mut stage = Stage::new(PodNetwork::Routed, &mode);
    meets(&mut stage, Place::Pod, &["local"]);
    meets(&mut stage, Place::PodWithoutHooks, &["local"]);
    meets(&mut stage, Place::Node, BOTH);
}

#[test]
fn f9_a_bridge_by_name_stands_for_its_pods() {
    let stage = Stage::new(PodNetwork::Bridged, &[]);
    let client = stage.pod_without_hooks.pod.as_ref().unwrap();
    let bridge = bridge_of(client);
    drop(stage);
    let mode = [
        "--detect-local-mode",
        "BridgeInterface",
        "--pod-bridge-interface",
        &bridge,
    ];
    let mut stage = Stage::new(PodNetwork::Bridged, &mode);
    meets(&mut stage, Place::PodWithoutHooks, BOTH);
    meets(&mut stage, Place::Pod, BOTH);
}

#[test]
fn f9_pods_devices_by_the_beginning_of_their_names() {
    let stage = Stage::new(PodNetwork::Routed, &[]);
    let device = device_of(&stage.pod_without_hooks);
    drop(stage);
    let prefix: String = device.chars().take_while(|c| c.is_alphabetic()).collect();
    let mode = [
        "--detect-local-mode",
        "InterfaceNamePrefix",
        "--pod-interface-name-prefix",
        &prefix,
    ];
    let mut stage = Stage::new(PodNetwork::Routed, &mode);
    meets(&mut stage, Place::PodWithoutHooks, BOTH);
    meets(&mut stage, Place::Pod, BOTH);
}

fn device_of(client: &Client) -> String {
    client.pod.as_ref().unwrap().device().to_owned()
}

/// Name of the bridge that a pod's device is a port of.
fn bridge_of(pod: &lb_integration::cluster::Pod) -> String {
    let link = format!("/sys/class/net/{}/master", pod.device());
    let netns = pod.node().netns();
    let output = netns
        .run(|| {
            std::process::Command::new("ip")
                .args(["-o", "link", "show", pod.device()])
                .output()
        })
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "master");
    words
        .nth(1)
        .unwrap_or_else(|| panic!("no bridge at {link}: {text}"))
        .to_owned()
}

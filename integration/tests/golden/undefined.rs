//! Virtual addresses where nobody serves (rule E3): ports that a ClusterIP does not have, and
//! addresses of ServiceCIDRs that no Service has.

use std::net::SocketAddr;

use lb_integration::{
    PodNetwork,
    agent::dial::Dial,
    client::{Client, udp},
    patience::{becomes, eventually},
};
use serde_json::{Value, json};

use crate::stage::{Place, Policies, Stage, quick};

const PLACES: [Place; 4] = [
    Place::Pod,
    Place::PodWithoutHooks,
    Place::Node,
    Place::Outside,
];

/// A ServiceCIDR with both families.
fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": ["10.96.0.0/16", "fd00:96::/64"] },
    })
}

fn dials(to: [SocketAddr; 2]) -> Vec<Dial> {
    to.into_iter().flat_map(|to| [quick(to), udp(to)]).collect()
}

fn unallocated() -> [SocketAddr; 2] {
    ["10.96.250.250:80", "[fd00:96::fafa]:80"].map(|at| at.parse().unwrap())
}

/// The routers must not make the difference: they know these addresses.
fn route(stage: &Stage) {
    for to in unallocated() {
        stage.cluster.route_vip(to.ip(), 0).unwrap();
    }
}

fn refused(client: &mut Client) {
    client.is_refused_all(&dials(Stage::cluster_ips(Policies::Cluster, 81)));
}

#[test]
fn e3_undefined_ports_are_refused_and_unallocated_cluster_ips_dropped() {
    let stage = &mut Stage::with_objects(PodNetwork::Routed, &[], &[service_cidr()]);
    route(stage);
    for place in PLACES {
        let client = stage.client(place);
        refused(client);
        client.is_dropped_all(&dials(unallocated()));
    }
    let status = stage.lbctl(&["status"]);
    assert!(status.contains("10.96.0.0/16, fd00:96::/64"), "{status}");
    let drops = stage.lbctl(&["drops"]);
    for reason in ["undefined_port", "unallocated_cluster_ip"] {
        assert!(drops.contains(reason), "{drops}");
    }
    // Ports that are defined are not in the way of this.
    for place in PLACES {
        for to in stage.at(Policies::Cluster, crate::stage::Address::ClusterIp) {
            stage
                .client(place)
                .reaches(&quick(to), &["local", "remote"]);
        }
    }
}

#[test]
fn e3_service_cidrs_come_and_go() {
    let stage = &mut Stage::new(PodNetwork::Routed, &[]);
    route(stage);
    // Known ClusterIPs need no ServiceCIDR; of others nothing is known.
    refused(&mut stage.pod_without_hooks);
    let before = stage.lbctl(&["status"]);
    assert!(before.contains("seen, not set aside"), "{before}");
    stage.control_plane.apply(&service_cidr()).unwrap();
    let dropped = |stage: &mut Stage| {
        eventually("drops are counted", || {
            stage.pod_without_hooks.dial(&quick(unallocated()[0]));
            let counted = stage.lbctl(&["drops"]).contains("unallocated_cluster_ip");
            counted.then_some(()).ok_or_else(|| stage.explain())
        });
    };
    dropped(stage);
    stage.control_plane.delete(&service_cidr()).unwrap();
    becomes("the ServiceCIDR goes", || {
        !stage.lbctl(&["status"]).contains("10.96.0.0/16")
    });
    refused(&mut stage.pod);
}

#[test]
fn e3_can_be_switched_off() {
    let switch = ["--reject-undefined-ports", "false"];
    let stage = &mut Stage::with_objects(PodNetwork::Routed, &switch, &[service_cidr()]);
    for place in [Place::Pod, Place::PodWithoutHooks, Place::Node] {
        // "Network unreachable" from the fabric, which routes no ClusterIP to itself; or nothing.
        let to = Stage::cluster_ips(Policies::Cluster, 81);
        stage.client(place).is_dropped_all(&to.map(quick));
    }
    let drops = stage.lbctl(&["drops"]);
    assert!(!drops.contains("undefined_port"), "{drops}");
}

#[test]
fn e2_cluster_ips_can_be_kept_from_clients_outside() {
    let switch = ["--external-cluster-ip", "false"];
    let stage = &mut Stage::with_objects(PodNetwork::Routed, &switch, &[service_cidr()]);
    let cluster_ip = stage.at(Policies::Cluster, crate::stage::Address::ClusterIp);
    for place in [Place::Pod, Place::PodWithoutHooks, Place::Node] {
        for to in cluster_ip {
            stage
                .client(place)
                .reaches(&quick(to), &["local", "remote"]);
        }
    }
    stage.user.fails_all(&cluster_ip.map(quick));
    for to in stage.at(Policies::Cluster, crate::stage::Address::NodePort) {
        stage.user.reaches(&quick(to), &["local", "remote"]);
    }
}

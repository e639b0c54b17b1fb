//! Traffic that is none of our business: it goes on byte for byte, and nothing is counted.

use lb_ebpf::abi::{FrontendKind, Protocol};

use super::super::{
    packet::{Body, Packet},
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{NODE, Net},
    world::{Service, World},
};

/// A node with a service, so that filters are not empty.
fn node(case: Case) -> World {
    let vip = Net::Vips.at(case.family, 1, 80);
    let service = Service::new(1, case.protocol)
        .frontend(vip, FrontendKind::LoadBalancer)
        .frontend(case.any(30_080), FrontendKind::NodePort)
        .backend(Net::Pods(1).at(case.family, 5, 8080));
    World::node().with(&service)
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "packets to other addresses go on unchanged",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let (client, other) = (case.client(), Net::Vips.at(case.family, 2, 80));
            let packet = Packet::opening(case.protocol, client, other);
            Script::new(node(case)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "packets to other ports of a frontend's address go on unchanged",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let (client, other) = (case.client(), Net::Vips.at(case.family, 1, 81));
            let packet = Packet::opening(case.protocol, client, other);
            Script::new(node(case)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "packets to other ports of the node go on unchanged",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let (client, own) = (case.client(), Net::Uplink.at(case.family, NODE, 22));
            let packet = Packet::opening(case.protocol, client, own);
            Script::new(node(case)).step(Step::new(case.hook, &packet).flows(&[]))
        },
    },
    Row {
        name: "pings go on unchanged",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let (client, vip) = (case.client(), Net::Vips.at(case.family, 1, 0));
            let kind = case.family.pick(8, 128);
            let ping = Packet::new(client, vip, Body::Icmp(kind, 0, 7)).payload(&[1; 56]);
            Script::new(node(case)).step(Step::new(case.hook, &ping).flows(&[]))
        },
    },
    Row {
        name: "other protocols go on unchanged",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let (client, vip) = (case.client(), Net::Vips.at(case.family, 1, 0));
            let mut script = Script::new(node(case));
            for number in [2, 33, 47, 50, 51, 89, 112, 136, 255] {
                let packet = Packet::new(client, vip, Body::Raw(number)).payload(&[9; 40]);
                script = script.step(Step::new(case.hook, &packet).flows(&[]));
            }
            script
        },
    },
];

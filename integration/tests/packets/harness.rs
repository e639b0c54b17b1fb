//! The harness itself: what is wrong it notices.

use lb_ebpf::{
    abi::{FrontendKind, PacketEvent, Protocol},
    packet::ETHERNET,
};
use lb_integration::packets::{
    check,
    flow::{Flow, Path},
    packet::{Body, Packet},
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{Family, Net, Port},
    verify::sound,
    world::{SERVICE, Service, World},
};

fn vip(case: Case) -> std::net::SocketAddr {
    Net::Vips.at(case.family, 1, 80)
}

fn client(case: Case) -> std::net::SocketAddr {
    Net::Clients.at(case.family, 7, 40_000)
}

fn backend(case: Case) -> std::net::SocketAddr {
    Net::Pods(1).at(case.family, 5, 8080)
}

fn world(case: Case) -> World {
    let service = Service::new(SERVICE, case.protocol)
        .frontend(vip(case), FrontendKind::LoadBalancer)
        .backend(backend(case));
    World::node().with(&service)
}

/// The truth: a flow to a local backend is opened.
fn truth(case: Case) -> Step {
    let packet = Packet::opening(case.protocol, client(case), vip(case));
    let from = (client(case), vip(case));
    let to = (client(case), backend(case));
    Step::new(case.hook, &packet)
        .passes_as(&packet.clone().between(client(case), backend(case)))
        .counts(PacketEvent::Opened)
        .service([1, 0, 0, 0])
        .flows(&[Flow::new(case.protocol, from, to, Path::STACK)])
}

/// A row about local backends.
fn row(script: fn(Case) -> Script) -> Row {
    Row {
        name: "a row",
        hooks: &[Hook::Ingress],
        families: BOTH,
        protocols: TRANSPORTS,
        script,
    }
}

#[test]
fn a_true_row_has_no_findings() {
    let row = row(|case| Script::new(world(case)).step(truth(case)));
    assert_eq!(check::report(&check::on_host(&[row])), "");
}

#[test]
fn each_lie_of_a_row_is_found_in_each_case() {
    let lies: [fn(Case) -> Script; 6] = [
        |case| Script::new(world(case)).step(truth(case).drops()),
        |case| {
            let other = Packet::opening(case.protocol, client(case), backend(case)).hop();
            Script::new(world(case)).step(truth(case).passes_as(&other))
        },
        |case| Script::new(world(case)).step(truth(case).counts(PacketEvent::Opened)),
        |case| {
            Script::new(world(case)).step(
                truth(case)
                    .at(Port::Second)
                    .counts(PacketEvent::Established),
            )
        },
        |case| Script::new(world(case)).step(truth(case).service([2, 0, 0, 0])),
        |case| Script::new(world(case)).step(truth(case).flows(&[])),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let row = row(lie);
        let findings = check::on_host(&[row]);
        assert_eq!(findings.len(), row.cases().count(), "lie {number}");
    }
}

#[test]
fn every_bit_of_a_segment_counts() {
    for family in Family::ALL {
        for body in [Body::Udp(true), Body::Sctp(0), Body::Icmp(3, 3, 0)] {
            let (src, dst) = (Net::Clients.at(family, 7, 1), Net::Vips.at(family, 1, 2));
            let packet = Packet::new(src, dst, body.clone()).payload(b"payload");
            let frame = packet.bytes();
            sound(&frame).expect("a frame built from scratch");
            // Lengths of UDP and a checksum of zero have a meaning of their own.
            let first = ETHERNET + family.pick(20, 40);
            let skipped = if body == Body::Udp(true) { 4..8 } else { 0..0 };
            for at in (0..frame.len() - first).filter(|at| !skipped.contains(at)) {
                for bit in 0..8 {
                    let mut broken = frame.clone();
                    broken[first + at] ^= 1 << bit;
                    assert!(sound(&broken).is_err(), "{body:?}: byte {at}, bit {bit}");
                }
            }
        }
    }
}

#[test]
fn every_bit_of_an_ipv4_header_counts() {
    let (src, dst) = (
        Net::Clients.at(Family::V4, 7, 1),
        Net::Vips.at(Family::V4, 1, 2),
    );
    let frame = Packet::opening(Protocol::Tcp, src, dst).bytes();
    for at in ETHERNET..ETHERNET + 20 {
        for bit in 0..8 {
            let mut broken = frame.clone();
            broken[at] ^= 1 << bit;
            assert!(sound(&broken).is_err(), "byte {at}, bit {bit}");
        }
    }
}

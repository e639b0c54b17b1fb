//! Connection tracking at its limits: a full table, and a collector that never rests.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_integration::{
    agent::socket::{Family, Protocol},
    control::SocketId,
};

use crate::stage::{Profile, Stage};

/// Backends on both nodes, and the addresses of their load balancers.
fn serving(stage: &mut Stage) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for (node, name) in ["near", "far"].into_iter().enumerate() {
        let (_, frontends) = stage.serving(node, name);
        addresses.extend(frontends.load_balancer.map(|vip| SocketAddr::new(vip, 80)));
    }
    addresses
}

#[test]
fn a_full_table_refuses_nobody() {
    let mut stage = Stage::new(Profile::default(), &["--conntrack-entries", "32"]);
    let addresses = serving(&mut stage);
    let streams: Vec<SocketId> = (0..200)
        .map(|number| stage.user.stream(addresses[number % addresses.len()]))
        .collect();
    for round in 0..3 {
        for &stream in &streams {
            stage.user.stream_works(stream, &format!("round {round}"));
        }
    }
}

#[test]
fn flows_in_use_outlive_a_collector_that_never_rests() {
    let mut stage = Stage::new(
        Profile::default(),
        &[
            "--conntrack-gc-interval=10ms",
            "--conntrack-tcp-timeout-established=2s",
            "--conntrack-udp-timeout=2s",
            "--conntrack-udp-timeout-stream=2s",
        ],
    );
    let addresses = serving(&mut stage);
    let streams: Vec<SocketId> = addresses.iter().map(|&to| stage.user.stream(to)).collect();
    let control = &mut stage.user.control;
    let mut sockets = Vec::new();
    for &to in &addresses {
        let family = Family::of(to.ip());
        let socket = control.open(Protocol::Udp, family, None).unwrap().unwrap();
        let limit = Duration::from_secs(1);
        control.connect(socket, to, limit).unwrap().unwrap();
        let first = control.ask(socket, "clientip").unwrap().unwrap().data;
        sockets.push((socket, first));
    }
    // Several lifetimes long, without a pause of one.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        for &stream in &streams {
            stage.user.stream_works(stream, "in use");
        }
        for (socket, first) in &sockets {
            let answer = stage
                .user
                .control
                .ask(*socket, "clientip")
                .unwrap()
                .unwrap();
            // The same source port: it is the same flow still.
            assert_eq!(answer.data, *first);
        }
    }
}

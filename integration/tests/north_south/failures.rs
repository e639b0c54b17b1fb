//! What goes wrong around traffic from outside: nodes that lose their cable or change their
//! addresses, backends that leave under load, controllers that die.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use lb_integration::{
    agent::socket::{ErrorKind, Protocol},
    client::{tcp, udp},
    control::SocketId,
    ip::Batch,
};

use crate::stage::{Frontends, Profile, Stage, Xdp};

const MODES: [Xdp; 2] = [Xdp::Native, Xdp::Off];

/// A connection to everywhere the first node serves.
fn streams(stage: &mut Stage, frontends: &Frontends) -> Vec<SocketId> {
    let all = stage.addresses(frontends);
    all.iter().map(|&(_, to)| stage.user.stream(to)).collect()
}

fn all_work(stage: &mut Stage, streams: &[SocketId], line: &str) {
    for &stream in streams {
        stage.user.stream_works(stream, line);
    }
}

#[test]
fn a_new_address_of_the_node_serves_node_ports_until_it_goes() {
    let mut stage = Stage::shared(Xdp::Native);
    let (service, frontends) = stage.serving(1, "addresses");
    let added: [IpAddr; 2] = [
        "172.30.0.99".parse().unwrap(),
        "fd00:30::99".parse().unwrap(),
    ];
    let change = |stage: &Stage, verb: &str| {
        let mut batch = Batch::new();
        batch.add(format!("addr {verb} {}/24 dev eth0", added[0]));
        batch.add(format!("addr {verb} {}/64 dev eth0 nodad", added[1]));
        stage.cluster.node(0).netns().ip(&batch).unwrap();
    };
    let dials = added.map(|ip| tcp(SocketAddr::new(ip, frontends.node_port)));
    stage.user.fails_all(&dials);
    change(&stage, "add");
    stage.user.reaches_all(&dials, &["addresses"]);
    change(&stage, "del");
    stage.user.fails_all(&dials);
    stage.wait_for(&frontends, "addresses");
    stage.clear("addresses", &[&service]);
}

#[test]
fn a_node_that_was_unplugged_serves_again() {
    for mode in MODES {
        let profile = Profile {
            xdp: mode,
            ..Profile::default()
        };
        let mut stage = Stage::new(profile, &[]);
        let mut all = Vec::new();
        for (node, name) in ["near", "far"].into_iter().enumerate() {
            let (_, frontends) = stage.serving(node, name);
            let streams = streams(&mut stage, &frontends);
            all.push((name, frontends, streams));
        }
        let cable = stage.cluster.unplug(0).unwrap();
        for (_, frontends, _) in &all {
            stage
                .user
                .fails(&tcp(stage.node_port(0, frontends.node_port)[0]));
        }
        stage.cluster.plug(0, &cable).unwrap();
        for (name, frontends, streams) in &all {
            stage.wait_for(frontends, name);
            // What had been established before goes on: the flows were not on the device.
            all_work(&mut stage, streams, "after the outage");
        }
    }
}

#[test]
fn established_connections_outlive_the_endpoint_and_the_service() {
    for mode in MODES {
        let mut stage = Stage::shared(mode);
        for (node, name) in ["leaving-near", "leaving-far"].into_iter().enumerate() {
            let (service, frontends) = stage.serving(node, name);
            let streams = streams(&mut stage, &frontends);
            stage.withdraw(&[name]);
            for (_, to) in stage.addresses(&frontends) {
                stage.user.is_refused(&tcp(to));
                stage.user.is_refused(&udp(to));
            }
            all_work(&mut stage, &streams, "without an endpoint");
            stage.delete(&service);
            for (_, to) in stage.addresses(&frontends) {
                stage.user.fails(&tcp(to));
            }
            all_work(&mut stage, &streams, "without a Service");
            for stream in streams {
                stage.user.control.close(stream).unwrap().unwrap();
            }
            stage.clear(name, &[]);
        }
    }
}

#[test]
fn only_connections_to_the_removed_backend_suffer_under_load() {
    for mode in MODES {
        let mut stage = Stage::shared(mode);
        let stage = &mut *stage;
        let names = ["load-0", "load-1", "load-2"];
        let (service, frontends) = stage.service("load", "load");
        stage.apply(&service);
        for (i, name) in names.into_iter().enumerate() {
            stage.backend(i % 2, name);
            stage.select(name, "load");
        }
        for (_, to) in stage.addresses(&frontends) {
            stage.user.reaches(&tcp(to), &names);
        }
        let to = SocketAddr::new(frontends.load_balancer[0], 80);
        let summary = thread::scope(|scope| {
            let (user, dial) = (&mut stage.user, tcp(to));
            let pause = Duration::from_millis(2);
            let dialling = scope.spawn(move || user.control.dial_for(&dial, 800, pause, None));
            // It still serves while the change is on its way, as a terminating pod does.
            for name in &names[1..] {
                thread::sleep(Duration::from_millis(300));
                stage.control_plane.remove_pods("default", &[name]).unwrap();
            }
            dialling.join().unwrap().unwrap()
        });
        assert_eq!(summary.failed(), 0, "{summary:?}");
        assert_eq!(summary.replies.len(), 3, "{summary:?}");
        stage.user.reaches(&tcp(to), &["load-0"]);
        for name in names {
            stage.clear(name, &[]);
        }
        stage.delete(&service);
    }
}

#[test]
fn the_datapath_goes_on_without_its_controller_and_is_taken_over() {
    for mode in MODES {
        let profile = Profile {
            xdp: mode,
            ..Profile::default()
        };
        let mut stage = Stage::new(profile, &[]);
        let mut all = Vec::new();
        for (node, name) in ["near", "far"].into_iter().enumerate() {
            let (_, frontends) = stage.serving(node, name);
            let streams = streams(&mut stage, &frontends);
            all.push((name, frontends, streams));
        }
        for round in ["without a controller", "with a new controller"] {
            if round == "without a controller" {
                stage.kill_proxies();
            } else {
                stage.start_proxies();
            }
            for (name, frontends, streams) in &all {
                for (_, to) in stage.addresses(frontends) {
                    assert_eq!(stage.user.ask(&tcp(to)), *name, "{round}");
                    assert_eq!(stage.user.ask(&udp(to)), *name, "{round}");
                }
                all_work(&mut stage, streams, round);
            }
        }
    }
}

#[test]
fn one_client_port_reaches_two_addresses_of_one_backend() {
    for mode in MODES {
        let mut stage = Stage::shared(mode);
        for (node, name) in ["port-near", "port-far"].into_iter().enumerate() {
            let (service, frontends) = stage.serving(node, name);
            let all = stage.addresses(&frontends);
            for v4 in [true, false] {
                let same: Vec<_> = all.iter().filter(|(_, to)| to.is_ipv4() == v4).collect();
                let own = stage.outside.addresses()[usize::from(!v4)];
                let local = SocketAddr::new(own, if v4 { 40_004 } else { 40_006 });
                let mut open = Vec::new();
                for &&(kind, to) in &same {
                    let control = &mut stage.user.control;
                    let family = lb_integration::agent::socket::Family::of(own);
                    let socket = control
                        .open(Protocol::Tcp, family, Some(local))
                        .unwrap()
                        .unwrap();
                    control.abort_on_close(socket).unwrap().unwrap();
                    let connected = control.connect(socket, to, Duration::from_secs(2)).unwrap();
                    assert_eq!(connected, Ok(()), "{kind} {to} from {local}");
                    open.push(socket);
                }
                for &socket in &open {
                    let answer = stage.user.control.ask(socket, "hostname").unwrap().unwrap();
                    assert_eq!(answer.data, name);
                }
                for socket in open {
                    stage.user.control.close(socket).unwrap().unwrap();
                }
            }
            stage.clear(name, &[&service]);
        }
    }
}

#[test]
fn exhausted_source_ports_refuse_nobody_who_is_connected() {
    const PORTS: usize = 512;
    let mut stage = Stage::new(Profile::default(), &["--snat-ports", "20000-20511"]);
    let (_, frontends) = stage.serving(1, "far");
    let to = SocketAddr::new(frontends.load_balancer[0], 80);
    let mut open = Vec::new();
    let failure = loop {
        let connected = stage.user.control.connect_new(Protocol::Tcp, to).unwrap();
        match connected {
            Ok(socket) => open.push(socket),
            Err(failure) => break failure,
        }
        assert!(open.len() <= PORTS, "more connections than ports");
    };
    // What was dialled before holds some ports for a while.
    assert_eq!(failure.kind, ErrorKind::Timeout);
    assert!(open.len() >= PORTS / 2, "{} connections", open.len());
    for &socket in &open {
        let answer = stage.user.control.ask(socket, "hostname").unwrap().unwrap();
        assert_eq!(answer.data, "far");
    }
}

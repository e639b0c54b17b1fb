//! Step 5: a client outside the cluster, and what lbctl knows about its packets.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    agent::{dial::Dial, socket::Protocol},
    cluster::Pod,
    control::SocketId,
    demo::{
        scene::{Client, Scene},
        screen::{Screen, counted},
    },
    proxy::lbctl,
};

/// Connections after which both of two pods have answered, unless something is wrong: one of
/// them stays silent once in 2⁶³ runs.
const TRIES: usize = 64;

/// How long nothing must come back for a dropped packet: less than until it is sent again.
const SILENCE: Duration = Duration::from_millis(500);

/// A connection that is kept open, and what both of its ends see.
#[derive(Debug)]
struct Held {
    socket: SocketId,
    /// Where the client dialled.
    to: SocketAddr,
    /// The client's own end.
    client: SocketAddr,
    /// Whom the client has at the other end.
    peer: SocketAddr,
    /// The pod that answers.
    pod: String,
    /// From where that pod sees the connection come.
    seen: SocketAddr,
}

pub(in crate::demo) fn outside(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "A client outside the cluster",
        "XDP at the uplink of the node it dials picks a pod, and remembers the flow.",
    );
    let from: Vec<String> = scene
        .outside
        .addresses()
        .iter()
        .map(IpAddr::to_string)
        .collect();
    screen.note(format!(
        "It is {}; XDP mode: {}.",
        from.join(", "),
        scene.xdp
    ));
    let held = shop(screen, scene)?;
    let kept = keeps_address(screen, scene)?;
    flows(screen, scene, &held)?;
    translations(screen, scene, &held)?;
    drops(screen, scene)?;
    for connection in held.into_iter().chain(kept) {
        scene.visitor.control.close(connection.socket)??;
    }
    Ok(())
}

/// NodePort and load balancer, each in both families, until the pod here and the one there have
/// answered.
fn shop(screen: &mut Screen, scene: &mut Scene) -> Result<Vec<Held>> {
    let node_port = scene.manifests.node_port("shop")?;
    let node = scene.cluster.node(0).addresses();
    let mut dialled: Vec<(&str, SocketAddr)> = Vec::new();
    dialled.extend(node.iter().map(|&ip| ("NodePort", (ip, node_port).into())));
    let load_balancers = scene.manifests.load_balancers("shop")?;
    dialled.extend(load_balancers.iter().map(|&vip| ("load balancer", vip)));
    let mut held = Vec::new();
    for (kind, to) in dialled {
        for pod in ["web-1", "web-3"] {
            let connection = until(&mut scene.visitor, to, pod)?;
            row(screen, scene, kind, &connection)?;
            held.push(connection);
        }
    }
    screen.check(
        held.iter().all(|one| one.peer == one.to),
        "a pod here and one on node-2 answer everywhere, from the address that was dialled",
    );
    let near = scene.cluster.node(0).name();
    let mut as_said = true;
    for one in &held {
        as_said &= if scene.pod(&one.pod)?.node().name() == near {
            one.seen == one.client
        } else {
            node.contains(&one.seen.ip())
        };
    }
    screen.check(
        as_said,
        "the pod here sees the client, the other one node-1, through which its answers must go",
    );
    Ok(held)
}

/// A pod sees the client itself if packets can only go to pods of the node, and if the pod's
/// node answers past the one that took the packet.
fn keeps_address(screen: &mut Screen, scene: &mut Scene) -> Result<Vec<Held>> {
    let local = (
        scene.cluster.node(0).v4(),
        scene.manifests.node_port("pay")?,
    )
        .into();
    let returned = scene.manifests.load_balancers("pics")?[0];
    let mut held = Vec::new();
    for (kind, to, pod) in [
        ("policy Local", local, "web-2"),
        ("direct return", returned, "web-4"),
    ] {
        let connection = until(&mut scene.visitor, to, pod)?;
        row(screen, scene, kind, &connection)?;
        held.push(connection);
    }
    screen.check(
        held.iter()
            .all(|one| one.seen == one.client && one.peer == one.to),
        "externalTrafficPolicy: Local and lb/forwarding-mode: dsr keep the client's address",
    );
    Ok(held)
}

/// Connects until this pod answers, and keeps that connection.
fn until(visitor: &mut Client, to: SocketAddr, pod: &str) -> Result<Held> {
    let control = &mut visitor.control;
    let mut others = Vec::new();
    for _ in 0..TRIES {
        let connected = control.connect_new(Protocol::Tcp, to)?;
        let socket = connected.with_context(|| format!("connecting to {to}"))?;
        let name = control.ask(socket, "hostname")??.data;
        if name != pod {
            control.abort_on_close(socket)??;
            control.close(socket)??;
            others.push(name);
            continue;
        }
        let seen: SocketAddr = control.ask(socket, "clientip")??.data.parse()?;
        return Ok(Held {
            socket,
            to,
            client: control.local(socket)??,
            peer: control.peer(socket)??,
            pod: name,
            seen: SocketAddr::new(seen.ip().to_canonical(), seen.port()),
        });
    }
    others.sort_unstable();
    others.dedup();
    anyhow::bail!("{pod} never answered at {to}, but {}", others.join(", "))
}

fn row(screen: &Screen, scene: &Scene, kind: &str, connection: &Held) -> Result<()> {
    let pod = scene.pod(&connection.pod)?;
    screen.line(format!(
        "  {kind:<13} {:<23} → {} on {}, which saw {}",
        connection.to.to_string(),
        pod.name(),
        pod.node().name(),
        connection.seen.ip()
    ));
    Ok(())
}

/// `lbctl conntrack list` knows every connection that is open; the IPv4 ones are enough to see.
fn flows(screen: &mut Screen, scene: &Scene, held: &[Held]) -> Result<()> {
    let held = of_client(held, scene);
    let listed = listed(screen, scene, "conntrack")?;
    let found = held.iter().filter(|connection| {
        listed.iter().any(|flow| {
            flow["client"] == connection.client.to_string()
                && flow["frontend"] == connection.to.to_string()
                && backend_is(scene, flow, &connection.pod)
        })
    });
    let found = found.count();
    screen.check(
        found == held.len() && listed.len() == held.len(),
        format!("the client's {found} open connections, and no other"),
    );
    Ok(())
}

/// `lbctl nat list` names the address and port that the pod sees instead of the client's.
fn translations(screen: &mut Screen, scene: &Scene, held: &[Held]) -> Result<()> {
    let held = of_client(held, scene);
    let translated: Vec<_> = held.iter().filter(|one| one.seen != one.client).collect();
    let listed = listed(screen, scene, "nat")?;
    let right = translated.iter().all(|connection| {
        listed.iter().any(|flow| {
            flow["client"] == connection.client.to_string()
                && flow["seen_as"] == connection.seen.to_string()
        })
    });
    screen.check(
        right && !translated.is_empty() && listed.len() == translated.len(),
        "the addresses and ports that the pods themselves report",
    );
    Ok(())
}

/// A packet for which the policy leaves no pod is counted, under its reason, where it came in.
fn drops(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    let node = scene.cluster.node(1);
    let port = scene.manifests.node_port("pay")?;
    let to = SocketAddr::new(node.v4().into(), port);
    let dial = Dial::tcp(to).timeout(SILENCE);
    let dialed = scene.visitor.control.dial(&dial)?;
    ensure!(
        !dialed.ok,
        "{to} answered, although its node has no pod of pay"
    );
    screen.line(format!("  policy Local  {to}: no pod of pay on node-2"));
    screen.command("lbctl drops        # on node-2");
    show(screen, &lbctl(node, &["drops"])?);
    let answer: Value = serde_json::from_str(&lbctl(node, &["drops", "-o", "json"])?)?;
    let counted_as: u64 = answer["events"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["event"] == "no_local_endpoint" && row["device"] == "eth0")
        .filter_map(|row| row["count"].as_u64())
        .sum();
    screen.check(
        counted_as > 0,
        format!(
            "no answer within {} ms; {} counted at its uplink",
            SILENCE.as_millis(),
            counted(counted_as as usize, "packet")
        ),
    );
    Ok(())
}

/// Shows a list of flows on the first node, and returns it.
fn listed(screen: &Screen, scene: &Scene, list: &str) -> Result<Vec<Value>> {
    let node = scene.cluster.node(0);
    let client = scene.outside.v4().to_string();
    let command = [
        list,
        "list",
        "--service",
        "default/shop",
        "--client",
        &client,
    ];
    // Connections that came to the other pod were reset at once.
    let command = [&command[..], &["--state", "established"]].concat();
    screen.command(format!("lbctl {}", command.join(" ")));
    show(screen, &lbctl(node, &command)?);
    let answer = lbctl(node, &[&command[..], &["-o", "json"]].concat())?;
    let answer: Value = serde_json::from_str(&answer)?;
    let flows = answer["flows"].as_array();
    flows.cloned().context("a list of flows without flows")
}

/// The connections from the client's IPv4 address.
fn of_client<'a>(held: &'a [Held], scene: &Scene) -> Vec<&'a Held> {
    let address = IpAddr::V4(scene.outside.v4());
    held.iter()
        .filter(|one| one.client.ip() == address)
        .collect()
}

fn backend_is(scene: &Scene, flow: &Value, pod: &str) -> bool {
    let backend = flow["backend"].as_str().and_then(|text| text.parse().ok());
    let pod = scene.pod(pod).map(Pod::addresses);
    backend
        .zip(pod.ok())
        .is_some_and(|(backend, addresses): (SocketAddr, _)| addresses.contains(&backend.ip()))
}

fn show(screen: &Screen, text: &str) {
    for line in text.lines() {
        screen.line(line);
    }
}

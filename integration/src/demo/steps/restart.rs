//! Step 7: the controller dies while connections go on.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::spread::outcome;
use crate::{
    agent::{dial::Dial, socket::Protocol},
    control::SocketId,
    demo::{
        scene::{Client, Scene},
        screen::{Screen, counted, time},
        traffic::{Samples, during},
    },
};

/// Connections before the kill, without a controller, and with the second one.
const PARTS: [usize; 3] = [2_000, 5_000, 3_000];

const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::demo) fn restart(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "The controller dies, traffic does not notice",
        "Programs and maps are pinned in the kernel; a new controller adopts them as they are.",
    );
    let vips = scene.manifests.vips("web")?;
    let mut dials: Vec<Dial> = vips.iter().copied().map(Dial::tcp).collect();
    dials.extend(scene.manifests.vips("dns")?.into_iter().map(Dial::udp));
    let (samples, times, owners) =
        scene.with_clients(|scene, clients| observe(scene, &mut clients[..1], &dials, vips[0]))?;

    screen.command(format!("kill -9 {}   # lb-controller of node-1", times.pid));
    let parts = [
        (
            "with the first controller",
            samples.only(|s| s.at < times.killed),
        ),
        (
            "with no controller at all",
            samples.only(|s| s.at >= times.killed && s.at < times.restarting),
        ),
        (
            "while its successor starts",
            samples.only(|s| s.at >= times.restarting && s.at < times.healthy),
        ),
        (
            "with the second controller",
            samples.only(|s| s.at >= times.healthy),
        ),
    ];
    for (when, part) in parts {
        screen.line(format!(
            "  {when:<27} {:>19}",
            counted(part.len(), "connection")
        ));
    }
    screen.check(
        samples.failed() == 0 && samples.untranslated() == 0 && samples.len() >= PARTS.iter().sum(),
        format!(
            "client-1 made {} over TCP and UDP, IPv4 and IPv6: {}",
            counted(samples.len(), "connection"),
            outcome(&samples)
        ),
    );
    screen.check(
        owners[0] == owners[1],
        format!(
            "a connection opened before all this still talks to {}",
            owners[1]
        ),
    );
    screen.check(
        times.healthy - times.restarting < PATIENCE,
        format!(
            "the successor was healthy {} after its start",
            time(times.healthy - times.restarting)
        ),
    );
    Ok(())
}

/// When things happened, and to which process.
struct Times {
    pid: u32,
    killed: Instant,
    restarting: Instant,
    healthy: Instant,
}

/// Dials while the controller is killed and restarted; also who is at the other end of a
/// connection held all the time, before and after.
fn observe(
    scene: &mut Scene,
    clients: &mut [Client],
    dials: &[Dial],
    vip: SocketAddr,
) -> Result<(Samples, Times, [String; 2])> {
    let held = clients[0].control.connect_new(Protocol::Tcp, vip)??;
    let before = say(&mut clients[0], held)?;
    let (samples, times) = during(clients, dials, Duration::ZERO, |progress| {
        progress.reach(PARTS[0], PATIENCE)?;
        ensure!(!scene.proxies.is_empty(), "no controller runs");
        let mut old = scene.proxies.remove(0);
        let pid = old.process().pid();
        old.process().kill();
        let killed = Instant::now();
        progress.reach(PARTS[1], PATIENCE)?;
        let restarting = Instant::now();
        let new = scene.start_proxy(0)?;
        let healthy = Instant::now();
        scene.proxies.insert(0, new);
        progress.reach(PARTS[2], PATIENCE)?;
        Ok(Times {
            pid,
            killed,
            restarting,
            healthy,
        })
    })?;
    let after = say(&mut clients[0], held)?;
    clients[0].control.close(held)??;
    Ok((samples, times, [before, after]))
}

/// Who is at the other end of a connection.
fn say(client: &mut Client, socket: SocketId) -> Result<String> {
    Ok(client.control.ask(socket, "hostname")??.data)
}

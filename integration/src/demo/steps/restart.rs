//! Step 6: the controller dies while connections go on.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::spread::outcome;
use crate::{
    agent::{dial::Dial, socket::Protocol},
    control::SocketId,
    demo::{
        scene::{Client, Scene},
        screen::{Screen, counted, time},
        traffic::during,
    },
};

/// Connections before the kill, until the restart, and in all.
const MILESTONES: [usize; 3] = [2_000, 7_000, 10_000];

const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::demo) fn restart(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "The controller dies, traffic does not notice",
        "Programs and maps are pinned in the kernel; a new controller adopts them as they are.",
    );
    let vips = scene.manifests.vips("web")?;
    let mut dials: Vec<Dial> = vips.iter().copied().map(Dial::tcp).collect();
    dials.extend(scene.manifests.vips("dns")?.into_iter().map(Dial::udp));
    let mut clients = std::mem::take(&mut scene.clients);
    let held = clients[0].control.connect_new(Protocol::Tcp, vips[0])??;
    let owner = say(&mut clients[0], held)?;
    let done = during(&mut clients[..1], &dials, Duration::ZERO, |progress| {
        progress.reach(MILESTONES[0], PATIENCE)?;
        let mut old = scene.proxies.remove(0);
        let pid = old.process().pid();
        old.process().kill();
        let killed = Instant::now();
        progress.reach(MILESTONES[1], PATIENCE)?;
        let restarting = Instant::now();
        let new = scene.start_proxy(0)?;
        let healthy = Instant::now();
        scene.proxies.insert(0, new);
        progress.reach(MILESTONES[2], PATIENCE)?;
        Ok((pid, killed, restarting, healthy))
    });
    let still = say(&mut clients[0], held)?;
    let _ = clients[0].control.close(held)?;
    scene.clients = clients;
    let (samples, (pid, killed, restarting, healthy)) = done?;

    screen.command(format!("kill -9 {pid}   # lb-controller of node-1"));
    let parts = [
        ("with the first controller", samples.only(|s| s.at < killed)),
        (
            "with no controller at all",
            samples.only(|s| s.at >= killed && s.at < restarting),
        ),
        (
            "while its successor starts",
            samples.only(|s| s.at >= restarting && s.at < healthy),
        ),
        (
            "with the second controller",
            samples.only(|s| s.at >= healthy),
        ),
    ];
    for (when, part) in parts {
        screen.line(format!(
            "  {when:<27} {:>19}",
            counted(part.len(), "connection")
        ));
    }
    screen.check(
        samples.failed() == 0 && samples.untranslated() == 0 && samples.len() >= MILESTONES[2],
        format!(
            "client-1 made {} over TCP and UDP, IPv4 and IPv6: {}",
            counted(samples.len(), "connection"),
            outcome(&samples)
        ),
    );
    screen.check(
        owner == still,
        format!("a connection opened before all this still talks to {owner}"),
    );
    screen.check(
        healthy - restarting < PATIENCE,
        format!(
            "the successor was healthy {} after its start",
            time(healthy - restarting)
        ),
    );
    Ok(())
}

/// Who is at the other end of a connection.
fn say(client: &mut Client, socket: SocketId) -> Result<String> {
    Ok(client.control.ask(socket, "hostname")??.data)
}

//! Step 6: a backend dies, and comes back.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{spread::spread, traffic::WEB};
use crate::{
    agent::dial::Dial,
    demo::{
        scene::Scene,
        screen::{Screen, counted, time},
        traffic::{Progress, Samples, during},
    },
};

const VICTIM: &str = "web-2";

/// A readiness probe takes seconds; this is enough to see what happens before it fires.
const UNNOTICED: Duration = Duration::from_millis(200);

/// Between the requests of a client.
const PAUSE: Duration = Duration::from_millis(1);

/// A change must have reached the kernel within this time.
const IN_FORCE: Duration = Duration::from_secs(1);

pub(in crate::demo) fn failover(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "A backend dies",
        "kill -9 web-2; 0.2 s later its EndpointSlices say ready: false, as a failed probe would.",
    );
    let dials: Vec<Dial> = scene
        .manifests
        .vips("web")?
        .into_iter()
        .map(Dial::tcp)
        .collect();
    let (samples, times) =
        scene.with_clients(|scene, clients| during(clients, &dials, PAUSE, |_| kill(scene)))?;
    show(screen, &samples, &times);
    let (samples, written) = scene.with_clients(|scene, clients| {
        during(clients, &dials, PAUSE, |progress| revive(scene, progress))
    })?;
    let mut of_victim = samples.0.iter();
    let first = of_victim
        .find(|sample| sample.dialed.reply.as_deref() == Some(VICTIM))
        .with_context(|| format!("{VICTIM} got no connection after it was ready again"))?;
    let after = first.at.saturating_duration_since(written);
    screen.check(
        samples.failed() == 0 && after < IN_FORCE,
        format!(
            "{VICTIM} is back: its first connection {} after ready: true was written, {} failed",
            time(after),
            samples.failed()
        ),
    );
    Ok(())
}

/// When things happened.
struct Times {
    killed: Instant,
    written: Instant,
}

fn kill(scene: &mut Scene) -> Result<Times> {
    thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    scene.kill_server(VICTIM)?;
    thread::sleep(UNNOTICED);
    scene.manifests.set_ready(VICTIM, false)?;
    let written = Instant::now();
    thread::sleep(Duration::from_millis(700));
    Ok(Times { killed, written })
}

fn revive(scene: &mut Scene, progress: &Progress) -> Result<Instant> {
    scene.start_server(VICTIM)?;
    scene.manifests.set_ready(VICTIM, true)?;
    let written = Instant::now();
    progress.reach(500, Duration::from_secs(10))?;
    Ok(written)
}

fn show(screen: &mut Screen, samples: &Samples, times: &Times) {
    // A connection that was under way when its server died belongs to the second part.
    let before = samples.only(|sample| sample.end() < times.killed);
    let dead_listed = samples.only(|s| s.end() >= times.killed && s.at < times.written);
    let after = samples.only(|sample| sample.at >= times.written);
    for line in timeline(samples, times) {
        screen.line(line);
    }
    screen.check(
        before.failed() == 0,
        format!(
            "before: {}, {} failed",
            counted(before.len(), "connection"),
            before.failed()
        ),
    );
    screen.check(
        dead_listed.untranslated() == 0,
        format!(
            "dead but still listed as ready: {}, {} refused at once, none hung",
            counted(dead_listed.len(), "connection"),
            dead_listed.failed()
        ),
    );
    let late = after.0.iter().rev().find(|sample| !sample.dialed.ok);
    let took = late.map_or(Duration::ZERO, |sample| sample.at - times.written);
    screen.check(
        took < IN_FORCE,
        format!(
            "after the slices were written: {} refused, the last one {} later",
            after.failed(),
            time(took)
        ),
    );
    let settled = after.only(|sample| late.is_none_or(|late| sample.at > late.at));
    let others: Vec<&str> = WEB.into_iter().filter(|&pod| pod != VICTIM).collect();
    spread(screen, "web from then on", &settled, &others);
}

/// What became of connections, 20 ms a character.
fn timeline(samples: &Samples, times: &Times) -> [String; 3] {
    const CELL: Duration = Duration::from_millis(20);
    let Some(first) = samples.0.first() else {
        return Default::default();
    };
    let cell = |at: Instant| {
        (at.saturating_duration_since(first.at).as_nanos() / CELL.as_nanos()) as usize
    };
    let mut cells = vec![(0u32, 0u32); samples.0.last().map_or(0, |last| cell(last.at) + 1)];
    for sample in &samples.0 {
        let (ok, failed) = &mut cells[cell(sample.at)];
        *(if sample.dialed.ok { ok } else { failed }) += 1;
    }
    let drawn: String = cells
        .iter()
        .map(|cell| match cell {
            (0, 0) => ' ',
            (_, 0) => '█',
            _ => '▒',
        })
        .collect();
    let mut legend = String::new();
    for (at, text) in [
        (times.killed, "killed"),
        (times.written, "ready: false written"),
    ] {
        let gap = cell(at).saturating_sub(legend.chars().count());
        legend.extend([&" ".repeat(gap), "╷", text]);
    }
    let key = "█ all answered  ▒ some refused; 20 ms each".to_owned();
    [legend, drawn, key]
}

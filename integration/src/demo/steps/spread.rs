//! A chart of who answered, and the check that goes with it.

use std::time::Duration;

use anyhow::Result;

use crate::{
    agent::dial::Dial,
    demo::{
        scene::Client,
        screen::{Screen, counted, time},
        traffic::{Samples, bars, paced_burst},
    },
};

/// How long bars grow where someone watches them.
const GROWING: Duration = Duration::from_secs(2);

/// Has every client make `count` requests to each of `dials`, draws the bars as they grow, and
/// checks them as [`spread`] does.
pub(super) fn live(
    screen: &mut Screen,
    title: &str,
    clients: &mut [Client],
    (dials, count): (&[Dial], usize),
    pods: &[&str],
) -> Result<()> {
    let pause = if screen.is_live() {
        GROWING / (count * dials.len()) as u32
    } else {
        Duration::ZERO
    };
    let mut drawn = 0;
    let samples = paced_burst(clients, dials, count, pause, |replies| {
        if screen.is_live() {
            screen.take_back(drawn);
            let bars = bars(replies, pods);
            drawn = bars.len() + 1;
            screen.line(title);
            screen.bars(&bars);
        }
    })?;
    screen.take_back(drawn);
    spread(screen, title, &samples, pods);
    Ok(())
}

/// Shows how `samples` spread over `pods` and checks that all were answered, by these pods alone,
/// each with at least half a fair share.
pub(super) fn spread(screen: &mut Screen, title: &str, samples: &Samples, pods: &[&str]) {
    screen.line(title);
    let bars = bars(&samples.replies(), pods);
    screen.bars(&bars);
    let fair = samples.len() as u64 / pods.len().max(1) as u64;
    let even = bars
        .iter()
        .all(|bar| pods.contains(&bar.label.as_str()) && bar.count * 2 >= fair);
    screen.check(
        even && samples.failed() == 0 && samples.untranslated() == 0,
        format!(
            "{}, {}; median {} to connect, ask and hear the answer",
            counted(samples.len(), "request"),
            outcome(samples),
            time(samples.median()),
        ),
    );
}

/// `0 failed, 0 untranslated`, and which errors there were.
pub(super) fn outcome(samples: &Samples) -> String {
    let errors: Vec<String> = samples
        .errors()
        .iter()
        .map(|(error, count)| format!("{error}: {count}"))
        .collect();
    let errors = if errors.is_empty() {
        String::new()
    } else {
        format!(" ({})", errors.join(", "))
    };
    format!(
        "{} failed{errors}, {} untranslated",
        samples.failed(),
        samples.untranslated()
    )
}

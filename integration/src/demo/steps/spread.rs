//! A chart of who answered, and the check that goes with it.

use crate::demo::{
    screen::{Screen, counted, time},
    traffic::Samples,
};

/// Shows how `samples` spread over `pods` and checks that all were answered, by these pods alone,
/// each with at least half a fair share.
pub(super) fn spread(screen: &mut Screen, title: &str, samples: &Samples, pods: &[&str]) {
    screen.line(title);
    let bars = samples.bars(pods);
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

//! What the user sees: headings, one line per step, times. Colour only on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// Whether standard error is a terminal that wants colour.
pub(crate) fn colour() -> bool {
    stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn paint(style: &str, text: &str) -> String {
    if colour() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Starts a part of the work; [`Heading::done`] prints its time.
pub(crate) struct Heading {
    title: String,
    started: Instant,
}

pub(crate) fn heading(title: &str) -> Heading {
    eprintln!("{}", paint(BOLD, &format!("== {title}")));
    Heading {
        title: title.to_owned(),
        started: Instant::now(),
    }
}

impl Heading {
    pub(crate) fn done(self) {
        let line = format!(
            "== {}: done in {}",
            self.title,
            seconds(self.started.elapsed())
        );
        eprintln!("{}", paint(BOLD, &line));
    }
}

fn step(style: &str, state: &str, text: &dyn Display) {
    eprintln!("  {} {text}", paint(style, &format!("{state:<10}")));
}

/// Something needed is there.
pub(crate) fn ok(text: impl Display) {
    step(GREEN, "ok", &text);
}

/// Something is being installed or built.
pub(crate) fn installing(text: impl Display) {
    step(YELLOW, "installing", &text);
}

/// Something optional is missing or was not possible.
pub(crate) fn warn(text: impl Display) {
    step(YELLOW, "warning", &text);
}

pub(crate) fn error(message: &str) {
    eprintln!("{} {message}", paint(RED, "error:"));
}

/// Shows that a silent step still runs: a rewritten line on a terminal, else a line every
/// half minute.
pub(crate) struct Ticker {
    label: String,
    started: Instant,
    next_line: Duration,
}

impl Ticker {
    const LINE_EVERY: Duration = Duration::from_secs(30);

    pub(crate) fn new(label: &str) -> Self {
        installing(format!("{label} …"));
        Self {
            label: label.to_owned(),
            started: Instant::now(),
            next_line: Self::LINE_EVERY,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn tick(&mut self) {
        let elapsed = self.elapsed();
        if stderr().is_terminal() {
            eprint!("\r             {} s ", elapsed.as_secs());
            // Progress only: a closed standard error must not end the step.
            let _ = stderr().flush();
        } else if elapsed >= self.next_line {
            self.next_line += Self::LINE_EVERY;
            installing(format!("{} … {} s", self.label, elapsed.as_secs()));
        }
    }

    /// Ends the rewritten line; the time the step took.
    pub(crate) fn finish(self) -> Duration {
        if stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        self.elapsed()
    }
}

/// A duration as people read it: `0.4 s`, `75 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(75)), "75 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}

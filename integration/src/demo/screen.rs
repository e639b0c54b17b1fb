//! What the demo prints: numbered headings, lines, bars, and checks that decide its exit code.
//!
//! Colour only on a terminal that wants it; no line is wider than 100 columns.

use std::{
    env,
    fmt::Display,
    io::{IsTerminal, Stdout, Write, stdout},
    thread,
    time::Duration,
};

use super::interrupt;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Columns of the longest bar.
const BAR: usize = 36;

/// A pause before the next step, for someone who watches.
const READING: Duration = Duration::from_millis(1_200);

/// One bar of a chart.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// What it stands for.
    pub(super) label: String,
    /// How often.
    pub(super) count: u64,
}

/// Standard output, and whether every check so far held.
#[derive(Debug)]
pub(super) struct Screen {
    out: Stdout,
    colour: bool,
    /// Someone is watching: lines may be redrawn, and there must be time to read them.
    live: bool,
    steps: u32,
    failed: u32,
}

// === impl Screen ===

impl Screen {
    pub(super) fn new() -> Self {
        let live = stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            out: stdout(),
            colour: live && env::var_os("NO_COLOR").is_none(),
            live,
            steps: 0,
            failed: 0,
        }
    }

    /// Whether someone is watching.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// How many checks failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// The next step, and one line on why it is worth watching.
    pub(super) fn step(&mut self, title: &str, explanation: &str) {
        if self.live && self.steps > 0 {
            thread::sleep(READING);
        }
        self.steps += 1;
        let title = self.paint(BOLD, format!("{}  {title}", self.steps));
        let explanation = self.paint(DIM, explanation);
        self.print(format!("\n{title}\n   {explanation}"));
    }

    /// A line of a step.
    pub(super) fn line(&self, text: impl Display) {
        self.print(format!("   {text}").trim_end());
    }

    /// A line of a step that explains the next ones.
    pub(super) fn note(&self, text: impl Display) {
        self.line(self.paint(DIM, text));
    }

    /// A command line, as a user would type it.
    pub(super) fn command(&self, text: impl Display) {
        self.line(self.paint(CYAN, format!("$ {text}")));
    }

    /// States what was expected, and whether it is so.
    pub(super) fn check(&mut self, holds: bool, text: impl Display) {
        let mark = if holds {
            self.paint(GREEN, "✓")
        } else {
            self.failed += 1;
            self.paint(RED, "✗")
        };
        self.line(format!("{mark} {text}"));
    }

    /// A step that could not be carried out counts as a failed check.
    pub(super) fn broken(&mut self, error: &anyhow::Error) {
        self.check(false, "this step could not be carried out:");
        for line in format!("{error:#}").lines() {
            self.line(format!("  {line}"));
        }
    }

    /// Bars with counts and shares; the longest takes the full width.
    pub(super) fn bars(&self, bars: &[Bar]) {
        let total: u64 = bars.iter().map(|bar| bar.count).sum();
        let longest = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
        let labels = bars.iter().map(|bar| bar.label.chars().count());
        let width = labels.max().unwrap_or(0);
        for bar in bars {
            let drawn = self.paint(CYAN, drawn(bar.count, longest));
            let share = bar.count as f64 * 100.0 / total.max(1) as f64;
            // Padding by hand: escape sequences would count as characters.
            let gap = " ".repeat(BAR - columns(bar.count, longest));
            self.line(format!(
                "  {:<width$}  {drawn}{gap} {:>6}  {share:5.1} %",
                bar.label, bar.count
            ));
        }
    }

    /// Takes back the last `count` lines; only where they can be redrawn.
    pub(super) fn take_back(&self, count: usize) {
        if self.live && count > 0 {
            let _ = write!(&self.out, "\x1b[{count}A\x1b[J");
        }
    }

    /// The last word: whether everything held.
    pub(super) fn summary(&self, took: &str) {
        let verdict = match self.failed {
            0 => self.paint(GREEN, "✓ everything was as expected"),
            1 => self.paint(RED, "✗ one expectation did not hold"),
            n => self.paint(RED, format!("✗ {n} expectations did not hold")),
        };
        self.print(format!("\n{verdict}, {took} in all"));
    }

    fn print(&self, line: impl Display) {
        if interrupt::pending() {
            // The signal's handler is removing the cluster under us: whatever this thread found
            // out meanwhile is an artefact of that. The process is about to end.
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        }
        // A closed pipe must not keep the demo from cleaning up.
        let _ = writeln!(&self.out, "{line}");
    }

    fn paint(&self, style: &str, text: impl Display) -> String {
        if self.colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// Whole and eighth blocks for `count`, where `longest` fills the bar.
fn drawn(count: u64, longest: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = eighths(count, longest);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn columns(count: u64, longest: u64) -> usize {
    eighths(count, longest).div_ceil(8)
}

/// At least one eighth for anything that happened at all.
fn eighths(count: u64, longest: u64) -> usize {
    let exact = (count * (BAR as u64) * 8 / longest) as usize;
    exact.max(usize::from(count > 0))
}

/// A duration with a unit that fits: `85 µs`, `1.4 ms`, `2.3 s`.
pub(super) fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        ..1e4 => format!("{:.1} ms", micros / 1e3),
        ..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

/// `1 connection`, `2 connections`, with thousands apart.
pub(super) fn counted(count: usize, noun: &str) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_where_their_columns_do() {
        for count in 0..=1000 {
            let bar = drawn(count, 1000);
            assert_eq!(bar.chars().count(), columns(count, 1000), "{count}");
        }
        assert_eq!(columns(1000, 1000), BAR);
        assert_eq!(drawn(0, 1000), "");
        assert_eq!(drawn(1, 1_000_000), "▏");
    }

    #[test]
    fn times_and_counts_read_naturally() {
        assert_eq!(time(Duration::from_micros(85)), "85 µs");
        assert_eq!(time(Duration::from_micros(1_440)), "1.4 ms");
        assert_eq!(time(Duration::from_millis(61)), "61 ms");
        assert_eq!(time(Duration::from_millis(2_300)), "2.3 s");
        assert_eq!(counted(1, "connection"), "1 connection");
        assert_eq!(counted(12_345, "connection"), "12,345 connections");
    }
}

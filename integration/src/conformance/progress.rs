//! Tells a person how far a run is, on standard error.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use super::{
    Case, Outcome,
    report::Counts,
    suite::{CaseResult, Progress},
};

/// On a terminal, one line that changes, and one that stays for each failure; elsewhere a line for
/// each case that was run.
pub struct Console {
    terminal: bool,
    all: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    running: BTreeSet<&'static str>,
}

// === impl Console ===

impl Console {
    /// For a run of `all` cases.
    pub fn new(all: usize) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            all,
            state: Mutex::default(),
        }
    }

    fn show(&self, state: &State, stays: &str) {
        let mut text = String::new();
        if self.terminal {
            // Back to the start of the line, which is cleared.
            text.push_str("\r\x1b[K");
        }
        if !stays.is_empty() {
            text.push_str(stays);
            text.push('\n');
        }
        if self.terminal {
            text.push_str(&status(state, self.all));
        }
        // Whoever closed standard error does not want to know.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// `[12/110] 11 passed, 1 failed, 0 skipped: s8_…`
fn status(state: &State, all: usize) -> String {
    let Counts {
        passed,
        failed,
        skipped,
    } = state.counts;
    let done = passed + failed + skipped;
    if done == all {
        return String::new();
    }
    let running: Vec<&str> = state.running.iter().copied().collect();
    let line = format!("[{done}/{all}] {}: {}", state.counts, running.join(", "));
    // What does not fit would wrap and stay.
    line.chars().take(100).collect()
}

impl Progress for Console {
    fn starts(&self, case: &'static Case) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.insert(case.name);
        if self.terminal {
            self.show(&state, "");
        }
    }

    fn ended(&self, result: &CaseResult) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.remove(result.case.name);
        let (name, seconds) = (result.case.name, result.took.as_secs_f64());
        let stays = match &result.outcome {
            Outcome::Passed => {
                state.counts.passed += 1;
                if self.terminal {
                    String::new()
                } else {
                    format!("passed  {name} ({seconds:.1} s)")
                }
            }
            Outcome::Failed { message, .. } => {
                state.counts.failed += 1;
                format!("failed  {name} ({seconds:.1} s): {message}")
            }
            Outcome::Skipped(_) => {
                state.counts.skipped += 1;
                String::new()
            }
        };
        if self.terminal || !stays.is_empty() {
            self.show(&state, &stays);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_fits_on_a_line_and_ends_with_the_run() {
        let mut state = State::default();
        state.counts.passed = 3;
        state.running = ["s8_creates_a_functioning_node_port_service", "s5", "s6"].into();
        let line = status(&state, 110);
        assert!(line.starts_with("[3/110] 3 passed, 0 failed, 0 skipped: s5, s6, s8_"));
        assert!(line.chars().count() <= 100);
        assert_eq!(status(&state, 3), "");
    }
}

//! Runs a test runner, copies its output, and keeps what the end of a run tells of it: counts,
//! and what the tests that failed had to say.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result};

use crate::summary::Summary;

/// How much of what a failed test said is told again; the rest stands above.
const LINES: usize = 60;

/// What came of a runner.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) total: Summary,
    /// What each failed test said, under the runner's line with its name.
    pub(super) failures: Vec<String>,
}

enum Seen {
    Summary(Summary),
    Failure(String),
}

/// Runs it and adds up the summaries in its output. A runner that fails although no test did (a
/// test program that does not compile) is one failure.
pub(super) fn observe(
    runner: &mut Command,
    to_out: impl Write + Send,
    to_err: impl Write + Send,
) -> Result<Observed> {
    let mut child = runner
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the test runner")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (sender, seen) = channel();
    thread::scope(|scope| {
        let also = sender.clone();
        scope.spawn(move || out.map(|pipe| tee(pipe, to_out, sender)));
        scope.spawn(move || err.map(|pipe| tee(pipe, to_err, also)));
    });
    let mut observed = Observed::default();
    for seen in seen {
        match seen {
            Seen::Summary(summary) => observed.total += summary,
            Seen::Failure(text) => observed.failures.push(text),
        }
    }
    let status = child.wait().context("cannot wait for the test runner")?;
    if !status.success() {
        observed.total.failed = observed.total.failed.max(1);
    }
    Ok(observed)
}

/// Copies lines from `from` to `to` and reports what matters among them.
fn tee(from: impl Read, mut to: impl Write, report: Sender<Seen>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    let mut failure = Failure {
        text: String::new(),
        lines: 0,
        report,
    };
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // A reader that has gone away must not stop the tests.
        let _ = to.write_all(&line);
        failure.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    failure.ends();
}

/// The failure that the lines are about, if they are about one.
struct Failure {
    text: String,
    lines: usize,
    report: Sender<Seen>,
}

impl Failure {
    /// A failure's text begins with `---- NAME ----`, as libtest and the conformance suite have
    /// it, and goes on until the next, the list of names, or the summary.
    fn read(&mut self, line: &str) {
        let trimmed = line.trim_end();
        let summary = Summary::parse(line);
        let begins = trimmed.starts_with("---- ") && trimmed.ends_with(" ----");
        if begins || trimmed == "failures:" || summary.is_some() {
            self.ends();
        }
        if begins || self.lines > 0 {
            self.lines += 1;
            if self.lines <= LINES {
                self.text.push_str(line);
            }
        }
        if let Some(summary) = summary {
            // The receiver outlives the threads.
            let _ = self.report.send(Seen::Summary(summary));
        }
    }

    fn ends(&mut self) {
        let mut text = std::mem::take(&mut self.text).trim_end().to_owned();
        let left_out = self.lines.saturating_sub(LINES);
        self.lines = 0;
        if left_out > 0 {
            let _ = write!(text, "\n… and {left_out} lines more, above");
        }
        if !text.is_empty() {
            // The receiver outlives the threads.
            let _ = self.report.send(Seen::Failure(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::sink;

    use super::*;

    fn shell(script: &str) -> Observed {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        observe(&mut command, sink(), sink()).expect("sh runs")
    }

    #[test]
    fn summaries_of_both_streams_are_added() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored'; \
                      echo 'Summary [ 0.1s] 3 tests run: 3 passed, 0 skipped' >&2";
        let expected = Summary {
            passed: 5,
            failed: 0,
            skipped: 1,
        };
        assert_eq!(shell(script).total, expected);
    }

    #[test]
    fn runner_that_fails_without_a_failed_test_counts_as_failure() {
        assert_eq!(shell("exit 101").total.failed, 1);
    }

    #[test]
    fn what_failed_tests_of_libtest_say_is_kept() {
        let observed = shell(
            "printf 'test b ... FAILED\n\nfailures:\n\n---- a stdout ----\none\ntwo\n\n\
             ---- b ----\nthree\n\n\nfailures:\n    a\n    b\n\n\
             test result: FAILED. 0 passed; 2 failed; 0 ignored\n'; exit 101",
        );
        let expected = ["---- a stdout ----\none\ntwo", "---- b ----\nthree"];
        assert_eq!(observed.failures, expected);
        assert_eq!(observed.total.failed, 2);
    }

    #[test]
    fn what_failed_cases_of_the_suite_say_is_kept() {
        let observed = shell(
            "printf '\n---- S1 s1 ----\nlate\n\n---- S2 s2 ----\nwrong\n\n\
             7 passed, 2 failed, 0 skipped\n'; exit 1",
        );
        let expected = ["---- S1 s1 ----\nlate", "---- S2 s2 ----\nwrong"];
        assert_eq!(observed.failures, expected);
    }

    #[test]
    fn of_a_long_text_the_beginning_is_kept_and_a_killed_runner_has_no_summary() {
        let observed = shell("echo '---- a ----'; seq 1 100; kill -9 $$");
        let [text] = observed.failures.as_slice() else {
            panic!("{observed:?}");
        };
        assert!(text.starts_with("---- a ----\n1\n2\n"), "{text}");
        assert!(text.ends_with("\n59\n… and 41 lines more, above"), "{text}");
        assert_eq!(observed.total.failed, 1);
    }
}

//! Reading test runners' summaries: cargo test's, nextest's and the conformance suite's, mixed
//! in one stream.

use std::fmt;
use std::ops::AddAssign;

/// Counts of tests.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored, filtered out or skipped.
    pub(crate) skipped: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Summary {
    /// The counts in `line` if it is a runner's summary: `test result: ok. 3 passed; …` of
    /// libtest, `Summary [ 1.2s] 3 tests run: 3 passed, …` of nextest, `3 passed, 0 failed,
    /// 1 skipped` alone on a line of the conformance suite. Colours are ignored.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let plain = without_colour(line);
        let text = plain.trim();
        let counts = if let Some(rest) = text.strip_prefix("test result: ") {
            rest.split_once(". ")?.1
        } else if let Some(rest) = text.strip_prefix("Summary [") {
            rest.split_once("run:")?.1
        } else {
            only_counts(text).then_some(text)?
        };
        Some(Self {
            passed: count(counts, &["passed"]),
            failed: count(counts, &["failed", "timed out", "exec failed"]),
            skipped: count(counts, &["ignored", "filtered out", "skipped"]),
        })
    }
}

/// Whether `text` is `N passed, N failed, N skipped` and nothing else.
fn only_counts(text: &str) -> bool {
    let words = ["passed", "failed", "skipped"];
    let mut parts = text.split(", ");
    words.iter().all(|word| {
        let number = parts
            .next()
            .and_then(|part| part.strip_suffix(word)?.strip_suffix(' '));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    }) && parts.next().is_none()
}

/// Sum of the numbers that stand directly before one of `words`.
fn count(text: &str, words: &[&str]) -> u64 {
    text.split([',', ';', '(', ')'])
        .filter_map(|part| part.trim().split_once(' '))
        .filter(|(_, what)| words.contains(what))
        .filter_map(|(number, _)| number.parse::<u64>().ok())
        .sum()
}

/// `line` without terminal control sequences (`ESC [ … letter`).
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(passed: u64, failed: u64, skipped: u64) -> Summary {
        Summary {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn libtest_summary_is_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.02s";
        assert_eq!(Summary::parse(line), Some(summary(12, 1, 5)));
    }

    #[test]
    fn coloured_libtest_summary_is_read() {
        let line = "test result: \x1b[32mok\x1b(B\x1b[m. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Summary::parse(line), Some(summary(7, 0, 0)));
    }

    #[test]
    fn nextest_summary_is_read() {
        let line = "     Summary [  12.345s] 31 tests run: 28 passed (1 slow, 2 flaky), 1 failed, 2 timed out, 4 skipped";
        assert_eq!(Summary::parse(line), Some(summary(28, 3, 4)));
    }

    #[test]
    fn interrupted_nextest_summary_is_read() {
        let line = "     Summary [   1.345s] 5/31 tests run: 5 passed, 0 skipped";
        assert_eq!(Summary::parse(line), Some(summary(5, 0, 0)));
    }

    #[test]
    fn closing_line_of_the_conformance_suite_is_read() {
        let line = "104 passed, 1 failed, 7 skipped";
        assert_eq!(Summary::parse(line), Some(summary(104, 1, 7)));
        for other in [
            "group: 104 passed, 1 failed, 7 skipped",
            "104 passed, 1 failed",
            "x passed, 1 failed, 7 skipped",
            "104 passed, 1 failed, 7 skipped, 2 slow",
        ] {
            assert_eq!(Summary::parse(other), None, "{other}");
        }
    }

    #[test]
    fn other_lines_are_no_summary() {
        assert_eq!(Summary::parse("test result_is_kept ... ok"), None);
        assert_eq!(Summary::parse("running 3 tests"), None);
        assert_eq!(Summary::parse("Summary of backends: 3 passed"), None);
    }

    #[test]
    fn summaries_add_up() {
        let mut total = Summary::default();
        for line in [
            "test result: ok. 1 passed; 0 failed; 0 ignored",
            "test result: FAILED. 2 passed; 3 failed; 1 ignored",
        ] {
            total += Summary::parse(line).expect("a summary");
        }
        assert_eq!(total.to_string(), "3 passed, 3 failed, 1 skipped");
    }
}

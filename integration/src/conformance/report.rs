//! What a run found: every case with its result, every row of upstream's that no case covers, and
//! where the run took place.
//!
//! [`Report`] is the value; it is written as text ([`text`]), as JSON (its own serialisation) and
//! as JUnit XML ([`junit`]). [`list`] is what is said before a run.

pub mod junit;
pub mod list;
pub mod text;

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    Outcome,
    rows::{ROWS, row},
    suite::CaseResult,
    upstream::RowResult,
};

/// The section of cases that restate no row of upstream's.
pub const OWN_SECTION: &str = "What upstream never asks";

/// A run of the suite.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran: `netns`.
    pub site: String,
    /// `v4`, `v6` or `dual`.
    pub families: String,
    /// How objects reached the proxies.
    pub source: String,
    /// The proxy under test, by its command line or name.
    pub proxy: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// How many cases passed, failed and were skipped.
    pub counts: Counts,
    /// All cases.
    pub cases: Vec<CaseReport>,
    /// Upstream's rows without a case, each with the reason.
    pub not_covered: Vec<Uncovered>,
    /// What upstream's own tests did, if they were run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<RowResult>,
}

/// Numbers of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All promises kept.
    pub passed: usize,
    /// A promise broken.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: &'static str,
    /// The rows it restates.
    pub rows: &'static [&'static str],
    /// The rules it proves.
    pub rules: &'static [&'static str],
    /// The part of upstream's suite that it belongs to, or [`OWN_SECTION`].
    pub section: &'static str,
    /// Upstream's title, or our own sentence.
    pub title: &'static str,
    /// The release that made upstream's test a conformance test, if one did.
    pub conformance: &'static str,
    /// `passed`, `failed` or `skipped`.
    pub result: &'static str,
    /// Why it was skipped, or what failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the site and the proxies said about a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub explanation: String,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// A row without a case.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Uncovered {
    /// Its name.
    pub row: &'static str,
    /// The part of upstream's suite.
    pub section: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The release that made it a conformance test, if one did.
    pub conformance: &'static str,
    /// Why no case covers it.
    pub reason: &'static str,
}

pub(super) fn seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_millis() as f64 / 1000.0)
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

// === impl Report ===

impl Report {
    /// Adds results to a report that has none yet.
    #[must_use]
    pub fn with_results(mut self, results: Vec<CaseResult>) -> Self {
        for result in results {
            match result.outcome {
                Outcome::Passed => self.counts.passed += 1,
                Outcome::Failed { .. } => self.counts.failed += 1,
                Outcome::Skipped(_) => self.counts.skipped += 1,
            }
            self.cases.push(CaseReport::of(result));
        }
        self
    }

    /// Adds results of upstream's own tests, and counts them.
    #[must_use]
    pub fn with_upstream(mut self, results: Vec<RowResult>) -> Self {
        for result in &results {
            match result.result {
                "passed" => self.counts.passed += 1,
                "failed" => self.counts.failed += 1,
                _ => self.counts.skipped += 1,
            }
        }
        self.upstream.extend(results);
        self
    }

    /// The sections in upstream's order, ours last.
    pub fn sections(&self) -> Vec<&'static str> {
        let mut sections: Vec<&str> = Vec::new();
        for section in ROWS.iter().map(|row| row.describe).chain([OWN_SECTION]) {
            if !sections.contains(&section) {
                sections.push(section);
            }
        }
        sections
    }
}

/// All rows that no case covers.
pub fn not_covered() -> Vec<Uncovered> {
    let uncovered = ROWS.iter().filter(|row| !row.not_covered.is_empty());
    uncovered
        .map(|row| Uncovered {
            row: row.id,
            section: row.describe,
            title: row.title,
            conformance: row.conformance,
            reason: row.not_covered,
        })
        .collect()
}

// === impl CaseReport ===

impl CaseReport {
    fn of(result: CaseResult) -> Self {
        let case = result.case;
        let first = case.rows.first().and_then(|id| row(id));
        let (result_word, message, explanation) = match result.outcome {
            Outcome::Passed => ("passed", String::new(), String::new()),
            Outcome::Skipped(reason) => ("skipped", reason, String::new()),
            Outcome::Failed {
                message,
                explanation,
            } => ("failed", message, explanation),
        };
        Self {
            name: case.name,
            rows: case.rows,
            rules: case.rules,
            section: first.map_or(OWN_SECTION, |row| row.describe),
            title: first.map_or(case.own, |row| row.title),
            conformance: first.map_or("", |row| row.conformance),
            result: result_word,
            message,
            explanation,
            took: result.took,
        }
    }

    /// The row, or the first rule of a case of our own.
    pub fn id(&self) -> &'static str {
        let all = if self.rows.is_empty() {
            self.rules
        } else {
            self.rows
        };
        all.first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

//! Kubernetes' own tests by our rows: which of them to run, and what came of each.
//!
//! Input: the table of rows, and a JUnit file that Ginkgo wrote. Output: an expression for Ginkgo's
//! focus, and a result a row.
//!
//! Titles are compared without their tags (`[LinuxOnly]`, `[Conformance]`), which change place from
//! release to release.

use std::{sync::LazyLock, time::Duration};

use anyhow::{Context, Result};
use quick_junit::TestCaseStatus;
use regex::Regex;
use serde::Serialize;

use super::rows::{ROWS, Row};

/// An expression for Ginkgo that matches these rows and no longer titles.
pub fn focus(rows: &[Row]) -> String {
    let tags = r"( \[[^\]]*\])*";
    let escaped: Vec<String> = rows
        .iter()
        .map(|row| {
            let (container, title) = (untagged(container(row)), untagged(row.title));
            let (container, title) = (regex::escape(&container), regex::escape(&title));
            if container.is_empty() {
                format!("{title}{tags}$")
            } else {
                format!("{container}{tags} {title}{tags}$")
            }
        })
        .collect();
    format!(r"\[sig-network\]{tags} ({})", escaped.join("|"))
}

/// Upstream's container of a row. Its dual-stack container has a tag and no words.
fn container(row: &Row) -> &'static str {
    row.describe
        .strip_prefix("DualStack")
        .map_or(row.describe, str::trim_start)
}

/// A title without tags.
fn untagged(title: &str) -> String {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[[^\]]*\]").expect("a regular expression"));
    let plain = TAG.replace_all(title, " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What upstream's test of a row did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowResult {
    /// The row; none for a test that no row stands for.
    pub row: Option<&'static str>,
    /// The title, as the test printed it.
    pub title: String,
    /// `passed`, `failed` or `skipped`.
    pub result: &'static str,
    /// Why it failed or was skipped.
    pub message: String,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "super::report::seconds")]
    pub took: Duration,
}

/// Reads Ginkgo's JUnit file: the tests of our rows in the table's order, then others that were run.
/// Ginkgo lists tests out of focus as skipped without a reason; they are left out.
pub fn read(xml: &str) -> Result<Vec<RowResult>> {
    // Without zone, which the format demands.
    let stamp = Regex::new(r#" timestamp="[^"]*""#).context("an expression")?;
    let xml = stamp.replace_all(xml, "");
    let report = quick_junit::Report::deserialize_from_str(&xml).context("reading JUnit XML")?;
    let cases = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases);
    let mut results: Vec<(usize, RowResult)> = Vec::new();
    for case in cases {
        // Set-up and reporting of the whole suite are listed, too.
        if !case.name.as_str().starts_with("[It]") {
            continue;
        }
        let place = place(case.name.as_str());
        let (result, message) = status(&case.status);
        if result == "skipped" && (message.is_empty() || place.is_none()) {
            continue;
        }
        let row = place.map(|place| ROWS[place].id);
        let result = RowResult {
            row,
            title: case
                .name
                .as_str()
                .trim_start_matches("[It]")
                .trim()
                .to_owned(),
            result,
            message,
            took: case.time.unwrap_or_default(),
        };
        results.push((place.unwrap_or(usize::MAX), result));
    }
    results.sort_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// The place in the table of the row with this title.
fn place(title: &str) -> Option<usize> {
    let title = untagged(title);
    ROWS.iter()
        .position(|row| untagged(&format!("{} {}", container(row), row.title)) == title)
}

fn status(status: &TestCaseStatus) -> (&'static str, String) {
    let text = |message: &Option<quick_junit::XmlString>| {
        let message = message.as_ref().map(|message| message.as_str().to_owned());
        message.unwrap_or_default().trim().to_owned()
    };
    match status {
        TestCaseStatus::Success { .. } => ("passed", String::new()),
        TestCaseStatus::NonSuccess { message, .. } => ("failed", text(message)),
        TestCaseStatus::Skipped { message, .. } => {
            let said = text(message);
            // Ginkgo's word for "not in focus".
            let said = said.strip_prefix("skipped").unwrap_or(&said);
            ("skipped", said.trim_start_matches([' ', '-']).to_owned())
        }
    }
}

/// Rows that a run has no result for.
pub fn not_run(results: &[RowResult]) -> Vec<&'static Row> {
    let has = |row: &&Row| !results.iter().any(|result| result.row == Some(row.id));
    ROWS.iter().filter(has).collect()
}

//! A report as JUnit XML: one suite a section. Rows without a case are skipped test cases, so
//! that whoever counts sees them.

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{CaseReport, Report, Uncovered};
use crate::conformance::upstream::RowResult;

/// The XML document.
pub fn write(report: &Report) -> Result<String> {
    let mut document = quick_junit::Report::new("lb-conformance");
    document.set_time(report.took);
    for section in report.sections() {
        let mut suite = TestSuite::new(section);
        for (name, value) in [
            ("site", &report.site),
            ("families", &report.families),
            ("source", &report.source),
            ("proxy", &report.proxy),
        ] {
            suite.add_property((name, value.as_str()));
        }
        let cases = report.cases.iter().filter(|case| case.section == section);
        suite.add_test_cases(cases.map(test_case));
        let rows = report
            .not_covered
            .iter()
            .filter(|row| row.section == section);
        suite.add_test_cases(rows.map(uncovered));
        document.add_test_suite(suite);
    }
    if !report.upstream.is_empty() {
        let mut suite = TestSuite::new("Upstream's own tests");
        suite.add_test_cases(report.upstream.iter().map(upstream));
        document.add_test_suite(suite);
    }
    document.to_string().context("writing JUnit XML")
}

fn status_of(result: &str) -> TestCaseStatus {
    match result {
        "failed" => TestCaseStatus::non_success(NonSuccessKind::Failure),
        "skipped" => TestCaseStatus::skipped(),
        _ => TestCaseStatus::success(),
    }
}

fn upstream(ran: &RowResult) -> TestCase {
    let mut status = status_of(ran.result);
    if !ran.message.is_empty() {
        status.set_message(ran.message.as_str());
    }
    let name = format!("{} {}", ran.row.unwrap_or("-"), ran.title);
    let mut written = TestCase::new(name, status);
    written.set_classname("upstream").set_time(ran.took);
    written
}

fn test_case(case: &CaseReport) -> TestCase {
    let mut status = status_of(case.result);
    if !case.message.is_empty() {
        status.set_message(case.message.as_str());
    }
    if !case.explanation.is_empty() {
        status.set_description(case.explanation.as_str());
    }
    let mut written = TestCase::new(format!("{} {}", case.id(), case.title), status);
    written.set_classname(case.name).set_time(case.took);
    written
}

fn uncovered(row: &Uncovered) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    status.set_message(format!("not covered: {}", row.reason));
    let mut written = TestCase::new(format!("{} {}", row.row, row.title), status);
    written.set_classname("not-covered");
    written
}

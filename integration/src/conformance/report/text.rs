//! A report for people: a table by section, then what failed.

use std::fmt::{self, Write};

use super::{CaseReport, OWN_SECTION, Report};
use crate::conformance::{rows::ROWS, upstream::not_run};

/// The table. With `verbose`, also the names of cases.
pub fn write(report: &Report, verbose: bool) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let Report {
        site,
        families,
        source,
        proxy,
        ..
    } = report;
    let seconds = report.took.as_secs_f64();
    writeln!(
        text,
        "{proxy} on {site}, {families}, objects by {source}: {seconds:.0} s"
    )?;
    for section in report.sections() {
        writeln!(text, "\n{section}")?;
        for row in ROWS.iter().filter(|row| row.describe == section) {
            let of_row = |case: &&CaseReport| case.rows.first() == Some(&row.id);
            for case in report.cases.iter().filter(of_row) {
                write_case(&mut text, case, verbose)?;
            }
        }
        let own = |case: &&CaseReport| case.rows.is_empty() && section == OWN_SECTION;
        for case in report.cases.iter().filter(own) {
            write_case(&mut text, case, verbose)?;
        }
        for row in report
            .not_covered
            .iter()
            .filter(|row| row.section == section)
        {
            let (id, title, reason) = (row.row, row.title, row.reason);
            writeln!(
                text,
                "  –        {id:6} {title}\n           not covered: {reason}"
            )?;
        }
    }
    write_upstream(&mut text, report)?;
    write_failures(&mut text, report)?;
    Ok(text)
}

fn write_case(text: &mut String, case: &CaseReport, verbose: bool) -> fmt::Result {
    let (id, title, result) = (case.id(), case.title, case.result);
    let tag = match case.conformance {
        "" => "",
        _ => " [Conformance]",
    };
    write!(text, "  {result:8} {id:6} {title}{tag}")?;
    match result {
        "skipped" => writeln!(text, "\n           {}", case.message)?,
        _ => writeln!(text, " ({:.1} s)", case.took.as_secs_f64())?,
    }
    if verbose {
        writeln!(
            text,
            "           {} (rules {})",
            case.name,
            case.rules.join(" ")
        )?;
    }
    Ok(())
}

fn write_upstream(text: &mut String, report: &Report) -> fmt::Result {
    if report.upstream.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nUpstream's own tests")?;
    for ran in &report.upstream {
        let (result, row, title) = (ran.result, ran.row.unwrap_or("–"), &ran.title);
        let seconds = ran.took.as_secs_f64();
        writeln!(text, "  {result:8} {row:6} {title} ({seconds:.1} s)")?;
        if !ran.message.is_empty() {
            writeln!(text, "           {}", ran.message)?;
        }
    }
    let without: Vec<&str> = not_run(&report.upstream).iter().map(|row| row.id).collect();
    writeln!(text, "  not run: {}", without.join(" "))
}

fn write_failures(text: &mut String, report: &Report) -> fmt::Result {
    let failed = report.cases.iter().filter(|case| case.result == "failed");
    for case in failed {
        let (name, id, message) = (case.name, case.id(), &case.message);
        writeln!(text, "\n---- {id} {name} ----\n{message}")?;
        if !case.explanation.is_empty() {
            writeln!(text, "{}", case.explanation.trim_end())?;
        }
    }
    Ok(())
}

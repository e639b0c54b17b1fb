//! The section of a package in the report, with the reasons of what is missed.
//!
//! Reasons are written by hand in `integration/mutants-reasons.md`: paragraphs, each of lines
//! `` - `FILE: WHAT` in `LINE OF CODE` `` and then the reason, which all of them share. A line
//! of code that stands for several mutants of the same name stands for all of them.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{list::Mutant, records::Outcome};

/// A section and the names of the missed mutants that have no reason.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) text: String,
    pub(super) unexplained: Vec<String>,
    /// Mutants that have not been run.
    pub(super) open: usize,
}

/// How a mutant is called where line numbers would not last; `root` is what its file is below.
fn name(root: &str, mutant: &Mutant) -> String {
    format!(
        "`{root}{}: {}` in `{}`",
        mutant.file, mutant.what, mutant.code
    )
}

/// Reasons by the names of mutants.
pub(super) fn reasons(text: &str) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let (mut names, mut reason) = (Vec::new(), Vec::new());
        for line in paragraph.lines() {
            match line.strip_prefix("- ") {
                Some(name) if reason.is_empty() => names.push(name.to_owned()),
                _ => reason.push(line.trim()),
            }
        }
        let reason = reason.join(" ");
        reasons.extend(names.into_iter().map(|name| (name, reason.clone())));
    }
    reasons
}

/// The section of mutants of files below `root`, each with what became of it.
pub(super) fn section(
    root: &str,
    outcomes: &[(&Mutant, Option<Outcome>)],
    reasons: &BTreeMap<String, String>,
) -> Summary {
    let mut summary = Summary::default();
    let mut files: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    let mut total = [0; 6];
    let mut missed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (mutant, outcome) in outcomes {
        let row = files.entry(&mutant.file).or_default();
        let column = column(*outcome);
        for counts in [row, &mut total] {
            counts[0] += 1;
            counts[column] += 1;
        }
        if *outcome == Some(Outcome::Missed) {
            let name = name(root, mutant);
            let reason = reasons.get(&name).map_or("", String::as_str);
            if reason.is_empty() {
                summary.unexplained.push(name.clone());
            }
            let names = missed.entry(reason).or_default();
            names.push(name);
        }
    }
    summary.open = total[5];
    let out = &mut summary.text;
    let [all, caught, missed_count, timed_out, unviable, open] = total;
    let _ = write!(
        out,
        "{all} mutants: {caught} caught, {missed_count} missed, {timed_out} timed out, \
         {unviable} do not compile"
    );
    if open > 0 {
        let _ = write!(out, ", {open} not run");
    }
    out.push_str(".\n\n| file | mutants | caught | missed | timed out | do not compile |\n");
    out.push_str("|---|---|---|---|---|---|\n");
    for (file, [all, caught, missed, timed_out, unviable, _]) in files {
        let _ = writeln!(
            out,
            "| `{root}{file}` | {all} | {caught} | {missed} | {timed_out} | {unviable} |"
        );
    }
    for (reason, names) in missed {
        out.push('\n');
        for name in names {
            let _ = writeln!(out, "- {name}");
        }
        let text = if reason.is_empty() {
            "**No reason is known.**"
        } else {
            reason
        };
        let _ = writeln!(out, "\n{text}");
    }
    summary
}

fn column(outcome: Option<Outcome>) -> usize {
    match outcome {
        Some(Outcome::Caught) => 1,
        Some(Outcome::Missed) => 2,
        Some(Outcome::TimedOut) => 3,
        Some(Outcome::Unviable) => 4,
        Some(Outcome::Alone) | None => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(what: &str) -> Mutant {
        Mutant {
            file: "src/a.rs".into(),
            what: what.into(),
            line: 7,
            code: "a | b".into(),
            span: 0..0,
            replacement: String::new(),
            body: None,
            key: String::new(),
        }
    }

    #[test]
    fn a_reason_goes_with_every_mutant_above_it() {
        let text = "# Reasons\n\n- `x/src/a.rs: one` in `a | b`\n- `x/src/a.rs: two` in `a | b`\nThey\nare equal.\n";
        let reasons = reasons(text);
        let (one, two, three) = (mutant("one"), mutant("two"), mutant("three"));
        let missed = Some(Outcome::Missed);
        let outcomes = [
            (&one, missed),
            (&two, missed),
            (&three, missed),
            (&one, None),
        ];
        let summary = section("x/", &outcomes, &reasons);
        assert_eq!(summary.unexplained, ["`x/src/a.rs: three` in `a | b`"]);
        assert_eq!(summary.open, 1);
        assert!(summary.text.contains("`a | b`\n\nThey are equal.\n"));
        assert!(
            summary
                .text
                .contains("| `x/src/a.rs` | 4 | 0 | 3 | 0 | 0 |\n")
        );
    }
}

//! `RULES.md`, the tests and the conformance cases name each other.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lb_integration::conformance::{self, rows::ROWS};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The functions marked as tests in a crate's sources and test files.
fn tests_of(krate: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate);
    let mut files = Vec::new();
    for part in ["src", "tests"]
        .map(|part| root.join(part))
        .iter()
        .filter(|part| part.is_dir())
    {
        sources(part, &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let text = text.replace("#[tokio::test]", "#[test]");
        for after in text.split("#[test]").skip(1) {
            let declared = after.split("fn ").nth(1).unwrap_or_default();
            names.insert(declared.split('(').next().unwrap_or_default().to_owned());
        }
    }
    names
}

/// Names of functions in the last column of the tables.
fn named_in_rules() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RULES.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// The first column of the tables: rules and rows.
fn ids_in_rules() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RULES.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_that_the_rules_name_exists() {
    let existing: BTreeSet<String> = ["controller", "integration", "lb-ebpf", "maglev"]
        .into_iter()
        .flat_map(tests_of)
        .chain(conformance::all().map(|case| case.name.to_owned()))
        .collect();
    let named = named_in_rules();
    assert!(
        named.len() > 80,
        "the tables were not understood: {named:?}"
    );
    let missing: Vec<_> = named.difference(&existing).collect();
    assert!(
        missing.is_empty(),
        "RULES.md names tests that do not exist: {missing:?}"
    );
}

#[test]
fn every_conformance_case_is_named_in_the_rules() {
    let named = named_in_rules();
    for case in conformance::all() {
        assert!(
            named.contains(case.name),
            "{} is missing from RULES.md",
            case.name
        );
    }
}

#[test]
fn conformance_cases_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for case in conformance::all() {
        assert!(seen.insert(case.name), "two cases are named {}", case.name);
    }
    assert!(seen.len() >= 110, "{} cases", seen.len());
}

#[test]
fn conformance_cases_name_rows_and_rules_that_exist() {
    let ids = ids_in_rules();
    let exists = |id: &str| {
        // Upstream's tests that share a line of the table are told apart by a letter.
        ids.contains(id) || ids.contains(id.trim_end_matches(char::is_alphabetic))
    };
    for case in conformance::all() {
        assert!(!case.rules.is_empty(), "{} proves no rule", case.name);
        for &id in case.rows.iter().chain(case.rules) {
            assert!(exists(id), "{} of {} is not in RULES.md", id, case.name);
        }
        for &row in case.rows {
            let known = ROWS.iter().any(|known| known.id == row);
            assert!(known, "{row} of {} is no row of upstream's", case.name);
        }
        assert_ne!(
            case.rows.is_empty(),
            case.own.is_empty(),
            "{} is either upstream's or our own",
            case.name
        );
    }
}

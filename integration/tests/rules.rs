//! `RULES.md` and the tests name each other.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

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

#[test]
fn every_test_that_the_rules_name_exists() {
    let existing: BTreeSet<String> = ["controller", "integration", "lb-ebpf", "maglev"]
        .into_iter()
        .flat_map(tests_of)
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
fn every_conformance_test_is_named_in_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let text: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let named = named_in_rules();
    for after in text.split("#[test]\n").skip(1) {
        let name = after.trim_start_matches("fn ").split('(').next().unwrap();
        assert!(named.contains(name), "{name} is missing from RULES.md");
    }
}

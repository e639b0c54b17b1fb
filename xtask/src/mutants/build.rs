//! Builds a program with all mutants in it: those that do not compile are found by compiling.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    list::Mutant,
    switches::{Part, Switched, switched},
};
use crate::ui;

/// Each round finds what fails in one phase of the compiler.
const ROUNDS: u32 = 30;

/// What became of the mutants.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// The program that has the others.
    pub(super) program: PathBuf,
    /// Mutants that do not compile.
    pub(super) unviable: BTreeSet<u32>,
    /// Mutants that have to be built one by one: of what the compiler evaluates.
    pub(super) alone: BTreeSet<u32>,
}

/// Builds `mutants`, which are numbered from 1, into the package in `dir`. What is already
/// known of some is in `built`.
pub(super) fn build(
    dir: &Path,
    mut cargo: impl FnMut(&Path) -> Command,
    mutants: &[Mutant],
    mut built: Built,
) -> Result<Built> {
    let mut originals = BTreeMap::new();
    for (number, mutant) in numbered(mutants) {
        if mutant.body.is_none() {
            built.alone.insert(number);
        }
        if !originals.contains_key(mutant.file.as_str()) {
            let text = fs::read_to_string(dir.join(&mutant.file))?;
            originals.insert(mutant.file.as_str(), text);
        }
    }
    for round in 1..=ROUNDS {
        let mut files = BTreeMap::new();
        for (file, text) in &originals {
            let of_file: Vec<_> = numbered(mutants)
                .filter(|(number, mutant)| {
                    let out = built.unviable.contains(number) || built.alone.contains(number);
                    mutant.file == *file && !out
                })
                .collect();
            let switched = switched(text, &of_file);
            fs::write(dir.join(file), &switched.text)?;
            files.insert(*file, switched);
        }
        let known = built.unviable.len() + built.alone.len();
        let messages = compile(cargo(dir))?;
        let mut errors = Vec::new();
        for message in &messages {
            if message["executable"].is_string() {
                let program = message["executable"].as_str().context("a program")?;
                built.program = program.into();
                return Ok(built);
            }
            if message["message"]["level"] == "error" {
                blame(&message["message"], &files, &mut built);
                errors.push(message["message"]["rendered"].as_str().unwrap_or(""));
            }
        }
        let found = built.unviable.len() + built.alone.len() - known;
        ui::ok(format!("round {round}: {found} mutants set apart"));
        if found == 0 {
            bail!(
                "does not compile, whatever is left out:\n{}",
                errors.concat()
            );
        }
    }
    bail!("does not compile after {ROUNDS} rounds")
}

fn numbered(mutants: &[Mutant]) -> impl Iterator<Item = (u32, &Mutant)> {
    (1..).zip(mutants)
}

fn compile(mut cargo: Command) -> Result<Vec<Value>> {
    let out = cargo
        .args(["--no-run", "--message-format", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8(out.stdout).context("cargo's messages")?;
    let messages = text.lines().map(serde_json::from_str);
    messages
        .collect::<Result<_, _>>()
        .context("cargo's messages")
}

/// Sets apart what an error is about: a mutant whose text it points to, or else the functions
/// that it goes through.
fn blame(message: &Value, files: &BTreeMap<&str, Switched>, built: &mut Built) {
    let mut primary = Vec::new();
    let mut others = Vec::new();
    spans(message, &mut |span| {
        let list = if span["is_primary"] == true {
            &mut primary
        } else {
            &mut others
        };
        list.extend(parts(span, files));
    });
    let mut mutants = primary.iter().filter_map(|part| match part {
        Part::Mutant(number) => Some(*number),
        Part::Function(_) => None,
    });
    if let Some(number) = mutants.next() {
        built.unviable.insert(number);
        return;
    }
    for part in primary.into_iter().chain(others) {
        if let Part::Function(numbers) = part {
            built.alone.extend(numbers);
        }
    }
}

/// All spans of a message and of its notes, those that macros were called from included.
fn spans(message: &Value, found: &mut impl FnMut(&Value)) {
    for span in message["spans"].as_array().into_iter().flatten() {
        found(span);
        let mut expansion = &span["expansion"];
        while expansion.is_object() {
            found(&expansion["span"]);
            expansion = &expansion["span"]["expansion"];
        }
    }
    for child in message["children"].as_array().into_iter().flatten() {
        spans(child, found);
    }
}

/// The parts that a span lies in, the innermost first.
fn parts(span: &Value, files: &BTreeMap<&str, Switched>) -> Vec<Part> {
    let switched = span["file_name"].as_str().and_then(|file| files.get(file));
    let (Some(switched), Some(at)) = (switched, span["byte_start"].as_u64()) else {
        return Vec::new();
    };
    let parts = switched.parts.iter().rev();
    let around = parts.filter(|(range, _)| range.contains(&(at as usize)));
    around.map(|(_, part)| part.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files() -> BTreeMap<&'static str, Switched> {
        let parts = vec![
            (10..90, Part::Function(vec![1, 2])),
            (20..30, Part::Mutant(1)),
            (40..50, Part::Mutant(2)),
        ];
        let text = String::new();
        BTreeMap::from([("src/a.rs", Switched { text, parts })])
    }

    fn blamed(message: &Value) -> (Vec<u32>, Vec<u32>) {
        let mut built = Built::default();
        blame(message, &files(), &mut built);
        let all = |set: BTreeSet<u32>| set.into_iter().collect();
        (all(built.unviable), all(built.alone))
    }

    #[test]
    fn an_error_in_a_changed_body_is_that_mutants() {
        let span = json!({"file_name": "src/a.rs", "byte_start": 45, "is_primary": true});
        let message = json!({"spans": [span], "children": []});
        assert_eq!(blamed(&message), (vec![2], vec![]));
    }

    #[test]
    fn an_error_on_the_way_through_a_function_sets_it_apart() {
        let other = json!({"file_name": "src/b.rs", "byte_start": 3, "is_primary": true});
        let span = json!({"file_name": "src/a.rs", "byte_start": 12, "is_primary": false});
        let note = json!({"spans": [span], "children": []});
        let message = json!({"spans": [other], "children": [note]});
        assert_eq!(blamed(&message), (vec![], vec![1, 2]));
    }
}

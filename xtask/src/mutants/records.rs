//! What became of each mutant, kept from run to run: parts add up.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// A test fails.
    Caught,
    /// No test fails.
    Missed,
    /// The tests do not end.
    TimedOut,
    /// It does not compile.
    Unviable,
    /// Not run: it has to be built alone.
    Alone,
}

impl Outcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Caught, "caught"),
        (Self::Missed, "missed"),
        (Self::TimedOut, "timeout"),
        (Self::Unviable, "unviable"),
        (Self::Alone, "alone"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(outcome, _)| *outcome == self);
        found.map_or("", |(_, name)| *name)
    }
}

/// Outcomes by the mutants' keys, in a file.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    outcomes: BTreeMap<String, Outcome>,
}

impl Records {
    /// Those of `path`, if it is there.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = if path.is_file() {
            fs::read_to_string(path).with_context(|| path.display().to_string())?
        } else {
            String::new()
        };
        Ok(Self {
            path: path.to_owned(),
            outcomes: parse(&text),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<Outcome> {
        self.outcomes.get(key).copied()
    }

    pub(super) fn set(&mut self, key: &str, outcome: Outcome) {
        self.outcomes.insert(key.to_owned(), outcome);
    }

    pub(super) fn write(&self) -> Result<()> {
        let lines = self.outcomes.iter();
        let lines = lines.map(|(key, outcome)| format!("{} {key}\n", outcome.name()));
        fs::write(&self.path, lines.collect::<String>())
            .with_context(|| self.path.display().to_string())
    }
}

fn parse(text: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (name, key) = line.split_once(' ')?;
        let mut known = Outcome::ALL.iter();
        let (outcome, _) = known.find(|(_, known)| *known == name)?;
        Some((key.to_owned(), *outcome))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let text = "caught src/a.rs: replace x with y #1 0a\nmissed b\nnonsense c\n";
        let outcomes = parse(text);
        assert_eq!(outcomes.len(), 2);
        let first = &outcomes["src/a.rs: replace x with y #1 0a"];
        assert_eq!(*first, Outcome::Caught);
        assert_eq!(Outcome::Missed.name(), "missed");
    }
}

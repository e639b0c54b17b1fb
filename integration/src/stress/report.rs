//! What a scenario gives.

use std::fmt;

use serde::Serialize;

/// Most violations that are kept in words.
const SHOWN: usize = 20;

/// Figures, and what did not hold.
#[derive(Debug, Serialize)]
pub struct Report {
    title: String,
    figures: Vec<(String, String)>,
    broken: Vec<String>,
}

// === impl Report ===

impl Report {
    /// No figures yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            figures: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &str, value: impl fmt::Display) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    /// States what must hold, and in `found` what was the case.
    pub fn must(&mut self, holds: bool, found: impl FnOnce() -> String) {
        if !holds && self.broken.len() < SHOWN {
            self.broken.push(found());
        }
    }

    /// What did not hold.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = self.figures.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        for (name, value) in &self.figures {
            writeln!(f, "  {name:width$}  {value}")?;
        }
        for broken in &self.broken {
            writeln!(f, "  BROKEN: {broken}")?;
        }
        Ok(())
    }
}

//! Figures beside their budgets, as a table for people or JSON for programs.

use std::fs;

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

/// How figures are printed, to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    Text,
    /// One JSON document.
    Json,
}

/// A figure.
#[derive(Debug, Serialize)]
struct Figure {
    section: String,
    what: String,
    measured: f64,
    unit: &'static str,
    /// The most that is allowed, or with `at_least` the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    kernel: String,
    cpus: usize,
    load_at_start: String,
    figures: Vec<Figure>,
    #[serde(skip)]
    section: String,
}

impl Report {
    /// No figures yet.
    pub fn new() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load_at_start: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            figures: Vec::new(),
            section: String::new(),
        }
    }

    /// Figures that follow belong to `section`.
    pub fn section(&mut self, section: impl Into<String>) {
        self.section = section.into();
        eprintln!("{}", self.section);
    }

    /// A figure without a budget.
    pub fn note(&mut self, what: impl Into<String>, measured: f64, unit: &'static str) {
        self.push(what.into(), measured, unit, None, false);
    }

    /// A figure that should be no more than `budget`.
    pub fn most(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        unit: &'static str,
        budget: f64,
    ) {
        self.push(what.into(), measured, unit, Some(budget), false);
    }

    /// A figure that should be no less than `budget`.
    pub fn least(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        unit: &'static str,
        budget: f64,
    ) {
        self.push(what.into(), measured, unit, Some(budget), true);
    }

    fn push(
        &mut self,
        what: String,
        measured: f64,
        unit: &'static str,
        budget: Option<f64>,
        at_least: bool,
    ) {
        let met = budget.map(|budget| {
            if at_least {
                measured >= budget
            } else {
                measured <= budget
            }
        });
        let shown = number(measured);
        eprintln!("  {what}: {shown} {unit}{}", verdict(met));
        let section = self.section.clone();
        self.figures.push(Figure {
            section,
            what,
            measured,
            unit,
            budget,
            at_least,
            met,
        });
    }

    /// Prints everything.
    pub fn print(&self, format: Format) -> serde_json::Result<()> {
        match format {
            Format::Text => println!("{}", self.table()),
            Format::Json => println!("{}", serde_json::to_string_pretty(self)?),
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_header(["figure", "measured", "unit", "budget", ""]);
        let mut section = "";
        for figure in &self.figures {
            if figure.section != section {
                section = &figure.section;
                table.add_row([section]);
            }
            let sign = if figure.at_least { "≥" } else { "≤" };
            let budget = figure.budget.map(|b| format!("{sign} {}", number(b)));
            table.add_row([
                format!("  {}", figure.what),
                number(figure.measured),
                figure.unit.to_owned(),
                budget.unwrap_or_default(),
                verdict(figure.met).trim().to_owned(),
            ]);
        }
        for column in [1, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => " met",
        Some(false) => " MISSED",
        None => "",
    }
}

/// Three digits or more that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

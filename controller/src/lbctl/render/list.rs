//! `list`: one row a frontend.
//!
//! Where packets from outside obey another policy than clients of this node, the row is
//! theirs; the wide form has a row for each scope.

use comfy_table::Cell;
use serde::Serialize;

use super::{
    Column, LEFT, RIGHT, Style, Tone, affinity, cell, columns, count, frontend_address, or_dash,
    outcome, plain,
};
use crate::lbctl::{LbctlError, cli::OutputFormat, view::FrontendRow};

#[derive(Serialize)]
struct Document<'a> {
    frontends: &'a [FrontendRow<'a>],
}

const COLUMNS: [Column; 7] = [
    ("SERVICE", LEFT),
    ("PORT", LEFT),
    ("FRONTEND", LEFT),
    ("KIND", LEFT),
    ("BACKENDS", LEFT),
    ("POLICY", LEFT),
    ("AFFINITY", LEFT),
];

const WIDE: [Column; 9] = [
    ("SCOPE", LEFT),
    ("FORWARDING", LEFT),
    ("SOURCES", RIGHT),
    ("TABLE", RIGHT),
    ("ID", RIGHT),
    ("OPENED", RIGHT),
    ("ACTIVE", RIGHT),
    ("REFUSED", RIGHT),
    ("DROPPED", RIGHT),
];

pub(in crate::lbctl) fn render(
    rows: &[FrontendRow<'_>],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { frontends: rows }, format),
    };
    let mut titles = COLUMNS.to_vec();
    if wide {
        titles.extend(WIDE);
    }
    let shown = rows
        .iter()
        .filter(|row| wide || !row.frontend.external_differs);
    let cells = shown.map(|row| cells(row, wide)).collect();
    Ok(columns(&titles, cells, style))
}

fn cells(row: &FrontendRow<'_>, wide: bool) -> Vec<Cell> {
    let frontend = row.frontend;
    let mut cells = vec![
        plain(format!("{}/{}", row.namespace, row.name)),
        or_dash(Some(row.port_name)),
        plain(frontend_address(frontend)),
        plain(frontend.kind),
        backends(row),
        plain(frontend.policy),
        or_dash(affinity(frontend.affinity_seconds).as_deref()),
    ];
    if wide {
        cells.extend([
            plain(frontend.scope),
            or_dash(frontend.forwarding),
            sources(row),
            count(frontend.table_length.into()),
            plain(row.service_id),
            count(row.counters.opened),
            count(row.counters.active),
            count(row.counters.refused),
            count(row.counters.dropped),
        ]);
    }
    cells
}

/// `all`, or how many ranges are admitted.
fn sources(row: &FrontendRow<'_>) -> Cell {
    match (row.frontend.restricted, row.source_ranges.len()) {
        (false, _) => cell("all", Tone::Dim),
        (true, 0) => cell("none", Tone::Bad),
        (true, ranges) => plain(ranges),
    }
}

/// `2/3`, `0/0 refused`, `2/2 dropped`.
fn backends(row: &FrontendRow<'_>) -> Cell {
    let (ready, total) = (row.ready_backends, row.total_backends);
    match outcome(row.frontend.new_connections) {
        Some(outcome) => cell(format!("{ready}/{total} {outcome}"), Tone::Bad),
        None if ready == 0 => cell(format!("{ready}/{total}"), Tone::Bad),
        None if ready < total => cell(format!("{ready}/{total}"), Tone::Warn),
        None => cell(format!("{ready}/{total}"), Tone::Good),
    }
}

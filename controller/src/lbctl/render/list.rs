//! `list`: one row a frontend.

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

const WIDE: [Column; 7] = [
    ("SCOPE", LEFT),
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
    let cells = rows.iter().map(|row| cells(row, wide)).collect();
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

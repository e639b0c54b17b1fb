//! `conntrack list` and `nat list`: one row a flow.

use comfy_table::Cell;
use serde::Serialize;

use super::{Column, LEFT, RIGHT, Style, Tone, cell, columns, or_dash, plain};
use crate::lbctl::{
    LbctlError,
    cli::OutputFormat,
    flows::{Flow, FlowState},
    words::span,
};

#[derive(Serialize)]
struct Document<'a> {
    flows: &'a [Flow],
}

const WIDE: [Column; 8] = [
    ("PROVEN", LEFT),
    ("PATH", LEFT),
    ("EXPIRES IN", RIGHT),
    ("AGE", RIGHT),
    ("HALVES", RIGHT),
    ("SLOT", RIGHT),
    ("GENERATION", RIGHT),
    ("ID", RIGHT),
];

/// `conntrack list`.
pub(in crate::lbctl) fn conntrack(
    flows: &[Flow],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    const COLUMNS: [Column; 7] = [
        ("PROTOCOL", LEFT),
        ("CLIENT", LEFT),
        ("FRONTEND", LEFT),
        ("BACKEND", LEFT),
        ("SERVICE", LEFT),
        ("STATE", LEFT),
        ("IDLE", RIGHT),
    ];
    let cells = |flow: &Flow| {
        vec![
            plain(flow.protocol),
            plain(flow.client),
            plain(flow.frontend),
            plain(flow.backend),
            or_dash(flow.service.as_deref()),
            state(flow.state),
            plain(span(flow.idle_seconds)),
        ]
    };
    let seen_as = |flow: &Flow| or_dash(flow.seen_as.map(|seen| seen.to_string()).as_deref());
    table(flows, &COLUMNS, cells, ("SEEN AS", &seen_as), format, style)
}

/// `nat list`.
pub(in crate::lbctl) fn nat(
    flows: &[Flow],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    const COLUMNS: [Column; 7] = [
        ("PROTOCOL", LEFT),
        ("SEEN AS", LEFT),
        ("BACKEND", LEFT),
        ("CLIENT", LEFT),
        ("SERVICE", LEFT),
        ("STATE", LEFT),
        ("IDLE", RIGHT),
    ];
    let cells = |flow: &Flow| {
        vec![
            plain(flow.protocol),
            or_dash(flow.seen_as.map(|seen| seen.to_string()).as_deref()),
            plain(flow.backend),
            plain(flow.client),
            or_dash(flow.service.as_deref()),
            state(flow.state),
            plain(span(flow.idle_seconds)),
        ]
    };
    let frontend = |flow: &Flow| plain(flow.frontend);
    table(
        flows,
        &COLUMNS,
        cells,
        ("FRONTEND", &frontend),
        format,
        style,
    )
}

/// A table with the columns that both have when they are wide, and one of each's own.
fn table(
    flows: &[Flow],
    titles: &[Column],
    cells: impl Fn(&Flow) -> Vec<Cell>,
    own: (&'static str, &dyn Fn(&Flow) -> Cell),
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { flows }, format),
    };
    let mut titles = titles.to_vec();
    if wide {
        titles.push((own.0, LEFT));
        titles.extend(WIDE);
    }
    let row = |flow: &Flow| {
        let mut cells = cells(flow);
        if wide {
            cells.push(own.1(flow));
            cells.extend(details(flow));
        }
        cells
    };
    Ok(columns(&titles, flows.iter().map(row).collect(), style))
}

fn details(flow: &Flow) -> [Cell; 8] {
    [
        plain(if flow.proven { "yes" } else { "no" }),
        plain(flow.path),
        plain(span(flow.expires_in_seconds)),
        plain(span(flow.age_seconds)),
        plain(flow.halves),
        plain(flow.slot),
        plain(flow.generation),
        plain(flow.service_id),
    ]
}

fn state(state: FlowState) -> Cell {
    let tone = match state {
        FlowState::Established | FlowState::Replied => Tone::Good,
        FlowState::HalfOpen | FlowState::Unreplied => Tone::Warn,
        FlowState::CloseWait | FlowState::Closed => Tone::Dim,
    };
    cell(state.as_str(), tone)
}

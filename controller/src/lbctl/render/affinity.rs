//! `affinity list`: one row a client and service port.

use comfy_table::Cell;
use serde::Serialize;

use super::{Column, LEFT, RIGHT, Style, Tone, cell, columns, or_dash, plain};
use crate::lbctl::{LbctlError, affinity::Remembered, cli::OutputFormat, words::span};

#[derive(Serialize)]
struct Document<'a> {
    clients: &'a [Remembered],
}

const COLUMNS: [Column; 6] = [
    ("SERVICE", LEFT),
    ("PORT", LEFT),
    ("CLIENT", LEFT),
    ("BACKEND", LEFT),
    ("AGE", RIGHT),
    ("TIMEOUT", RIGHT),
];

const WIDE: [Column; 4] = [
    ("IN FORCE", LEFT),
    ("SLOT", RIGHT),
    ("GENERATION", RIGHT),
    ("ID", RIGHT),
];

pub(in crate::lbctl) fn render(
    clients: &[Remembered],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { clients }, format),
    };
    let mut titles = COLUMNS.to_vec();
    if wide {
        titles.extend(WIDE);
    }
    let rows = clients.iter().map(|client| cells(client, wide)).collect();
    Ok(columns(&titles, rows, style))
}

fn cells(row: &Remembered, wide: bool) -> Vec<Cell> {
    let port = row
        .port
        .zip(row.protocol)
        .map(|(port, protocol)| super::backends::port(&row.port_name, port, protocol));
    let timeout = row.timeout_seconds.map(|seconds| span(seconds.into()));
    let expired = row
        .timeout_seconds
        .is_none_or(|seconds| row.age_seconds > seconds.into());
    let age_tone = if expired { Tone::Dim } else { Tone::Plain };
    let mut cells = vec![
        or_dash(row.service.as_deref()),
        or_dash(port.as_deref()),
        plain(&row.client),
        match row.backend {
            Some(backend) => plain(backend),
            None => cell("(gone)", Tone::Bad),
        },
        cell(span(row.age_seconds), age_tone),
        or_dash(timeout.as_deref()),
    ];
    if wide {
        cells.extend([
            plain(if row.in_force { "yes" } else { "no" }),
            plain(row.slot),
            plain(row.generation),
            plain(row.service_id),
        ]);
    }
    cells
}

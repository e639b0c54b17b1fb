//! `backends`: one row a backend of a service port.

use comfy_table::Cell;
use serde::Serialize;

use super::{
    Column, LEFT, RIGHT, Style, Tone, backend_address, cell, columns, count, or_dash, plain,
    state_tone,
};
use crate::lbctl::{
    LbctlError,
    cli::OutputFormat,
    view::{Backend, BackendRow, ServicePort},
};

#[derive(Serialize)]
struct Document<'a> {
    backends: &'a [BackendRow<'a>],
}

/// Lengths of the two Maglev tables of a service port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    cluster: u32,
    local: u32,
}

impl Lengths {
    pub(super) fn of(port: &ServicePort) -> Self {
        Self {
            cluster: port.cluster_table_length,
            local: port.local_table_length,
        }
    }
}

/// Columns that describe a backend, also those of `list --by-service`.
pub(super) const BACKEND: [Column; 7] = [
    ("BACKEND", LEFT),
    ("STATE", LEFT),
    ("NODE", LEFT),
    ("ZONE", LEFT),
    ("TABLE", RIGHT),
    ("OPENED", RIGHT),
    ("ACTIVE", RIGHT),
];

/// Further columns of the wide format.
pub(super) const BACKEND_WIDE: [Column; 4] = [
    ("CLOSED", RIGHT),
    ("SLOT", RIGHT),
    ("GENERATION", RIGHT),
    ("ID", RIGHT),
];

pub(in crate::lbctl) fn render(
    rows: &[BackendRow<'_>],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { backends: rows }, format),
    };
    let mut titles = vec![("SERVICE", LEFT), ("PORT", LEFT)];
    titles.extend(BACKEND);
    if wide {
        titles.extend(BACKEND_WIDE);
    }
    let cells = rows.iter().map(|row| {
        let lengths = Lengths {
            cluster: row.cluster_table_length,
            local: row.local_table_length,
        };
        let mut cells = vec![
            plain(format!("{}/{}", row.namespace, row.name)),
            plain(port(row.port_name, row.service_port, row.protocol)),
        ];
        cells.extend(backend_cells(row.backend, lengths, row.service_id, wide));
        cells
    });
    Ok(columns(&titles, cells.collect(), style))
}

/// `http 80/TCP`; `80/TCP` of an unnamed port.
pub(super) fn port(name: &str, port: u16, protocol: &str) -> String {
    format!("{name} {port}/{protocol}").trim_start().to_owned()
}

/// The cells under [`BACKEND`], and [`BACKEND_WIDE`].
pub(super) fn backend_cells(
    backend: &Backend,
    lengths: Lengths,
    service_id: u32,
    wide: bool,
) -> Vec<Cell> {
    let mut cells = vec![
        plain(backend_address(backend)),
        cell(backend.state.as_str(), state_tone(backend.state)),
        or_dash(backend.node_local.then_some("local")),
        or_dash(backend.zone.as_deref()),
        table(backend, lengths),
        count(backend.opened),
        count(backend.active),
    ];
    if wide {
        cells.extend([
            count(backend.closed),
            plain(backend.slot),
            plain(backend.generation),
            plain(service_id),
        ]);
    }
    cells
}

/// `126 (50%)`; `-` if no entry leads there; both tables where a service has two.
fn table(backend: &Backend, lengths: Lengths) -> Cell {
    let share = |entries: u32, length: u32| {
        if entries == 0 {
            return "-".to_owned();
        }
        let percent = f64::from(entries) * 100.0 / f64::from(length.max(1));
        format!("{entries} ({percent:.0}%)")
    };
    let cluster = share(backend.cluster_table_entries, lengths.cluster);
    let local = share(backend.local_table_entries, lengths.local);
    let text = match (lengths.cluster, lengths.local) {
        (_, 0) => cluster,
        (0, _) => local,
        _ => format!("{cluster}, local {local}"),
    };
    let tone = if text == "-" { Tone::Dim } else { Tone::Plain };
    cell(text, tone)
}

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

    /// Whether there are two tables to tell apart.
    pub(super) fn both(self) -> bool {
        self.cluster != 0 && self.local != 0
    }
}

/// Which columns describe a backend, also in `list --by-service`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// The local table of a service that has two.
    pub(super) local: bool,
    /// Everything.
    pub(super) wide: bool,
}

impl Shown {
    pub(super) fn titles(self) -> Vec<Column> {
        let mut titles = vec![
            ("BACKEND", LEFT),
            ("STATE", LEFT),
            ("NODE", LEFT),
            ("ZONE", LEFT),
            ("TABLE", RIGHT),
        ];
        if self.local {
            titles.push(("LOCAL", RIGHT));
        }
        titles.extend([("OPENED", RIGHT), ("ACTIVE", RIGHT)]);
        if self.wide {
            titles.extend([
                ("CLOSED", RIGHT),
                ("SLOT", RIGHT),
                ("GENERATION", RIGHT),
                ("ID", RIGHT),
            ]);
        }
        titles
    }

    pub(super) fn cells(self, backend: &Backend, lengths: Lengths, service_id: u32) -> Vec<Cell> {
        let (cluster, local) = (backend.cluster_table_entries, backend.local_table_entries);
        let mut cells = vec![
            plain(backend_address(backend)),
            cell(backend.state.as_str(), state_tone(backend.state)),
            or_dash(backend.node_local.then_some("local")),
            or_dash(backend.zone.as_deref()),
            if lengths.cluster == 0 {
                entries(local, lengths.local)
            } else {
                entries(cluster, lengths.cluster)
            },
        ];
        if self.local {
            let share = percent(local, lengths.local).filter(|_| lengths.both());
            cells.push(or_dash(share.as_deref()));
        }
        cells.extend([count(backend.opened), count(backend.active)]);
        if self.wide {
            cells.extend([
                count(backend.closed),
                plain(backend.slot),
                plain(backend.generation),
                plain(service_id),
            ]);
        }
        cells
    }
}

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
    let lengths = |row: &BackendRow<'_>| Lengths {
        cluster: row.cluster_table_length,
        local: row.local_table_length,
    };
    let shown = Shown {
        local: rows.iter().any(|row| lengths(row).both()),
        wide,
    };
    let mut titles = vec![("SERVICE", LEFT), ("PORT", LEFT)];
    titles.extend(shown.titles());
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            plain(format!("{}/{}", row.namespace, row.name)),
            plain(port(row.port_name, row.service_port, row.protocol)),
        ];
        cells.extend(shown.cells(row.backend, lengths(row), row.service_id));
        cells
    });
    Ok(columns(&titles, cells.collect(), style))
}

/// `http 80/TCP`; `80/TCP` of an unnamed port.
pub(super) fn port(name: &str, port: u16, protocol: &str) -> String {
    format!("{name} {port}/{protocol}").trim_start().to_owned()
}

/// `126 (50%)`; `-` if no entry leads there.
fn entries(entries: u32, length: u32) -> Cell {
    match percent(entries, length) {
        Some(percent) => plain(format!("{entries} ({percent})")),
        None => cell("-", Tone::Dim),
    }
}

fn percent(entries: u32, length: u32) -> Option<String> {
    let share = f64::from(entries) * 100.0 / f64::from(length.max(1));
    (entries != 0).then(|| format!("{share:.0}%"))
}

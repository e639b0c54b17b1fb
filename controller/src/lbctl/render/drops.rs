//! `drops`: one row a reason and device.

use serde::Serialize;

use super::{Column, LEFT, RIGHT, Style, Tone, cell, columns, or_dash, plain};
use crate::lbctl::{LbctlError, cli::OutputFormat, drops::EventRow};

#[derive(Serialize)]
struct Document<'a> {
    events: &'a [EventRow],
}

const COLUMNS: [Column; 4] = [
    ("EVENT", LEFT),
    ("DEVICE", LEFT),
    ("BACKEND", LEFT),
    ("PACKETS", RIGHT),
];

pub(in crate::lbctl) fn render(
    rows: &[EventRow],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { events: rows }, format),
    };
    let mut titles = COLUMNS.to_vec();
    if wide {
        titles.extend([("DROPPED", LEFT), ("IFINDEX", RIGHT)]);
    }
    let cells = rows.iter().map(|row| {
        let tone = if row.dropped { Tone::Bad } else { Tone::Plain };
        let mut cells = vec![
            cell(row.event, tone),
            plain(&row.device),
            or_dash(row.backend.map(|backend| backend.to_string()).as_deref()),
            plain(row.count),
        ];
        if wide {
            cells.push(plain(if row.dropped { "yes" } else { "no" }));
            cells.push(plain(row.ifindex));
        }
        cells
    });
    Ok(columns(&titles, cells.collect(), style))
}

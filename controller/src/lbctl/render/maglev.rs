//! `maglev show`: a table of shares for each Maglev table.

use serde::Serialize;

use super::{Column, LEFT, RIGHT, Style, Tone, backends::port, cell, columns, plain};
use crate::lbctl::{
    LbctlError,
    cli::OutputFormat,
    maglev::{Share, Table},
};

/// Characters of a full bar.
const BAR: usize = 24;

#[derive(Serialize)]
struct Document<'a> {
    tables: &'a [Table],
}

const COLUMNS: [Column; 5] = [
    ("BACKEND", LEFT),
    ("ENTRIES", RIGHT),
    ("SHARE", RIGHT),
    ("DEVIATION", RIGHT),
    ("SPREAD", LEFT),
];

pub(in crate::lbctl) fn render(
    tables: &[Table],
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(&Document { tables }, format),
    };
    let texts: Vec<_> = tables
        .iter()
        .map(|table| text(table, wide, style))
        .collect();
    Ok(texts.join("\n"))
}

fn text(table: &Table, wide: bool, style: Style) -> String {
    let title = format!(
        "{} {} {}, {} set",
        table.service,
        port(&table.port_name, table.port, table.protocol),
        table.family,
        table.set
    );
    let facts = format!(
        "{}, {}, imbalance {:.1}%",
        counted(table.length, "entry", "entries"),
        counted(table.backends.len(), "backend", "backends"),
        table.imbalance_percent
    );
    let mut titles = COLUMNS.to_vec();
    if wide {
        titles.push(("SLOT", RIGHT));
    }
    let most = table.backends.iter().map(|share| share.entries).max();
    let rows = table.backends.iter().map(|share| {
        let mut cells = vec![
            match share.backend {
                Some(backend) => plain(backend),
                None => cell("(free slot)", Tone::Bad),
            },
            plain(share.entries),
            plain(format!("{:.1}%", share.percent)),
            plain(format!("{:+.1}%", share.deviation_percent)),
            plain(bar(share, most.unwrap_or(1))),
        ];
        if wide {
            cells.push(plain(share.slot));
        }
        cells
    });
    let rows = columns(&titles, rows.collect(), style);
    format!("{}: {facts}\n{rows}", style.paint(Tone::Title, &title))
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn bar(share: &Share, most: usize) -> String {
    "#".repeat((share.entries * BAR).div_ceil(most.max(1)))
}

//! Text for people; one file a verb.

pub(super) mod affinity;
pub(super) mod backends;
pub(super) mod by_service;
pub(super) mod drops;
pub(super) mod flows;
pub(super) mod list;
pub(super) mod maglev;
mod status;

use std::{fmt::Display, net::IpAddr};

use clap::builder::styling::{AnsiColor, Style as Ansi};
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets::NOTHING,
};
use serde::Serialize;

use super::{
    LbctlError,
    cli::OutputFormat,
    view::{Backend, Frontend, NewConnections, State},
};

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences.
    Plain,
    /// Colours, as on a terminal.
    Colour,
}

/// What a text says of the health of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Title,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        let ansi = match tone {
            _ if self == Self::Plain => return text.into(),
            Tone::Plain => return text.into(),
            Tone::Title => Ansi::new().bold(),
            Tone::Dim => Ansi::new().dimmed(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
        };
        format!("{ansi}{text}{ansi:#}")
    }
}

/// The text of `status`.
pub use status::text as status;

/// JSON or YAML, numbers as numbers, ending in a newline.
pub fn serialized(value: &impl Serialize, format: OutputFormat) -> Result<String, LbctlError> {
    if format == OutputFormat::Json {
        let mut text =
            serde_json::to_string_pretty(value).map_err(|e| LbctlError::Format(e.into()))?;
        text.push('\n');
        Ok(text)
    } else {
        serde_norway::to_string(value).map_err(|e| LbctlError::Format(e.into()))
    }
}

/// A column: its title and whether it holds numbers.
type Column = (&'static str, CellAlignment);

const LEFT: CellAlignment = CellAlignment::Left;
const RIGHT: CellAlignment = CellAlignment::Right;

/// The lines of a table, the titles first; never wrapped, without trailing blanks.
fn lines(columns: &[Column], rows: Vec<Vec<Cell>>, style: Style) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if style == Style::Colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let title = |(title, _): &Column| Cell::new(title).add_attribute(Attribute::Dim);
    table.set_header(columns.iter().map(title));
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, alignment)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2)).set_cell_alignment(*alignment);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The same as one text; nothing at all without rows.
fn columns(columns: &[Column], rows: Vec<Vec<Cell>>, style: Style) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = lines(columns, rows, style).join("\n");
    text.push('\n');
    text
}

fn cell(text: impl Display, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Title => cell.add_attribute(Attribute::Bold),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warn => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
    }
}

fn plain(text: impl Display) -> Cell {
    cell(text, Tone::Plain)
}

/// A number, pale when it is zero.
fn count(number: u64) -> Cell {
    cell(number, if number == 0 { Tone::Dim } else { Tone::Plain })
}

/// `10.96.0.10:80/TCP`, `[fd00::1]:80/TCP`; a NodePort is `*:30080/TCP` in IPv4 and
/// `[*]:30080/TCP` in IPv6.
fn frontend_address(frontend: &Frontend) -> String {
    let (port, protocol) = (frontend.port, frontend.protocol);
    match frontend.address {
        IpAddr::V4(addr) if addr.is_unspecified() => format!("*:{port}/{protocol}"),
        IpAddr::V6(addr) if addr.is_unspecified() => format!("[*]:{port}/{protocol}"),
        addr => format!("{}/{protocol}", std::net::SocketAddr::new(addr, port)),
    }
}

fn backend_address(backend: &Backend) -> String {
    std::net::SocketAddr::new(backend.address, backend.port).to_string()
}

const fn state_tone(state: State) -> Tone {
    match state {
        State::Ready => Tone::Good,
        State::ReadyTerminating | State::ServingTerminating | State::Terminating => Tone::Warn,
        State::ServingNotReady | State::NotReady => Tone::Bad,
    }
}

/// The words of a frontend that has no backend to choose.
const fn outcome(new_connections: NewConnections) -> Option<&'static str> {
    match new_connections {
        NewConnections::Balanced => None,
        NewConnections::Refused => Some("refused"),
        NewConnections::Dropped => Some("dropped"),
    }
}

fn affinity(seconds: Option<u32>) -> Option<String> {
    seconds.map(|seconds| super::words::span(seconds.into()))
}

fn or_dash(text: Option<&str>) -> Cell {
    match text {
        Some(text) if !text.is_empty() => plain(text),
        _ => cell("-", Tone::Dim),
    }
}

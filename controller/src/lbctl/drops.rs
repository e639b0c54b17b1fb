//! `drops`: what happened to packets, by reason and device.

use std::{collections::HashMap, net::SocketAddr};

use lb_ebpf::abi::{EventKey, PacketEvent};
use nix::net::if_::if_indextoname;
use serde::Serialize;

use super::{
    Answer, LbctlError,
    cli::OutputFormat,
    render::{self, Style},
    snapshot::Snapshot,
    words,
};

/// How often something happened to packets; field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    /// What.
    pub event: &'static str,
    /// Whether the packets did not reach their destination.
    pub dropped: bool,
    /// Name of the device where they were seen.
    pub device: String,
    /// Its index.
    pub ifindex: u32,
    /// The backend that it is about, where it is about one.
    pub backend: Option<SocketAddr>,
    /// How often.
    pub count: u64,
}

/// The answer of `drops`; `all` shows also what is no drop.
pub fn drops(
    snapshot: &Snapshot,
    all: bool,
    output: Option<OutputFormat>,
    style: Style,
) -> Result<Answer, LbctlError> {
    let names: HashMap<u32, String> = snapshot
        .devices
        .iter()
        .map(|(ifindex, device)| (*ifindex, words::padded(&device.name)))
        .collect();
    let mut rows: Vec<_> = snapshot
        .events
        .iter()
        .filter_map(|(key, count)| row(snapshot, &names, key, *count))
        .filter(|row| (all || row.dropped) && row.count > 0)
        .collect();
    rows.sort_by(|a, b| {
        let order = |row: &EventRow| (!row.dropped, u64::MAX - row.count, row.event, row.backend);
        (order(a), &a.device).cmp(&(order(b), &b.device))
    });
    let nothing = if all {
        "nothing was counted"
    } else {
        "no packet was dropped"
    };
    Ok(Answer {
        text: render::drops::render(&rows, output.unwrap_or(OutputFormat::Table), style)?,
        notes: super::note_if(rows.is_empty(), true, nothing),
    })
}

/// `None` for an event of another version.
fn row(
    snapshot: &Snapshot,
    names: &HashMap<u32, String>,
    key: &EventKey,
    count: u64,
) -> Option<EventRow> {
    let event = PacketEvent::from_number(key.event)?;
    let known = names.get(&key.ifindex).filter(|name| !name.is_empty());
    let device = known.cloned().or_else(|| {
        let name = if_indextoname(key.ifindex).ok()?;
        let name = words::padded(name.to_bytes());
        Some(name).filter(|name| !name.is_empty())
    });
    let backend = match event {
        PacketEvent::PortsExhausted => snapshot.backend(key.detail),
        _ => None,
    };
    Some(EventRow {
        event: event.name(),
        dropped: event.is_drop(),
        device: device.unwrap_or_else(|| format!("if{}", key.ifindex)),
        ifindex: key.ifindex,
        backend: backend.map(|b| SocketAddr::new(b.addr.to_ip(), b.port.get())),
        count,
    })
}

//! `maglev`: how evenly a service port's tables spread connections.

use std::{collections::BTreeMap, net::SocketAddr};

use clap::Subcommand;
use lb_ebpf::abi::{ServiceInfo, TableRef};
use serde::Serialize;

use super::{
    Answer, LbctlError,
    cli::OutputFormat,
    peer::ServicePortName,
    render::{self, Style},
    snapshot::Snapshot,
    words,
};

/// What to do with Maglev tables.
#[derive(Debug, Subcommand)]
pub enum MaglevVerb {
    /// Show the tables of a Service: their length, and each backend's share.
    ///
    /// IMBALANCE is the largest deviation of a backend's share from a fair one, in percent
    /// of the fair one. SPREAD draws shares; a full bar is the largest of the table.
    Show {
        /// The Service, and the port (by number or name) if only one is wanted.
        #[arg(value_name = "NAMESPACE/NAME[:PORT]")]
        service: ServicePortName,
    },
}

/// A Maglev table; field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// Name of the service port, perhaps empty.
    pub port_name: String,
    /// Number of the service port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// `cluster` or `local`: which set of backends.
    pub set: &'static str,
    /// Number of entries.
    pub length: usize,
    /// Largest deviation of a share from the fair one, percent of the fair one.
    pub imbalance_percent: f64,
    /// Sorted by address.
    pub backends: Vec<Share>,
}

/// A backend's part of a table; field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The backend; null if its slot is free.
    pub backend: Option<SocketAddr>,
    /// Its slot; only meaningful on this node.
    pub slot: u32,
    /// Entries that lead to it.
    pub entries: usize,
    /// The same in percent of the table.
    pub percent: f64,
    /// Deviation from the fair share, in percent of that.
    pub deviation_percent: f64,
}

/// Carries out a verb.
pub(super) fn report(
    verb: &MaglevVerb,
    output: Option<OutputFormat>,
    snapshot: &Snapshot,
    style: Style,
) -> Result<Answer, LbctlError> {
    let MaglevVerb::Show { service } = verb;
    let ports = snapshot
        .infos
        .iter()
        .filter(|(_, info)| service.is_of(info));
    let mut ports: Vec<_> = ports.collect();
    ports.sort_by_key(|(id, info)| (info.port.get(), info.protocol, info.family, *id));
    let tables: Vec<_> = ports
        .iter()
        .flat_map(|(_, info)| {
            [
                (words::set(false), info.cluster_table),
                (words::set(true), info.local_table),
            ]
            .into_iter()
            .filter(|(_, table)| !table.is_empty())
            .map(|(set, table)| table_of(snapshot, info, set, table))
        })
        .collect();
    let note = if ports.is_empty() {
        Some("no such Service, or no such port of it, is programmed")
    } else {
        tables
            .is_empty()
            .then_some("the Service has no table: no backend takes new connections")
    };
    Ok(Answer {
        text: render::maglev::render(&tables, output.unwrap_or(OutputFormat::Table), style)?,
        notes: note.map(str::to_owned).into_iter().collect(),
    })
}

fn table_of(snapshot: &Snapshot, info: &ServiceInfo, set: &'static str, table: TableRef) -> Table {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for slot in snapshot.entries(table) {
        *counts.entry(slot).or_default() += 1;
    }
    let length: usize = counts.values().sum();
    let fair = length as f64 / counts.len().max(1) as f64;
    let share = |(slot, entries): (u32, usize)| Share {
        backend: snapshot
            .backend(slot)
            .map(|backend| SocketAddr::new(backend.addr.to_ip(), backend.port.get())),
        slot,
        entries,
        percent: tenths(entries as f64 * 100.0 / length.max(1) as f64),
        deviation_percent: tenths((entries as f64 / fair - 1.0) * 100.0),
    };
    let mut backends: Vec<_> = counts.into_iter().map(share).collect();
    backends.sort_by_key(|share| (share.backend, share.slot));
    let deviations = backends.iter().map(|share| share.deviation_percent.abs());
    Table {
        service: format!(
            "{}/{}",
            words::name(&info.namespace),
            words::name(&info.name)
        ),
        port_name: words::name(&info.port_name),
        port: info.port.get(),
        protocol: words::protocol(info.protocol),
        family: words::family(info.family),
        set,
        length,
        imbalance_percent: deviations.fold(0.0, f64::max),
        backends,
    }
}

/// Rounded to one decimal.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

//! `affinity`: which backend is remembered for which client.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use lb_ebpf::abi::{AffinityEntry, AffinityKey, ClientKind};
use serde::Serialize;

use super::{
    Answer, LbctlError,
    cli::OutputFormat,
    conntrack::{check_meant, flushed},
    peer::{Peer, ServiceName},
    render::{self, Style},
    snapshot::Snapshot,
    words,
};
use crate::{datapath, maps::Maps};

/// What to do with remembered clients.
#[derive(Debug, Subcommand)]
pub enum AffinityVerb {
    /// List remembered clients, one row for each client and service port.
    ///
    /// A client is an address, or for processes of this node `netns:COOKIE`: a pod is one
    /// client, and all processes of the host are one. AGE is the time since its last new
    /// connection. A backend that is gone is shown as such: the next connection chooses anew.
    List {
        /// What to keep.
        #[command(flatten)]
        filter: AffinityFilter,
    },
    /// Forget clients, without asking: their next connection may go to another backend.
    /// Prints how many were forgotten.
    Flush {
        /// What to forget.
        #[command(flatten)]
        filter: AffinityFilter,
        /// Forget everything; needed where no filter is given.
        #[arg(long)]
        all: bool,
    },
}

/// Which clients to keep. Kinds of filters must all match; values of one kind are
/// alternatives.
#[derive(Clone, Debug, Default, Args)]
pub struct AffinityFilter {
    /// Keep clients of this Service.
    #[arg(long = "service", value_name = "NAMESPACE/NAME")]
    pub services: Vec<ServiceName>,
    /// Keep this client: an address, or `netns:COOKIE`.
    #[arg(long = "client", value_name = "CLIENT")]
    pub clients: Vec<String>,
    /// Keep clients of this backend.
    #[arg(long = "backend", value_name = "IP[:PORT]")]
    pub backends: Vec<Peer>,
}

impl AffinityFilter {
    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.clients.is_empty() && self.backends.is_empty()
    }
}

/// A remembered client; field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Remembered {
    /// `NAMESPACE/NAME`; null if the service is gone.
    pub service: Option<String>,
    /// Name of the service port, perhaps empty.
    pub port_name: String,
    /// Number of the service port.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<&'static str>,
    /// An address, or `netns:COOKIE`.
    pub client: String,
    /// The backend; null if it is gone.
    pub backend: Option<SocketAddr>,
    /// Seconds since the client's last new connection.
    pub age_seconds: u64,
    /// Session-affinity timeout of the service; null if it has none any more.
    pub timeout_seconds: Option<u32>,
    /// Whether a new connection would go to the backend.
    pub in_force: bool,
    /// Backend slot; only meaningful on this node.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
    /// Index of the service in the maps; only meaningful on this node.
    pub service_id: u32,
    /// For deleting it.
    #[serde(skip)]
    key: AffinityKey,
}

pub(super) fn answer(
    verb: &AffinityVerb,
    output: Option<OutputFormat>,
    snapshot: &Snapshot,
    maps: &Maps,
    style: Style,
) -> Result<Answer, LbctlError> {
    let records = maps.affinity.dump()?;
    let now_ns = datapath::now_monotonic_ns();
    match verb {
        AffinityVerb::List { filter } => {
            let clients = remembered(snapshot, &records, filter, now_ns);
            list(&clients, filter, output, style)
        }
        AffinityVerb::Flush { filter, all } => {
            check_meant(filter.is_empty(), *all)?;
            let mut deleted = 0;
            for client in remembered(snapshot, &records, filter, now_ns) {
                deleted += usize::from(maps.affinity.take(&client.key)?.is_some());
            }
            flushed(deleted, "client", output)
        }
    }
}

/// The answer of `list`.
pub fn list(
    clients: &[Remembered],
    filter: &AffinityFilter,
    output: Option<OutputFormat>,
    style: Style,
) -> Result<Answer, LbctlError> {
    let format = output.unwrap_or(OutputFormat::Table);
    Ok(Answer {
        text: render::affinity::render(clients, format, style)?,
        notes: super::note_if(
            clients.is_empty(),
            filter.is_empty(),
            "no client is remembered",
        ),
    })
}

/// The clients that `filter` keeps, sorted by service and client.
pub fn remembered(
    snapshot: &Snapshot,
    records: &[(AffinityKey, AffinityEntry)],
    filter: &AffinityFilter,
    now_ns: u64,
) -> Vec<Remembered> {
    let rows = records.iter().filter_map(|(key, entry)| {
        let info = snapshot.info(key.service_id);
        let row = row(snapshot, key, entry, now_ns);
        let service = |name: &ServiceName| info.is_some_and(|info| name.is_of(info));
        let backend = |peer: &Peer| row.backend.is_some_and(|backend| peer.is(backend));
        let client = |text: &String| is_client(text, &row.client);
        let kept = (filter.services.is_empty() || filter.services.iter().any(service))
            && (filter.clients.is_empty() || filter.clients.iter().any(client))
            && (filter.backends.is_empty() || filter.backends.iter().any(backend));
        kept.then_some(row)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| {
        let order = |row: &Remembered| (row.service.clone(), row.port, row.protocol);
        (order(a), &a.client, a.service_id).cmp(&(order(b), &b.client, b.service_id))
    });
    rows
}

fn row(snapshot: &Snapshot, key: &AffinityKey, entry: &AffinityEntry, now_ns: u64) -> Remembered {
    let info = snapshot.info(key.service_id);
    let backend = snapshot
        .backend(entry.slot)
        .filter(|backend| backend.generation == entry.generation);
    let age_ns = now_ns.saturating_sub(entry.last_used_ns);
    let timeout = info
        .map(|info| info.affinity_secs)
        .filter(|secs| *secs != 0);
    let is_fresh = timeout.is_some_and(|secs| age_ns <= u64::from(secs) * 1_000_000_000);
    Remembered {
        service: snapshot.service_name(key.service_id),
        port_name: info.map_or_else(String::new, |info| words::name(&info.port_name)),
        port: info.map(|info| info.port.get()),
        protocol: info.map(|info| words::protocol(info.protocol)),
        client: client(key),
        backend: backend.map(|b| SocketAddr::new(b.addr.to_ip(), b.port.get())),
        age_seconds: age_ns / 1_000_000_000,
        timeout_seconds: timeout,
        in_force: is_fresh && backend.is_some(),
        slot: entry.slot,
        generation: entry.generation,
        service_id: key.service_id,
        key: *key,
    }
}

fn client(key: &AffinityKey) -> String {
    if key.kind == ClientKind::Netns as u32 {
        let [low, high, ..] = key.client.words();
        format!("netns:{}", u64::from(high) << 32 | u64::from(low))
    } else {
        key.client.to_ip().to_string()
    }
}

/// Whether `text` is a notation of `client`.
fn is_client(text: &str, client: &str) -> bool {
    text == client || super::filter::address(text).is_ok_and(|ip| ip.to_string() == client)
}

//! `conntrack`: flows, shown and forgotten.

use clap::Subcommand;
use serde::Serialize;

use super::{
    Answer, LbctlError, NO_MATCH,
    cli::OutputFormat,
    flows::{Flow, FlowFilter, gather},
    render::{self, Style},
    snapshot::Snapshot,
};
use crate::{
    conntrack::{Backends, Programmed},
    maps::Maps,
};

/// What to do with flows.
#[derive(Debug, Subcommand)]
pub enum ConntrackVerb {
    /// List flows, one row each.
    ///
    /// States are half-open, established, close-wait and closed of TCP and SCTP,
    /// unreplied and replied of UDP. IDLE is the time since the last packet in either
    /// direction. SEEN AS is what the backend sees in place of the client.
    List {
        /// What to keep.
        #[command(flatten)]
        filter: FlowFilter,
    },
    /// Forget flows, both directions of each, without asking.
    ///
    /// The next packet of a forgotten flow is treated as if it were the first: TCP
    /// connections break, UDP flows get a backend again. Prints how many were forgotten.
    Flush {
        /// What to forget.
        #[command(flatten)]
        filter: FlowFilter,
        /// Forget everything; needed where no filter is given.
        #[arg(long)]
        all: bool,
    },
}

/// What `flush` did; field names are stable.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Flushed {
    /// Flows, or clients, that were forgotten.
    pub deleted: usize,
}

/// Carries out a verb; `maps` must be open for writing for `flush`.
pub(super) fn answer(
    verb: &ConntrackVerb,
    output: Option<OutputFormat>,
    snapshot: &Snapshot,
    maps: &Maps,
    style: Style,
) -> Result<Answer, LbctlError> {
    match verb {
        ConntrackVerb::List { filter } => {
            let flows = gather(snapshot, maps, filter)?;
            list(&flows, filter, output, style)
        }
        ConntrackVerb::Flush { filter, all } => {
            check_meant(filter.is_empty(), *all)?;
            let flows = gather(snapshot, maps, filter)?;
            let deleted = flush(&flows, maps)?;
            flushed(deleted, "flow", output)
        }
    }
}

/// The answer of `list`.
pub fn list(
    flows: &[Flow],
    filter: &FlowFilter,
    output: Option<OutputFormat>,
    style: Style,
) -> Result<Answer, LbctlError> {
    let format = output.unwrap_or(OutputFormat::Table);
    let text = render::flows::conntrack(flows, format, style)?;
    Ok(Answer {
        text,
        notes: super::note_if(flows.is_empty(), filter.is_empty(), "no flow is tracked"),
    })
}

/// Deletes both halves of `flows`, wherever they are now; how many were still there.
fn flush(flows: &[Flow], maps: &Maps) -> Result<usize, LbctlError> {
    let backends = Programmed::new(maps);
    let mut deleted = 0;
    for flow in flows {
        let (key, entry) = flow.record;
        let mut found = false;
        for table in [&maps.half_open, &maps.conntrack] {
            for key in [key, entry.mirror_key(&key)] {
                found |= table.take(&key)?.is_some();
            }
        }
        if found {
            backends.closed(&entry);
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Nothing is forgotten by mistake.
pub(super) fn check_meant(everything: bool, all: bool) -> Result<(), LbctlError> {
    match (everything, all) {
        (true, false) => Err(LbctlError::Usage("flush needs a filter, or --all")),
        (false, true) => Err(LbctlError::Usage("--all excludes filters")),
        _ => Ok(()),
    }
}

/// The answer of `flush`.
pub(super) fn flushed(
    deleted: usize,
    what: &str,
    output: Option<OutputFormat>,
) -> Result<Answer, LbctlError> {
    let text = match output.unwrap_or(OutputFormat::Table) {
        OutputFormat::Table | OutputFormat::Wide => {
            let plural = if deleted == 1 { "" } else { "s" };
            format!("{deleted} {what}{plural} forgotten\n")
        }
        format => render::serialized(&Flushed { deleted }, format)?,
    };
    let notes = if deleted == 0 {
        vec![NO_MATCH.to_owned()]
    } else {
        Vec::new()
    };
    Ok(Answer { text, notes })
}

//! `nat`: flows whose backend sees another address or port than the client's.

use clap::Subcommand;
use lb_ebpf::abi::ConntrackFlags;

use super::{
    Answer, LbctlError,
    cli::OutputFormat,
    flows::{Flow, FlowFilter, gather},
    render::{self, Style},
    snapshot::Snapshot,
};
use crate::maps::Maps;

/// What to do with translated sources.
#[derive(Debug, Subcommand)]
pub enum NatVerb {
    /// List them: which address and port of this node stands for which client, towards
    /// which backend.
    ///
    /// A port is taken for one backend address and port only; flows to others may use it
    /// at the same time.
    List {
        /// What to keep.
        #[command(flatten)]
        filter: FlowFilter,
    },
}

pub(super) fn answer(
    verb: &NatVerb,
    output: Option<OutputFormat>,
    snapshot: &Snapshot,
    maps: &Maps,
    style: Style,
) -> Result<Answer, LbctlError> {
    let NatVerb::List { filter } = verb;
    list(gather(snapshot, maps, filter)?, filter, output, style)
}

/// The answer of `list`.
pub fn list(
    mut flows: Vec<Flow>,
    filter: &FlowFilter,
    output: Option<OutputFormat>,
    style: Style,
) -> Result<Answer, LbctlError> {
    const CHOSEN: u32 = ConntrackFlags::SNAT | ConntrackFlags::PORT_CHOSEN;
    flows.retain(|flow| flow.record.1.flags & CHOSEN != 0);
    flows.sort_by_key(|flow| (flow.protocol, flow.seen_as, flow.backend, flow.client));
    let format = output.unwrap_or(OutputFormat::Table);
    let text = render::flows::nat(&flows, format, style)?;
    Ok(Answer {
        text,
        notes: super::note_if(
            flows.is_empty(),
            filter.is_empty(),
            "no flow has a translated source",
        ),
    })
}

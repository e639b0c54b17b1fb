//! `lbctl`: what is programmed on this node, read from the pinned maps alone.
//!
//! No daemon is asked: [`snapshot`] copies the maps, [`view`], [`canonical`] and [`raw`]
//! describe the copy, [`status`] adds what the kernel says of the programs, [`conntrack`],
//! [`nat`], [`affinity`] and [`drops`] what programs write, and [`render`] makes text of
//! it. Nothing but a `flush` writes a map. Reading tolerates a controller and programs
//! that write at the same time, and any bytes in the maps.
#![forbid(unsafe_code)]

pub mod affinity;
mod canonical;
pub mod cli;
pub mod conntrack;
mod devices;
mod digest;
pub mod drops;
mod facts;
mod filter;
pub mod flows;
pub mod maglev;
pub mod nat;
pub mod peer;
mod raw;
pub mod render;
pub mod snapshot;
mod status;
mod view;
mod words;

use std::io;

pub use self::{
    canonical::{Canonical, canonical},
    devices::DeviceRow,
    facts::{DeviceFacts, Facts, LinkState, ProgramFact},
    filter::Filter,
    raw::{Raw, raw},
    status::{NodeStatus, describe},
    view::{BackendRow, FrontendRow, Orphans, Services, services},
};
use self::{
    cli::{Cli, Command, OutputFormat},
    conntrack::ConntrackVerb,
    render::Style,
    snapshot::Snapshot,
};
use crate::{
    datapath,
    exit::Exit,
    maps::{Access, MapsError},
};

/// Why a command of `lbctl` fails. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LbctlError {
    /// No ready maps.
    #[error("nothing is programmed on this node: {0}")]
    NothingProgrammed(String),
    /// The maps, or the directory, may not be opened.
    #[error("too few privileges to read {0}: run as root, or grant CAP_BPF and access to it")]
    Privileges(String),
    /// The maps cannot be read.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Options that exclude each other.
    #[error("{0}")]
    Usage(&'static str),
    /// The answer cannot be written as JSON or YAML.
    #[error("cannot write the answer: {0}")]
    Format(Box<dyn std::error::Error + Send + Sync>),
    /// Standard output is closed or full.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl LbctlError {
    /// The exit code for it.
    pub fn exit(&self) -> u8 {
        let exit = match self {
            Self::NothingProgrammed(_) => Exit::NothingProgrammed,
            Self::Privileges(_) => Exit::Privileges,
            Self::Maps(MapsError::Layout { .. }) => Exit::Datapath,
            Self::Usage(_) => return 2,
            Self::Maps(_) | Self::Format(_) | Self::Output(_) => Exit::Failure,
        };
        exit as u8
    }
}

/// What a command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For standard output, whole lines.
    pub text: String,
    /// For standard error, one sentence each.
    pub notes: Vec<String>,
}

/// Carries out a command other than `completion`.
pub fn answer(cli: &Cli, style: Style) -> Result<Answer, LbctlError> {
    let snapshot = snapshot::read(&cli.bpffs)?;
    match &cli.command {
        Command::Status => {
            let facts = facts::gather(&cli.bpffs, &snapshot, datapath::now_unix_ns());
            let status = describe(&snapshot, &facts);
            let text = match cli.output.unwrap_or(OutputFormat::Table) {
                OutputFormat::Table | OutputFormat::Wide => render::status(&status, style),
                format => render::serialized(&status, format)?,
            };
            Ok(Answer {
                text,
                notes: Vec::new(),
            })
        }
        Command::Conntrack(verb) => {
            let access = match verb {
                ConntrackVerb::List { .. } => Access::Read,
                ConntrackVerb::Flush { .. } => Access::Write,
            };
            let maps = snapshot::open(&cli.bpffs, access)?;
            conntrack::answer(verb, cli.output, &snapshot, &maps, style)
        }
        Command::Nat(verb) => {
            let maps = snapshot::open(&cli.bpffs, Access::Read)?;
            nat::answer(verb, cli.output, &snapshot, &maps, style)
        }
        Command::Affinity(verb) => {
            let maps = snapshot::open(&cli.bpffs, Access::Read)?;
            affinity::answer(verb, cli.output, &snapshot, &maps, style)
        }
        command => report(command, cli.output, &snapshot, style),
    }
}

/// The part of [`answer`] that depends on the snapshot alone.
pub fn report(
    command: &Command,
    output: Option<OutputFormat>,
    snapshot: &Snapshot,
    style: Style,
) -> Result<Answer, LbctlError> {
    match command {
        Command::List {
            by_service, filter, ..
        } => {
            let services = services(snapshot, filter);
            let format = output.unwrap_or(OutputFormat::Table);
            let text = if *by_service {
                render::by_service::render(&services, format, style)?
            } else {
                render::list::render(&services.frontend_rows(filter), format, style)?
            };
            Ok(with_notes(text, &services, filter))
        }
        Command::Backends { filter } => {
            let services = services(snapshot, filter);
            let format = output.unwrap_or(OutputFormat::Table);
            let text = render::backends::render(&services.backend_rows(filter), format, style)?;
            Ok(with_notes(text, &services, filter))
        }
        Command::Drops { all } => drops::drops(snapshot, *all, output, style),
        Command::Dump {
            raw: as_is, filter, ..
        } => {
            let format = match output {
                None => OutputFormat::Yaml,
                Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => format,
                Some(_) => return Err(LbctlError::Usage("dump writes yaml or json only")),
            };
            let (text, empty) = if *as_is {
                let raw = raw(snapshot, filter);
                (render::serialized(&raw, format)?, raw.services.is_empty())
            } else {
                let canonical = canonical(snapshot, filter);
                let empty = canonical.services.is_empty();
                (render::serialized(&canonical, format)?, empty)
            };
            let mut notes = Vec::new();
            if empty && !filter.is_empty() {
                notes.push(NO_MATCH.to_owned());
            }
            Ok(Answer { text, notes })
        }
        Command::Maglev(verb) => maglev::report(verb, output, snapshot, style),
        Command::Status
        | Command::Conntrack(_)
        | Command::Nat(_)
        | Command::Affinity(_)
        | Command::Completion { .. } => Ok(Answer::default()),
    }
}

const NO_MATCH: &str = "nothing matches the filters";

/// What to say if nothing is shown: `nothing`, or that the filters keep nothing.
fn note_if(empty: bool, unfiltered: bool, nothing: &str) -> Vec<String> {
    let note = if unfiltered { nothing } else { NO_MATCH };
    empty.then(|| note.to_owned()).into_iter().collect()
}

fn with_notes(text: String, services: &Services, filter: &Filter) -> Answer {
    let mut notes = Vec::new();
    if services.services.is_empty() {
        notes.push(if filter.is_empty() {
            "no Service is programmed".to_owned()
        } else {
            NO_MATCH.to_owned()
        });
    }
    let Orphans {
        frontends,
        backends,
    } = services.orphans;
    if frontends + backends > 0 {
        notes.push(format!(
            "{frontends} frontends and {backends} backends belong to no service (a crash left \
             them, or they are being removed): see `lbctl dump --canonical`"
        ));
    }
    Answer { text, notes }
}

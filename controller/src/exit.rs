//! Exit codes: one for each kind of problem that an operator solves differently.

use std::{error::Error, process::ExitCode};

use crate::{datapath::DatapathError, kernel::Unsuitable, loader::LoadError, maps::MapsError};

/// Codes of `lb-controller` and `lbctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything else.
    Failure = 1,
    /// Wrong usage; what clap finds wrong has this code, too.
    Usage = 2,
    /// The files given as source cannot be read or are malformed.
    Manifests = 3,
    /// The kubeconfig cannot be read or used.
    Kubeconfig = 4,
    /// The pin directory is not on a BPF file system.
    NoBpffs = 5,
    /// The cgroup is not a cgroup v2 directory.
    NoCgroup2 = 6,
    /// Another controller runs on this node.
    AlreadyRunning = 7,
    /// Too few privileges.
    Privileges = 8,
    /// Too old a kernel.
    Kernel = 9,
    /// The kernel refuses the programs or the maps.
    Datapath = 10,
    /// A listening address cannot be bound.
    Listen = 11,
    /// `lbctl`: nothing is programmed on this node.
    NothingProgrammed = 12,
}

/// An error and its causes as one sentence: libraries leave the errno to the cause.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Unsuitable> for Exit {
    fn from(error: &Unsuitable) -> Self {
        match error {
            Unsuitable::Kernel { .. } => Self::Kernel,
            Unsuitable::Privileges { .. } | Unsuitable::Seccomp => Self::Privileges,
            Unsuitable::NoBpffs { .. } => Self::NoBpffs,
            Unsuitable::NoCgroup2 { .. } => Self::NoCgroup2,
        }
    }
}

impl From<&DatapathError> for Exit {
    fn from(error: &DatapathError) -> Self {
        match error {
            DatapathError::Load(LoadError::NoObject) => Self::Failure,
            DatapathError::Load(_)
            | DatapathError::Maps(MapsError::Layout { .. } | MapsError::Open { .. })
            | DatapathError::Apply(_) => Self::Datapath,
            DatapathError::Maps(_) | DatapathError::Detach(_) | DatapathError::Remove { .. } => {
                Self::Failure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot attach")]
    struct Attach(#[source] io::Error);

    #[test]
    fn sentences_end_with_the_cause_and_repeat_nothing() {
        let denied = io::Error::other("denied");
        assert_eq!(sentence(&Attach(denied)), "cannot attach: denied");
        assert_eq!(sentence(&io::Error::other("denied")), "denied");
    }
}

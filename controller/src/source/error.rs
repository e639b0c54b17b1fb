//! Why a source cannot start.
#![forbid(unsafe_code)]

use std::{io, path::PathBuf};

/// Each message is one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A manifest, or the directory of manifests, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A manifest is not YAML or JSON, or an object in it is not what its kind says.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        problem: ManifestError,
    },
    /// The kubeconfig cannot be used.
    #[error("cannot use kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Neither a kubeconfig nor the environment of a pod says where the API is.
    #[error("found no Kubernetes API: {reason}; name one with --kubeconfig")]
    NoApi {
        /// What was tried.
        reason: String,
    },
}

impl SourceError {
    /// Whether something is not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {document}{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ManifestError {
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

//! Kubernetes Events about this node and its Services (rule K6).
//!
//! Input: notes, told from anywhere. Output: objects of events.k8s.io, written by a task of
//! their own. Telling never waits and never fails: what cannot be written in time is left
//! out, and the log has it anyway. Where objects come from files there is only the log.
#![forbid(unsafe_code)]

mod describe;
mod publish;

use std::{net::SocketAddr, time::Duration};

use kube::Client;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::model::ObjectName;

/// Notes that may wait to be written.
const QUEUE: usize = 64;

/// Something that whoever looks at an object should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The proxy of this node has started.
    Started,
    /// A health-check node port cannot be listened at.
    HealthCheckFailed {
        /// Whose.
        service: ObjectName,
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// /healthz of the node cannot be served.
    HealthzFailed {
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// Not everything of a Service is in force.
    NotProgrammed {
        /// Which.
        service: ObjectName,
        /// The map that is full.
        map: &'static str,
    },
}

/// A note, and whom to tell when it is written or given up.
type Letter = (Note, Option<oneshot::Sender<()>>);

/// Where notes are told.
#[derive(Clone, Debug, Default)]
pub struct Events {
    letters: Option<mpsc::Sender<Letter>>,
}

impl Events {
    /// Nobody reads them.
    pub fn none() -> Self {
        Self::default()
    }

    /// Written through `client`, in the name of this node; in a task of the current runtime.
    pub fn start(client: Client, node_name: &str) -> Self {
        let (letters, received) = mpsc::channel(QUEUE);
        tokio::spawn(publish::run(client, node_name.to_owned(), received));
        Self {
            letters: Some(letters),
        }
    }

    /// Tells.
    pub fn tell(&self, note: Note) {
        self.send((note, None));
    }

    /// Tells, and waits a moment until it is written: for those who are about to end.
    pub async fn tell_last(&self, note: Note) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (written, done) = oneshot::channel();
        self.send((note, Some(written)));
        let _ = timeout(PATIENCE, done).await;
    }

    fn send(&self, letter: Letter) {
        if let Some(letters) = &self.letters
            && let Err(error) = letters.try_send(letter)
        {
            tracing::debug!(%error, "an event is left out");
        }
    }
}

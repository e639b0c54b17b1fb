//! The kind back end, as far as it goes without an engine: the configuration and manifests that
//! clusters get, the argument vectors in their order, what is said where tools are missing, and
//! upstream's results by row. The programs `kind`, `kubectl` and `docker` are recorded or played
//! here; whether they do what is asked, only a real cluster shows.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "kind/commands.rs"]
mod commands;
#[path = "kind/site.rs"]
mod site;
#[path = "kind/upstream.rs"]
mod upstream;

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use anyhow::{Result, bail};
use lb_integration::{
    binaries,
    kind::{Invocation, Runner},
    process::{Options, Process},
};

/// Notes invocations, and answers those that begin in a certain way.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Invocation>>,
    answers: Vec<(&'static str, String)>,
    /// What invocations with this in them fail with.
    failure: Mutex<Option<(&'static str, &'static str)>>,
}

impl Recorder {
    fn answering(answers: &[(&'static str, &str)]) -> Arc<Self> {
        let answers = answers
            .iter()
            .map(|(line, answer)| (*line, (*answer).to_owned()));
        Arc::new(Self {
            answers: answers.collect(),
            ..Self::default()
        })
    }

    /// What was run since the last time, without the context that all of `kubectl` has.
    fn lines(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let lines = seen.iter().map(ToString::to_string);
        lines
            .map(|line| line.replace(" --context kind-t", ""))
            .collect()
    }

    fn record(&self, invocation: &Invocation) -> String {
        self.seen.lock().unwrap().push(invocation.clone());
        let line = invocation.to_string();
        let answer = self.answers.iter().find(|(part, _)| line.contains(part));
        answer.map(|(_, answer)| answer.clone()).unwrap_or_default()
    }
}

impl Runner for Recorder {
    fn output(&self, invocation: &Invocation) -> Result<String> {
        let answer = self.record(invocation);
        match *self.failure.lock().unwrap() {
            Some((part, why)) if invocation.to_string().contains(part) => bail!("{why}"),
            _ => Ok(answer),
        }
    }

    /// A real client, on this machine.
    fn start(&self, invocation: &Invocation) -> Result<Process> {
        self.record(invocation);
        let mut command = Command::new(binaries::find("lb-agent")?);
        command.arg("control");
        let options = Options {
            piped: true,
            outlive: false,
        };
        let logs = std::env::temp_dir().join(format!("lb-kind-test-{}", std::process::id()));
        let started = Process::start(command, options, &logs);
        // The process has its files open.
        let _ = std::fs::remove_dir_all(&logs);
        started
    }
}

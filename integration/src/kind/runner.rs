//! Runs other programs; the seam at which tests listen.

use std::{
    fmt,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::process::{Options, Process};

/// A program with its arguments, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Its name; looked for on PATH.
    pub program: String,
    /// What follows.
    pub arguments: Vec<String>,
    /// Its standard input.
    pub input: String,
}

/// Runs invocations.
pub trait Runner: Send + Sync {
    /// Runs one to its end; its standard output. An error if it does not end well.
    fn output(&self, invocation: &Invocation) -> Result<String>;
    /// Starts one with pipes to its standard input and output.
    fn start(&self, invocation: &Invocation) -> Result<Process>;
}

/// Runs them on this machine.
#[derive(Debug)]
pub struct System {
    /// Where standard error of long-lived programs goes.
    pub logs: PathBuf,
}

/// Prints them, as one would type them, and answers nothing.
#[derive(Debug)]
pub struct DryRun;

// === impl Invocation ===

impl Invocation {
    /// A program with arguments.
    pub fn new<A: Into<String>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            input: String::new(),
        }
    }

    /// The same with standard input.
    #[must_use]
    pub fn reading(mut self, input: impl Into<String>) -> Self {
        self.input = input.into();
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for argument in &self.arguments {
            // As a shell would need it.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
            if !argument.is_empty() && argument.chars().all(plain) {
                write!(f, " {argument}")?;
            } else {
                write!(f, " '{}'", argument.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

impl Runner for System {
    fn output(&self, invocation: &Invocation) -> Result<String> {
        let mut child = invocation
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {invocation}"))?;
        let mut stdin = child.stdin.take().context("a pipe was asked for")?;
        let input = invocation.input.clone();
        // Beside reading, so that neither end waits for the other.
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        // A program that does not read its input has its reasons; its status counts.
        let _ = writer.join();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{invocation}: {}: {}",
            output.status,
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn start(&self, invocation: &Invocation) -> Result<Process> {
        let options = Options {
            piped: true,
            outlive: false,
        };
        Process::start(invocation.command(), options, &self.logs)
    }
}

impl Runner for DryRun {
    fn output(&self, invocation: &Invocation) -> Result<String> {
        writeln!(std::io::stdout(), "{invocation}")?;
        Ok(String::new())
    }

    fn start(&self, invocation: &Invocation) -> Result<Process> {
        anyhow::bail!("{invocation} is not for a dry run")
    }
}

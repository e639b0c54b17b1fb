//! iproute2 in batches: one process per namespace and step, however many commands it takes.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Commands for one `ip -batch` run, in order; the first that fails stops the run.
#[derive(Debug, Default)]
pub struct Batch {
    lines: String,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one command, without the leading `ip`.
    pub fn add(&mut self, command: impl AsRef<str>) -> &mut Self {
        self.lines.push_str(command.as_ref());
        self.lines.push('\n');
        self
    }

    /// Runs the batch, inside the named namespace if one is given.
    pub fn run(&self, netns: Option<&str>) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut command = Command::new("ip");
        if let Some(netns) = netns {
            command.args(["-n", netns]);
        }
        let mut child = command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `ip`: is iproute2 installed?")?;
        let mut stdin = child.stdin.take().context("ip has no stdin")?;
        stdin
            .write_all(self.lines.as_bytes())
            .context("writing to ip")?;
        drop(stdin);
        let output = child.wait_with_output().context("waiting for ip")?;
        if !output.status.success() {
            let place = netns.unwrap_or("the host namespace");
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!(
                "ip failed in {place}: {}\nbatch:\n{}",
                reason.trim(),
                self.lines
            );
        }
        Ok(())
    }
}

//! Configuration tools that a test runs to their end: nft, ethtool, bridge, conntrack.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs `program` in the namespace of the calling thread; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{program}`: is it installed?"))?;
    // The pipe closes at the end of the statement. A tool that does not read is none the worse.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

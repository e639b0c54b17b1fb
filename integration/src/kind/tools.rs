//! The programs that a kind cluster takes, and an engine that answers.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The exit code for it: that of `cargo xtask` where the machine lacks something.
pub const EXIT_MISSING: u8 = 2;

/// What is missing, in a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A program.
    #[error("{program} is not on PATH: install it ({from})")]
    Program {
        /// Its name.
        program: &'static str,
        /// Where it is to be had.
        from: &'static str,
    },
    /// The client is there, but nothing behind it.
    #[error("docker answers, but no engine: {reason}")]
    Engine {
        /// What the client said.
        reason: String,
    },
}

const PROGRAMS: [(&str, &str); 3] = [
    ("kind", "https://kind.sigs.k8s.io"),
    ("kubectl", "https://kubernetes.io/docs/tasks/tools"),
    ("docker", "https://docs.docker.com/engine/install"),
];

/// The first thing that is missing, if any; `find` looks for a program.
pub fn missing(
    find: impl Fn(&str) -> Option<PathBuf>,
    engine: impl Fn() -> Result<(), String>,
) -> Option<Missing> {
    let absent = PROGRAMS.iter().find(|(program, _)| find(program).is_none());
    if let Some(&(program, from)) = absent {
        return Some(Missing::Program { program, from });
    }
    engine().err().map(|reason| Missing::Engine { reason })
}

/// Checks this machine.
pub fn check() -> Result<(), Missing> {
    missing(on_path, engine).map_or(Ok(()), Err)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|directory| directory.join(program));
    files.find(|file| file.is_file())
}

/// Asks docker for its engine.
fn engine() -> Result<(), String> {
    let output = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.unwrap_or("it does not say why").trim().to_owned())
}

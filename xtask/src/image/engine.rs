//! Container engines and kind: their command lines, and whether they are there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::ValueEnum;

use crate::exit::machine;
use crate::workspace::which;

/// A container engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum EngineName {
    Docker,
    Podman,
}

const NO_ENGINE: &str = "build without one: cargo xtask image --output FILE.tar";

impl EngineName {
    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The one that was asked for, or the first that is installed.
    pub(crate) fn choose(asked: Option<Self>) -> Result<Self> {
        let candidates = asked.map_or_else(|| vec![Self::Docker, Self::Podman], |one| vec![one]);
        let found = candidates
            .iter()
            .find(|engine| which(engine.program()).is_some());
        let names: Vec<_> = candidates.iter().map(|engine| engine.program()).collect();
        let names = names.join(" nor ");
        let message = || {
            machine(format!(
                "{names} is not on PATH: install it, or {NO_ENGINE}"
            ))
        };
        found.copied().ok_or_else(message)
    }

    /// An error unless the engine answers: the client alone is no use.
    pub(crate) fn must_run(self) -> Result<()> {
        let program = self.program();
        let output = Command::new(program)
            .arg("info")
            .stdin(Stdio::null())
            .output();
        let why = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                let last = last.unwrap_or("it does not say why").trim().to_owned();
                format!("{program} answers, but no engine: {last}")
            }
            Err(error) => format!("{program} cannot be started: {error}"),
        };
        Err(machine(format!("{why}\nStart it, or {NO_ENGINE}")))
    }

    /// Builds one stage of the Dockerfile.
    pub(crate) fn build(self, file: &Path, stage: &str, name: &str, context: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.args(["build", "--target", stage, "--tag", name, "--file"]);
        command.arg(file).arg(context);
        command
    }

    pub(crate) fn push(self, name: &str) -> Command {
        let mut command = Command::new(self.program());
        command.args(["push", name]);
        command
    }
}

/// Loads all images of an archive into the nodes of a kind cluster.
pub(crate) fn load_into_kind(cluster: &str, archive: &Path) -> Command {
    let mut command = Command::new("kind");
    command.args(["load", "image-archive"]).arg(archive);
    command.args(["--name", cluster]);
    command
}

pub(crate) fn must_have_kind() -> Result<()> {
    match which("kind") {
        Some(_) => Ok(()),
        None => Err(machine(
            "kind is not on PATH: install it (https://kind.sigs.k8s.io), or write an archive with \
             --output FILE.tar",
        )),
    }
}

/// The name of an image beside `lb`, which is called `tag`: same registry, same version.
pub(crate) fn name_of(tag: &str, image: &str) -> String {
    if image == "lb" {
        return tag.to_owned();
    }
    let (path, last) = tag
        .rsplit_once('/')
        .map_or(("", tag), |(path, last)| (path, last));
    let version = last.split_once(':').map(|(_, version)| version);
    let mut name = String::new();
    if !path.is_empty() {
        name = format!("{path}/");
    }
    name.push_str(image);
    if let Some(version) = version {
        name.push(':');
        name.push_str(version);
    }
    name
}

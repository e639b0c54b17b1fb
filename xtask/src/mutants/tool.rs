//! cargo-mutants: found or built, and asked for the mutants of a package.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use super::list::{self, Mutant};
use crate::{exec, workspace::Workspace};

const VERSION: &str = "27.1.0";
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// The mutants of `files` of the package in `dir`.
pub(super) fn mutants(workspace: &Workspace, dir: &Path, files: &[&str]) -> Result<Vec<Mutant>> {
    let mut cargo = Command::new(ensure(workspace)?);
    cargo
        .args(["mutants", "--list", "--json", "--colors", "never"])
        // The copy lies in a directory that git ignores.
        .arg("--gitignore=false")
        .args(["--exclude", "**/tests.rs", "--exclude", "**/tests/**"])
        .args(["--exclude", "src/active.rs"])
        .current_dir(dir)
        .env("CARGO", &workspace.cargo);
    for file in files {
        match file.strip_prefix('!') {
            Some(file) => cargo.args(["--exclude", file]),
            None => cargo.args(["--file", file]),
        };
    }
    list::read(dir, &exec::output(&mut cargo)?)
}

fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.tools().join("bin/cargo-mutants");
    if path.is_file() {
        return Ok(path);
    }
    let mut cargo = Command::new(&workspace.cargo);
    cargo
        .args([
            "install",
            "cargo-mutants",
            "--version",
            VERSION,
            "--locked",
            "--debug",
        ])
        .arg("--root")
        .arg(workspace.tools())
        .current_dir("/");
    let log = workspace.logs().join("cargo-mutants.log");
    exec::logged(
        &mut cargo,
        &format!("cargo-mutants {VERSION}"),
        &log,
        BUILD_LIMIT,
    )?;
    Ok(path)
}

//! Finds the programs that tests start.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, ensure};

/// The program `name`: in `LB_BIN_DIR` if that is set, else where cargo put it, beside the
/// running executable (or above it, for a test in `deps/`).
pub fn find(name: &str) -> Result<PathBuf> {
    let directory = match env::var_os("LB_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => beside_this_executable()?,
    };
    let path = directory.join(name);
    ensure!(
        path.is_file(),
        "{name} is not in {}: build it (cargo build --workspace) or set LB_BIN_DIR",
        directory.display()
    );
    Ok(path)
}

fn beside_this_executable() -> Result<PathBuf> {
    let executable = env::current_exe().context("finding this executable")?;
    let directory = executable
        .parent()
        .context("this executable has no directory")?;
    let in_deps = directory.file_name().is_some_and(|name| name == "deps");
    let profile = if in_deps {
        directory.parent()
    } else {
        Some(directory)
    };
    Ok(profile.context("deps has no parent")?.to_owned())
}

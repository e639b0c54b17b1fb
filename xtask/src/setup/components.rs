//! rustup's components of the toolchain that runs us.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::exec;
use crate::workspace::{Workspace, which};

/// Each component is a few MB: slower than this is as good as out of reach.
const LIMIT: Duration = Duration::from_mins(1);
/// What linting uses; rustup's minimal profile comes without.
const LINTERS: [(&str, &str); 2] = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

/// Adds `component` to rustup's toolchain at `sysroot`; whether that worked. Where rustup's
/// server is out of reach this takes 0.1 s (refused) to a minute (no answer).
pub(crate) fn add(workspace: &Workspace, sysroot: &Path, component: &str) -> bool {
    let (Some(rustup), Some(name)) = (which("rustup"), sysroot.file_name()) else {
        return false;
    };
    let mut command = Command::new(rustup);
    command
        .args(["component", "add", component, "--toolchain"])
        .arg(name)
        .env_remove("RUST_BACKTRACE");
    let label = format!("{component} for {}", name.display());
    let log = workspace.logs().join(format!("{component}.log"));
    exec::logged(&mut command, &label, &log, LIMIT).is_ok()
}

/// Adds what linting uses; the names of what is still missing.
pub(crate) fn ensure_linters(workspace: &Workspace) -> Vec<&'static str> {
    let mut missing = Vec::new();
    // Beside cargo itself: on PATH are rustup's proxies, there whether or not the component is.
    let bin = workspace.cargo.parent().unwrap_or(Path::new("/usr/bin"));
    for (component, program) in LINTERS {
        let sysroot = bin.parent().unwrap_or(bin);
        if !bin.join(program).is_file() && !add(workspace, sysroot, component) {
            missing.push(component);
        }
    }
    missing
}

//! Debian packages, installed without questions. Only used when something is missing.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::exec;
use crate::exit;
use crate::ui;
use crate::workspace::{Workspace, which};

const LIMIT: Duration = Duration::from_mins(15);

pub(crate) struct Apt<'a> {
    workspace: &'a Workspace,
    updated: bool,
}

impl<'a> Apt<'a> {
    pub(crate) fn new(workspace: &'a Workspace) -> Self {
        Self {
            workspace,
            updated: false,
        }
    }

    /// Installs `packages`, all of them.
    pub(crate) fn install(&mut self, packages: &[String], why: &str) -> Result<()> {
        let names = packages.join(" ");
        if which("apt-get").is_none() {
            return Err(exit::machine(format!(
                "{why}: missing, and this machine has no apt-get; install by hand what Debian \
                 calls: {names}"
            )));
        }
        if !is_root() {
            return Err(exit::machine(format!(
                "{why}: missing, and installing takes root; run: sudo apt-get install {names}"
            )));
        }
        self.update();
        let mut command = self.command();
        command
            // What others have installed stays, even where it stands in the way.
            .args(["install", "-y", "--no-install-recommends", "--no-remove"])
            .args(packages);
        let log = self.workspace.logs().join("apt-install.log");
        let time = exec::logged(&mut command, &format!("packages {names}"), &log, LIMIT)?;
        ui::ok(format!("{why}: installed in {}", ui::seconds(time)));
        Ok(())
    }

    /// Installs those of `packages` whose telling file is missing.
    pub(crate) fn install_missing(
        &mut self,
        packages: &[(String, PathBuf)],
        why: &str,
    ) -> Result<()> {
        let missing: Vec<String> = packages
            .iter()
            .filter(|(_, file)| !file.exists())
            .map(|(name, _)| name.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.install(&missing, why)
    }

    /// Whether `package` could be installed from here.
    pub(crate) fn offers(&mut self, package: &str) -> bool {
        if !is_root() || which("apt-get").is_none() {
            return false;
        }
        self.update();
        let policy = exec::output(Command::new("apt-cache").args(["policy", package]));
        policy.is_ok_and(|text| has_candidate(&text))
    }

    /// Package lists, once. Old lists may still do, and one unreachable source out of several
    /// must not stop the rest, so a failure here is only a warning.
    fn update(&mut self) {
        if self.updated {
            return;
        }
        self.updated = true;
        let log = self.workspace.logs().join("apt-update.log");
        let mut command = self.command();
        command.arg("update");
        if exec::logged(&mut command, "package lists (apt-get update)", &log, LIMIT).is_err() {
            ui::warn(format!(
                "apt-get update had errors, see {}",
                self.workspace.show(&log)
            ));
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Another apt, such as a boot-time upgrade, may hold the lock for a while.
            .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
            .current_dir(&self.workspace.root);
        command
    }
}

/// Whether `apt-cache policy` names a version to install.
fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|version| version != "(none)")
}

/// Whether we may do what root may.
pub(crate) fn is_root() -> bool {
    exec::output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_needs_a_version() {
        assert!(has_candidate(
            "llvm-22-dev:\n  Installed: (none)\n  Candidate: 1:22.1.8\n"
        ));
        assert!(!has_candidate(
            "llvm-23-dev:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}

//! Where things are: the workspace, its target directory, the cargo that runs us.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths every verb works with; all absolute.
pub(crate) struct Workspace {
    /// Directory of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, as the invoking cargo uses it.
    pub(crate) target: PathBuf,
    /// The cargo that started us.
    pub(crate) cargo: PathBuf,
}

impl Workspace {
    pub(crate) fn locate() -> Self {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .map_or_else(|| manifest.clone(), Path::to_path_buf);
        let target = env::current_exe()
            .ok()
            .and_then(|exe| target_of(&exe))
            .unwrap_or_else(|| root.join("target"));
        let cargo = env::var_os("CARGO")
            .map(PathBuf::from)
            .or_else(|| which("cargo"))
            .unwrap_or_else(|| PathBuf::from("cargo"));
        Self {
            root,
            target,
            cargo,
        }
    }

    /// `cargo VERB` (one or two words) in the workspace on the host toolchain, with the BPF object made known
    /// to the controller's build script.
    pub(crate) fn cargo(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .args(verb)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.root)
            .env("LB_BPF_OBJECT", self.bpf_object());
        command
    }

    /// The BPF object the controller embeds.
    pub(crate) fn bpf_object(&self) -> PathBuf {
        self.target.join("bpf/lb.o")
    }

    /// Root of what setup builds for itself (`bin/` below it).
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Log files of silent steps.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("tools/log")
    }

    /// `path` relative to the workspace where it lies inside, for messages.
    pub(crate) fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

/// The target directory an executable at `<target>/<profile>/xtask` belongs to. This follows
/// environment, command line and configuration files alike, whichever chose it.
fn target_of(exe: &Path) -> Option<PathBuf> {
    let profile = exe.parent()?;
    Some(profile.parent()?.to_path_buf())
}

/// `name` on PATH or in the administrator's directories, which are missing from the PATH of
/// ordinary users on Debian.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_directory_is_two_levels_above_the_executable() {
        let target = target_of(Path::new("/src/lb/target/debug/xtask"));
        assert_eq!(target.as_deref(), Some(Path::new("/src/lb/target")));
    }

    #[test]
    fn which_finds_a_shell_and_nothing_invented() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-lb").is_none());
    }
}

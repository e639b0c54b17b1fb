//! What a rustc says about itself (`rustc -vV`).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;

/// The facts of `rustc -vV` that decide whether a compiler can build the BPF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// `1.96.0`, `1.97.0-nightly`.
    pub(crate) release: String,
    /// Major version of the LLVM behind it: bpf-linker reads that LLVM's bitcode.
    pub(crate) llvm: u32,
}

impl Version {
    pub(crate) fn of(rustc: &Path) -> Result<Self> {
        let text = exec::output(plain(rustc).arg("-vV"))?;
        Self::parse(&text)
            .with_context(|| format!("{} -vV does not name its LLVM", rustc.display()))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?.trim().to_owned();
        let llvm = field("LLVM version: ")?
            .trim()
            .split('.')
            .next()?
            .parse()
            .ok()?;
        Some(Self { release, llvm })
    }

    /// Whether the release is `minimum` (`1.95`) or newer.
    pub(crate) fn at_least(&self, minimum: &str) -> bool {
        numbers(&self.release) >= numbers(minimum)
    }
}

/// Major and minor number of a release.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']).map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// A command for a compiler of another toolchain than the one running us: what cargo and
/// rustup put into our environment must not reach it.
pub(crate) fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in [
        "LD_LIBRARY_PATH",
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "\
rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)
binary: rustc
commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96
commit-date: 2026-05-25
host: x86_64-unknown-linux-gnu
release: 1.96.0
LLVM version: 22.1.8
";

    #[test]
    fn release_and_llvm_major_are_read() {
        let version = Version::parse(DEBIAN).expect("complete output");
        assert_eq!((version.release.as_str(), version.llvm), ("1.96.0", 22));
    }

    #[test]
    fn output_without_llvm_is_refused() {
        assert_eq!(Version::parse("release: 1.96.0\n"), None);
    }

    #[test]
    fn minimum_is_compared_by_number() {
        let version = |release: &str| Version {
            release: release.to_owned(),
            llvm: 22,
        };
        assert!(version("1.100.0").at_least("1.95"));
        assert!(version("1.97.0-nightly").at_least("1.95"));
        assert!(version("1.95.0").at_least("1.95"));
        assert!(!version("1.63.0").at_least("1.95"));
    }
}

//! Packages of copies, each small enough that all of its mutants can be tried.
//!
//! Linking the controller's or the integration tests costs many times what the code under test
//! costs. A package has the modules that do no IO and their tests, and is made anew for each
//! run, plain or with all of its mutants in it ([`super::switches`]).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Kind, datapath, pure};
use crate::workspace::Workspace;

/// What every package is built with besides its own modules: which mutant is active, and a
/// panic that ends the program, as one failed test is enough.
const ACTIVE: &str = include_str!("active.rs");

/// Makes the package that has the mutants of `kind`, below `mutants/` in the target directory;
/// its directory.
pub(super) fn make(workspace: &Workspace, kind: Kind, name: &str) -> Result<PathBuf> {
    let dir = workspace.target.join("mutants").join(name);
    let src = dir.join("src");
    if src.is_dir() {
        fs::remove_dir_all(&src).context("cannot remove the old copy")?;
    }
    fs::create_dir_all(&src).context("cannot make the package")?;
    let root = workspace.root.as_path();
    let (lib, manifest) = match kind {
        Kind::LbEbpf => (datapath::fill(root, &src)?, datapath::MANIFEST.to_owned()),
        _ => (pure::fill(root, &src)?, pure::manifest(root)),
    };
    let lib = format!("{lib}\n#[cfg(test)]\npub(crate) mod active;\n");
    fs::write(src.join("lib.rs"), lib)?;
    fs::write(src.join("active.rs"), ACTIVE)?;
    let versions = fs::read_to_string(root.join("Cargo.toml"))?;
    fs::write(dir.join("Cargo.toml"), with_versions(&manifest, &versions))?;
    fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock"))?;
    Ok(dir)
}

/// Copies a file or a directory below `from` to the same place below `to`.
pub(super) fn copy(from: &Path, to: &Path, what: &Path) -> Result<()> {
    let (source, copy) = (from.join(what), to.join(what));
    if !source.is_dir() {
        fs::copy(&source, copy).with_context(|| format!("cannot copy {}", source.display()))?;
        return Ok(());
    }
    fs::create_dir_all(copy)?;
    for entry in fs::read_dir(source)? {
        self::copy(from, to, &what.join(entry?.file_name()))?;
    }
    Ok(())
}

/// `manifest`, whose dependencies without a version get that of `workspace`, the manifest with
/// the versions, one a line.
fn with_versions(manifest: &str, workspace: &str) -> String {
    let mut out = String::new();
    for line in manifest.lines() {
        let name = line.strip_suffix(".workspace = true");
        let version = name.and_then(|name| {
            let is_it = |l: &&str| l.split(" = ").next() == Some(name);
            workspace.lines().find(is_it)
        });
        out.extend([version.unwrap_or(line), "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_takes_its_versions_from_the_workspace() {
        let workspace = "[workspace.dependencies]\nanyhow = \"1\"\nipnet = \"2\"\n";
        let manifest = "[dependencies]\nmaglev = { path = \"x\" }\nipnet.workspace = true\n";
        let expected = "[dependencies]\nmaglev = { path = \"x\" }\nipnet = \"2\"\n";
        assert_eq!(with_versions(manifest, workspace), expected);
    }
}

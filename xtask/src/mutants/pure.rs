//! A package of the controller's modules that do no IO.
//!
//! Linking the controller's tests costs many times what these modules cost; a mutant of them
//! needs none of the rest. The package is made anew for each run, out of copies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The modules, each a file and perhaps a directory.
const MODULES: [&str; 5] = ["convert", "desired", "model", "plan", "store"];

/// What they use, as the workspace says.
const DEPENDENCIES: [&str; 6] = [
    "ipnet",
    "k8s-openapi",
    "proptest",
    "serde_json",
    "thiserror",
    "tracing",
];

/// Makes the package; its directory.
pub(super) fn make(workspace: &Workspace) -> Result<PathBuf> {
    let dir = workspace.target.join("mutants/pure");
    let src = dir.join("src");
    if src.is_dir() {
        fs::remove_dir_all(&src).context("cannot remove the old copy")?;
    }
    fs::create_dir_all(&src).context("cannot make the package")?;
    let from = workspace.root.join("controller/src");
    let mut root = String::from("//! The controller's modules that do no IO.\n");
    for module in MODULES {
        copy(&from, &src, Path::new(&format!("{module}.rs")))?;
        let beside = from.join(module);
        if beside.is_dir() {
            copy(&from, &src, Path::new(module))?;
        }
        root.extend(["pub mod ", module, ";\n"]);
    }
    fs::write(src.join("lib.rs"), root)?;
    let versions = fs::read_to_string(workspace.root.join("Cargo.toml"))?;
    fs::write(dir.join("Cargo.toml"), manifest(&workspace.root, &versions))?;
    fs::copy(workspace.root.join("Cargo.lock"), dir.join("Cargo.lock"))?;
    Ok(dir)
}

/// Copies a file or a directory below `from` to the same place below `to`.
fn copy(from: &Path, to: &Path, what: &Path) -> Result<()> {
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

/// `workspace` is the manifest with the versions of dependencies, one a line.
fn manifest(root: &Path, workspace: &str) -> String {
    let mut out = format!(
        "[package]\nname = \"lb-pure\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[profile.dev]\ndebug = false\n\
         [profile.dev.package.maglev]\nopt-level = 3\n\n[dependencies]\n\
         lb-ebpf = {{ path = \"{0}/lb-ebpf\", features = [\"user\"] }}\n\
         maglev = {{ path = \"{0}/maglev\" }}\n",
        root.display()
    );
    for line in workspace.lines() {
        let name = line.split(" = ").next().unwrap_or("");
        if DEPENDENCIES.contains(&name) {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_takes_its_versions_from_the_workspace() {
        let workspace = "[workspace.dependencies]\nanyhow = \"1\"\nipnet = \"2\"\n";
        let text = manifest(Path::new("/src"), workspace);
        assert!(text.ends_with("maglev = { path = \"/src/maglev\" }\nipnet = \"2\"\n"));
    }
}

//! Building the BPF object, `<target>/bpf/lb.o`.
//!
//! The user's flags and configuration do not reach this build: the object is the same on
//! every machine with the same compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::exit::STEP;
use crate::setup::BpfTools;
use crate::setup::rustc::plain;
use crate::ui;
use crate::workspace::{Workspace, which};

pub(crate) const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "lb-ebpf";
const BIN: &str = "lb";

/// The release profile of the object alone, so that the host's stays its own. BTF is made
/// from the debug information.
const PROFILE: [&str; 5] = [
    "profile.release.debug=2",
    "profile.release.panic=\"abort\"",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.opt-level=3",
];

/// Builds the object; leaves the file alone if its content is the same, so that what embeds
/// it is not rebuilt.
pub(crate) fn build(workspace: &Workspace, tools: &BpfTools) -> Result<()> {
    let heading = ui::heading("BPF object");
    exec::visibly(
        &mut command(workspace, tools, None, "build"),
        STEP,
        "building the BPF object",
    )?;
    let built = directory(workspace).join(TARGET).join("release").join(BIN);
    let object = fs::read(strip(workspace, tools, built)?)?;
    let place = workspace.bpf_object();
    let fresh = fs::read(&place).is_ok_and(|old| old == object);
    if !fresh {
        // Renamed into place: a cargo running beside us sees the old or the new object.
        let part = place.with_extension(format!("o.{}", std::process::id()));
        fs::write(&part, &object).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, &place)?;
    }
    let size = object.len().div_ceil(1024);
    let state = if fresh { "unchanged" } else { "new" };
    ui::ok(format!("{}: {size} KiB, {state}", workspace.show(&place)));
    heading.done();
    Ok(())
}

/// `cargo VERB` for the BPF program with the BPF toolchain, up to and without a `--`.
/// A verb cargo lacks is run as the program `external` (`cargo-clippy`), by path: on PATH
/// stand rustup's proxies, which would pick another toolchain.
pub(crate) fn command(
    workspace: &Workspace,
    tools: &BpfTools,
    external: Option<&Path>,
    verb: &str,
) -> Command {
    let own_cargo = tools.toolchain.sysroot.join("bin/cargo");
    let cargo = if own_cargo.is_file() {
        own_cargo
    } else {
        workspace.cargo.clone()
    };
    let mut command = plain(external.unwrap_or(&cargo));
    command
        .arg(verb)
        .args(["-Z", "build-std=core", "--target", TARGET, "--release"])
        .args(["--package", PACKAGE, "--bin", BIN, "--target-dir"])
        .arg(directory(workspace))
        .args(PROFILE.iter().flat_map(|setting| ["--config", setting]))
        .current_dir(&workspace.root)
        .env("CARGO", &cargo)
        .env("RUSTC", &tools.toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker)
        // Above all other sources of flags in cargo's order, so it hides RUSTFLAGS and
        // configuration files. bpf-linker refuses a second `--btf`.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Clink-arg=--btf\x1f-Cdebuginfo=2",
        );
    command
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bpf")
}

/// A copy without DWARF where an llvm-strip is at hand (a quarter of the size; BTF stays),
/// else the object as it is.
fn strip(workspace: &Workspace, tools: &BpfTools, object: PathBuf) -> Result<PathBuf> {
    let matching = PathBuf::from(format!(
        "/usr/lib/llvm-{}/bin/llvm-strip",
        tools.toolchain.llvm
    ));
    let Some(tool) = Some(matching)
        .filter(|path| path.is_file())
        .or_else(|| which("llvm-strip"))
    else {
        return Ok(object);
    };
    let stripped = directory(workspace).join("lb.stripped.o");
    exec::output(
        Command::new(tool)
            .arg("-g")
            .arg("-o")
            .arg(&stripped)
            .arg(&object),
    )?;
    Ok(stripped)
}

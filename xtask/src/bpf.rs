//! Building the BPF objects: `<target>/bpf/lb.o`, and `lb-floors.o` for benchmarks.
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

/// What is built, by the name of its binary.
#[derive(Clone, Copy)]
pub(crate) enum Object {
    /// The datapath.
    Datapath,
    /// Yardsticks for it.
    Floors,
}

impl Object {
    pub(crate) const ALL: [Self; 2] = [Self::Datapath, Self::Floors];

    const fn bin(self) -> &'static str {
        match self {
            Self::Datapath => "lb",
            Self::Floors => "lb-floors",
        }
    }

    fn place(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Datapath => workspace.bpf_object(),
            Self::Floors => directory(workspace).join("lb-floors.o"),
        }
    }
}

/// The release profile of the object alone, so that the host's stays its own. BTF is made
/// from the debug information.
const PROFILE: [&str; 5] = [
    "profile.release.debug=2",
    "profile.release.panic=\"abort\"",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.opt-level=3",
];

/// Builds the datapath; leaves the file alone if its content is the same, so that what embeds
/// it is not rebuilt.
pub(crate) fn build(workspace: &Workspace, tools: &BpfTools) -> Result<()> {
    build_one(workspace, tools, Object::Datapath)
}

/// Builds one object in the same way.
pub(crate) fn build_one(workspace: &Workspace, tools: &BpfTools, object: Object) -> Result<()> {
    let heading = ui::heading("BPF object");
    let bin = object.bin();
    exec::visibly(
        &mut command(workspace, tools, None, "build", &[object]),
        STEP,
        "building the BPF object",
    )?;
    let built = directory(workspace).join(TARGET).join("release").join(bin);
    let content = fs::read(strip(workspace, tools, built, bin)?)?;
    let place = object.place(workspace);
    let fresh = fs::read(&place).is_ok_and(|old| old == content);
    if !fresh {
        // Renamed into place: a cargo running beside us sees the old or the new object.
        let part = place.with_extension(format!("o.{}", std::process::id()));
        fs::write(&part, &content).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, &place)?;
    }
    let size = content.len().div_ceil(1024);
    let state = if fresh { "unchanged" } else { "new" };
    ui::ok(format!("{}: {size} KiB, {state}", workspace.show(&place)));
    heading.done();
    Ok(())
}

/// `cargo VERB` for BPF programs with the BPF toolchain, up to and without a `--`.
/// A verb cargo lacks is run as the program `external` (`cargo-clippy`), by path: on PATH
/// stand rustup's proxies, which would pick another toolchain.
pub(crate) fn command(
    workspace: &Workspace,
    tools: &BpfTools,
    external: Option<&Path>,
    verb: &str,
    objects: &[Object],
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
        .args(["--package", PACKAGE, "--target-dir"])
        .arg(directory(workspace))
        .args(objects.iter().flat_map(|object| ["--bin", object.bin()]))
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
fn strip(workspace: &Workspace, tools: &BpfTools, object: PathBuf, bin: &str) -> Result<PathBuf> {
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
    let stripped = directory(workspace).join(format!("{bin}.stripped.o"));
    exec::output(
        Command::new(tool)
            .arg("-g")
            .arg("-o")
            .arg(&stripped)
            .arg(&object),
    )?;
    Ok(stripped)
}

//! bpf-linker, built for the LLVM of the rustc whose bitcode it links.
//!
//! Looked for in `<target>/tools/bin`, then on PATH (only if of that LLVM), else built.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::exec;
use crate::setup::apt::Apt;
use crate::ui;
use crate::workspace::{Workspace, which};

const VERSION: &str = "0.13.0";
/// The `llvm-NN` features of bpf-linker [`VERSION`].
pub(crate) const SUPPORTED_LLVM: RangeInclusive<u32> = 21..=23;
/// Measured: 75 s on two cores.
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// A working linker for bitcode of LLVM `llvm`, if there is one.
pub(crate) fn find(workspace: &Workspace, llvm: u32) -> Option<PathBuf> {
    let own = workspace.tools().join("bin/bpf-linker");
    let record = workspace.tools().join(".crates2.json");
    if exec::file_contains(&record, &[feature(llvm).into_bytes()]) && works(&own) {
        return Some(own);
    }
    which("bpf-linker").filter(|path| exec::file_contains(path, &llvm_marks(llvm)) && works(path))
}

/// Whether the linker's build dependencies are installed or can be.
pub(crate) fn is_buildable(apt: &mut Apt<'_>, llvm: u32) -> bool {
    llvm_config(llvm).is_file() || apt.offers(&format!("llvm-{llvm}-dev"))
}

/// Finds or builds the linker.
pub(crate) fn ensure(workspace: &Workspace, apt: &mut Apt<'_>, llvm: u32) -> Result<PathBuf> {
    if let Some(path) = find(workspace, llvm) {
        ui::ok(format!(
            "bpf-linker for LLVM {llvm}: {}",
            workspace.show(&path)
        ));
        return Ok(path);
    }
    apt.install_missing(&build_packages(llvm), "what bpf-linker is built with")?;
    build(workspace, llvm)
}

fn build(workspace: &Workspace, llvm: u32) -> Result<PathBuf> {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let scratch = workspace.tools().join("build");
    let mut cargo = Command::new(&workspace.cargo);
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", &feature(llvm)])
        .arg("--root")
        .arg(workspace.tools())
        .arg("--target-dir")
        .arg(&scratch)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix)
        // Without this one its build script takes the library directory from elsewhere.
        .env("LLVM_PREFIX", &prefix)
        .current_dir("/");
    for name in [
        "RUSTC",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(name);
    }
    let label = format!("bpf-linker {VERSION} for LLVM {llvm} (about a minute and a half)");
    let log = workspace.logs().join("bpf-linker.log");
    let time = exec::logged(&mut cargo, &label, &log, BUILD_LIMIT)?;
    // 200 MB that nothing needs any more; a leftover does no harm.
    let _ = fs::remove_dir_all(scratch);
    let path = workspace.tools().join("bin/bpf-linker");
    let shown = workspace.show(&path);
    ui::ok(format!(
        "bpf-linker for LLVM {llvm}: {shown}, built in {}",
        ui::seconds(time)
    ));
    Ok(path)
}

fn feature(llvm: u32) -> String {
    format!("llvm-{llvm}")
}

fn llvm_config(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin/llvm-config"))
}

/// Debian packages with a file by which each is recognised without asking dpkg.
fn build_packages(llvm: u32) -> Vec<(String, PathBuf)> {
    let lib = PathBuf::from(format!("/usr/lib/llvm-{llvm}/lib"));
    vec![
        (format!("llvm-{llvm}-dev"), llvm_config(llvm)),
        (format!("libpolly-{llvm}-dev"), lib.join("libPolly.a")),
        (
            "libzstd-dev".to_owned(),
            PathBuf::from("/usr/include/zstd.h"),
        ),
        (
            "zlib1g-dev".to_owned(),
            PathBuf::from("/usr/include/zlib.h"),
        ),
    ]
}

/// Byte strings one of which is in every program that uses LLVM `llvm`: the shared library's
/// name, or, linked statically, the producer that LLVM writes into bitcode.
fn llvm_marks(llvm: u32) -> Vec<Vec<u8>> {
    [
        format!("libLLVM.so.{llvm}."),
        format!("libLLVM-{llvm}"),
        format!("LLVM{llvm}."),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Whether it starts at all: its shared LLVM may have been removed since.
fn works(path: &Path) -> bool {
    path.is_file() && exec::output(Command::new(path).arg("--version")).is_ok()
}

//! A rustc for the BPF object: one with the source of `core`, since no precompiled `core`
//! exists for that target, and with an LLVM that bpf-linker supports.
//!
//! Order: `LB_BPF_RUSTC`; rustup's active toolchain, then its nightlies, where rust-src is
//! installed; Debian's rustc. If none fits: rust-src is fetched for the active toolchain, and
//! where that is out of reach, Debian's rustc-web and rust-web-src are installed. A stable
//! compiler does: `RUSTC_BOOTSTRAP=1` opens the few unstable features needed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::exec;
use crate::exit;
use crate::setup::apt::Apt;
use crate::setup::components;
use crate::setup::linker;
use crate::setup::rustc::{Version, plain};
use crate::ui;
use crate::workspace::Workspace;

/// Debian's newest Rust, kept current for building browsers, and its library source.
const DEBIAN: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler that can build the BPF object.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) sysroot: PathBuf,
    pub(crate) llvm: u32,
    release: String,
}

impl Toolchain {
    /// The toolchain of `rustc`, if it is there; it may lack the source of `core`.
    fn of(rustc: &Path) -> Option<Self> {
        let sysroot = exec::output(plain(rustc).args(["--print", "sysroot"])).ok()?;
        let Version { release, llvm } = Version::of(rustc).ok()?;
        Some(Self {
            rustc: rustc.to_owned(),
            sysroot: PathBuf::from(sysroot.trim()),
            llvm,
            release,
        })
    }

    fn has_core_source(&self) -> bool {
        self.sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file()
    }

    /// Recent enough for the workspace, and of an LLVM that bpf-linker knows.
    fn is_suitable(&self) -> bool {
        let version = Version {
            release: self.release.clone(),
            llvm: self.llvm,
        };
        version.at_least(env!("CARGO_PKG_RUST_VERSION"))
            && linker::SUPPORTED_LLVM.contains(&self.llvm)
    }

    fn is_complete(&self) -> bool {
        self.is_suitable() && self.has_core_source()
    }
}

/// Finds or installs a compiler for the BPF object.
pub(crate) fn ensure(workspace: &Workspace, apt: &mut Apt<'_>) -> Result<Toolchain> {
    let toolchain = find_or_install(workspace, apt)?;
    ui::ok(format!(
        "rustc {} with core source, LLVM {}: {}",
        toolchain.release,
        toolchain.llvm,
        toolchain.rustc.display()
    ));
    Ok(toolchain)
}

fn find_or_install(workspace: &Workspace, apt: &mut Apt<'_>) -> Result<Toolchain> {
    if let Some(rustc) = env::var_os("LB_BPF_RUSTC").map(PathBuf::from) {
        return Toolchain::of(&rustc)
            .filter(Toolchain::is_complete)
            .ok_or_else(|| {
                exit::machine(format!(
                    "LB_BPF_RUSTC={} is not a rustc {} or newer of LLVM {:?} with rust-src",
                    rustc.display(),
                    env!("CARGO_PKG_RUST_VERSION"),
                    linker::SUPPORTED_LLVM,
                ))
            });
    }
    let present: Vec<Toolchain> = candidates(workspace)
        .filter(Toolchain::is_complete)
        .collect();
    let with_linker = present
        .iter()
        .find(|t| linker::find(workspace, t.llvm).is_some());
    if let Some(toolchain) = with_linker {
        return Ok(toolchain.clone());
    }
    for toolchain in present {
        if linker::is_buildable(apt, toolchain.llvm) {
            return Ok(toolchain);
        }
    }
    if let Some(toolchain) = fetch_source(workspace, apt) {
        return Ok(toolchain);
    }
    install_debian(apt)
}

fn candidates(workspace: &Workspace) -> impl Iterator<Item = Toolchain> {
    active(workspace)
        .into_iter()
        .chain(nightlies())
        .chain([PathBuf::from("/usr/bin/rustc")])
        .filter_map(|rustc| Toolchain::of(&rustc))
}

/// The rustc beside the cargo that runs us, which under rustup is the active toolchain's.
fn active(workspace: &Workspace) -> Option<PathBuf> {
    let rustc = workspace.cargo.parent()?.join("rustc");
    rustc.is_file().then_some(rustc)
}

/// Compilers of rustup's nightly toolchains, asked for by path: rustup's own proxies might
/// start to download.
fn nightlies() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    let Some(dir) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = dir
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("nightly"))
        })
        .map(|path| path.join("bin/rustc"))
        .filter(|rustc| rustc.is_file())
        .collect();
    found.sort();
    found
}

/// Adds rust-src to the active toolchain, if that would lead to a working pair.
fn fetch_source(workspace: &Workspace, apt: &mut Apt<'_>) -> Option<Toolchain> {
    let rustc = active(workspace)?;
    let toolchain = Toolchain::of(&rustc).filter(Toolchain::is_suitable)?;
    if linker::find(workspace, toolchain.llvm).is_none()
        && !linker::is_buildable(apt, toolchain.llvm)
    {
        return None;
    }
    if !components::add(workspace, &toolchain.sysroot, "rust-src") {
        ui::warn("rust-src is out of reach; Debian's rustc will do");
    }
    Some(toolchain).filter(Toolchain::is_complete)
}

fn install_debian(apt: &mut Apt<'_>) -> Result<Toolchain> {
    apt.install(
        &DEBIAN.map(str::to_owned),
        "a rustc with the source of core",
    )?;
    Toolchain::of(Path::new("/usr/bin/rustc"))
        .filter(Toolchain::is_complete)
        .ok_or_else(|| {
            exit::machine(format!(
                "no rustc for the BPF object: run `rustup component add rust-src` for a rustc {} \
                 or newer whose LLVM (see `rustc -vV`) is one of {:?}",
                env!("CARGO_PKG_RUST_VERSION"),
                linker::SUPPORTED_LLVM,
            ))
        })
}

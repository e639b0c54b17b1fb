//! The root that guests boot into: busybox, the programs and tests under trial with the
//! libraries they need, the network tools they call, and the kernel's modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::modules;
use super::packages::Unpacked;
use crate::exec;
use crate::ui;
use crate::workspace::{Workspace, which};

/// Directories of the root, parents first.
const DIRECTORIES: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "lb",
    "lb/bpf",
    "lb/debug",
    "lb/debug/deps",
    "lb/modules",
    "lb/objects",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "var",
];

/// Ours, of `<target>/debug`.
const PROGRAMS: &[&str] = &[
    "lb-controller",
    "lbctl",
    "lb-agent",
    "lb-conformance",
    "lb-load",
];

/// What the suite and the rows call, beyond busybox.
const TOOLS: &[&str] = &["ip", "tc", "bridge", "ethtool", "nft", "conntrack"];

/// What is not built into Debian's cloud kernels of what programs, tests and tools use. Some is
/// in one kernel and not in another.
const MODULES: &[&str] = &[
    "veth",
    "vxlan",
    "bridge",
    "sctp",
    "sch_ingress",
    "cls_bpf",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nft_ct",
    "nft_chain_nat",
    "nft_masq",
];

/// Writes the root for `kernel` to `to`; `packets` is the test program of the packet rows.
pub(super) fn write(
    workspace: &Workspace,
    kernel: &Unpacked,
    packets: &Path,
    to: &Path,
) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut root = Root {
        archive: Archive::new(BufWriter::new(file)),
        directories: BTreeSet::new(),
        libraries: BTreeSet::new(),
    };
    for directory in DIRECTORIES {
        root.directory(directory)?;
    }
    root.file("init", include_bytes!("init.sh"))?;
    root.file("lb/objects/objects.yaml", include_bytes!("objects.yaml"))?;
    root.file("lb/bpf/lb.o", &fs::read(workspace.bpf_object())?)?;
    for tool in ["busybox"].iter().chain(TOOLS) {
        let path = which(tool).with_context(|| format!("{tool} is not installed"))?;
        root.program(&format!("bin/{tool}"), &path)?;
    }
    let stripped = to.with_extension("stripped");
    for program in PROGRAMS {
        let built = workspace.target.join("debug").join(program);
        strip(&built, &stripped)?;
        root.program(&format!("lb/debug/{program}"), &stripped)?;
    }
    strip(packets, &stripped)?;
    root.program("lb/debug/deps/packets", &stripped)?;
    fs::remove_file(&stripped)?;
    root.libraries()?;
    root.modules(kernel)?;
    root.archive.finish()?;
    Ok(())
}

struct Root {
    archive: Archive<BufWriter<File>>,
    directories: BTreeSet<PathBuf>,
    libraries: BTreeSet<PathBuf>,
}

impl Root {
    /// Adds a directory and those above it.
    fn directory(&mut self, path: &str) -> Result<()> {
        let mut above: Vec<&Path> = Path::new(path).ancestors().collect();
        above.reverse();
        for directory in above {
            let name = directory.to_str().context("a path of ASCII")?;
            if !name.is_empty() && self.directories.insert(directory.to_owned()) {
                self.archive.directory(name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        Ok(self.archive.file(path, content)?)
    }

    /// Adds a program and remembers its libraries.
    fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, &content)?;
        // ldd fails for a program that needs none.
        let listed = exec::output(Command::new("ldd").arg(from)).unwrap_or_default();
        self.libraries.extend(libraries(&listed));
        Ok(())
    }

    /// Adds the libraries, each at its path here.
    fn libraries(&mut self) -> Result<()> {
        for library in std::mem::take(&mut self.libraries) {
            let content = fs::read(&library)?;
            let path = library.strip_prefix("/")?;
            let directory = path.parent().and_then(Path::to_str);
            self.directory(directory.context("a library in a directory")?)?;
            self.file(path.to_str().context("a path of ASCII")?, &content)?;
        }
        Ok(())
    }

    /// Adds modules in the order in which they go in, as `00-veth.ko`.
    fn modules(&mut self, kernel: &Unpacked) -> Result<()> {
        let directory = kernel.modules();
        let dependencies = fs::read_to_string(directory.join("modules.dep"))
            .context("cannot read what depmod has written")?;
        let (files, absent) = modules::resolve(&dependencies, MODULES);
        if !absent.is_empty() {
            ui::ok(format!("no module: {}", absent.join(" ")));
        }
        for (place, file) in files.iter().enumerate() {
            let content = module(&directory.join(file))?;
            let name = modules::name_of(file);
            self.file(&format!("lb/modules/{place:02}-{name}.ko"), &content)?;
        }
        Ok(())
    }
}

/// A module, unpacked: not every kernel unpacks them itself.
fn module(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(fs::read(file)?),
        Some("xz") => {
            let unpacked = Command::new("xz").arg("-dc").arg(file).output()?;
            anyhow::ensure!(unpacked.status.success(), "xz -dc {}", file.display());
            Ok(unpacked.stdout)
        }
        _ => bail!("{}: packed in an unknown way", file.display()),
    }
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    exec::output(Command::new("strip").arg("-o").arg(to).arg(from)).map(drop)
}

/// The files that ldd names.
fn libraries(listed: &str) -> Vec<PathBuf> {
    let words = listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let listed = "\
\tlinux-vdso.so.1 (0x00007f0f6d08c000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0f6c61e000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f0f6d08e000)
";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries(listed), expected.map(PathBuf::from));
        assert!(libraries("\tnot a dynamic executable\n").is_empty());
    }
}

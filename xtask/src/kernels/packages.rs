//! Kernels of other Debian releases: fetched by package name with package lists of their own,
//! so that this machine's stay as they are, and unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exec;
use crate::exit;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_mins(10);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel that the matrix knows.
pub(super) struct Kernel {
    /// Its series, as `--only` names it.
    pub(super) series: &'static str,
    /// Whether what fails on it fails the matrix.
    pub(super) required: bool,
    suite: &'static str,
    /// Label of the archive that has the suite.
    archive: &'static str,
    /// Packages, up to the release in their names; the first has the image.
    packages: &'static [&'static str],
}

const IMAGE: &[&str] = &["linux-image-"];

/// Oldest first.
pub(super) const KERNELS: [Kernel; 4] = [
    Kernel {
        series: "5.10",
        required: false,
        suite: "bullseye-security",
        archive: "Debian-Security",
        packages: IMAGE,
    },
    Kernel {
        series: "6.1",
        required: true,
        suite: "bookworm",
        archive: "Debian",
        packages: IMAGE,
    },
    Kernel {
        series: "6.12",
        required: true,
        suite: "trixie",
        archive: "Debian",
        packages: IMAGE,
    },
    Kernel {
        series: "7",
        required: false,
        suite: "sid",
        archive: "Debian",
        packages: &["linux-binary-", "linux-modules-"],
    },
];

impl Kernel {
    /// The Debian suite that it comes from.
    pub(super) fn suite(&self) -> &'static str {
        self.suite
    }
}

/// An unpacked kernel.
pub(super) struct Unpacked {
    /// What `uname -r` says.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The directory that `lib/modules` is in, for depmod.
    pub(super) base: PathBuf,
}

impl Unpacked {
    pub(super) fn modules(&self) -> PathBuf {
        self.base.join("lib/modules").join(&self.release)
    }
}

/// Fetches the newest kernel of a series that its suite has; one that is here already is kept
/// unless `update`.
pub(super) fn fetch(workspace: &Workspace, kernel: &Kernel, update: bool) -> Result<Unpacked> {
    let directory = workspace.target.join("kernels").join(kernel.series);
    let ready = directory.join("release");
    if !update && let Ok(release) = fs::read_to_string(&ready) {
        return unpacked(&directory, release);
    }
    let apt = Apt::new(workspace, kernel)?;
    let release = apt.newest(kernel)?;
    // What an earlier kernel left would be found beside this one.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    for package in kernel.packages {
        let file = apt.download(&format!("{package}{release}"), &directory)?;
        exec::output(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&file)
                .arg(&directory),
        )?;
        fs::remove_file(file)?;
    }
    let found = unpacked(&directory, release)?;
    exec::output(
        Command::new("depmod")
            .arg("-b")
            .arg(&found.base)
            .arg(&found.release),
    )?;
    fs::write(ready, &found.release)?;
    Ok(found)
}

/// Finds image and modules, which have moved from release to release.
fn unpacked(directory: &Path, release: String) -> Result<Unpacked> {
    let modules = |base: &Path| base.join("lib/modules").join(&release);
    let bases = [directory.to_owned(), directory.join("usr")];
    let base = bases.into_iter().find(|base| modules(base).is_dir());
    let base = base.with_context(|| format!("no modules in {}", directory.display()))?;
    let images = [
        directory.join(format!("boot/vmlinuz-{release}")),
        modules(&base).join("vmlinuz"),
    ];
    let image = images.into_iter().find(|image| image.is_file());
    let image = image.with_context(|| format!("no kernel in {}", directory.display()))?;
    Ok(Unpacked {
        release,
        image,
        base,
    })
}

/// apt with the lists of one suite, in a directory of its own.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(workspace: &Workspace, kernel: &Kernel) -> Result<Self> {
        let directory = workspace.target.join("kernels/apt").join(kernel.suite);
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let mirror = mirror(kernel.archive)?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {} main\n", kernel.suite);
        fs::write(directory.join("sources.list"), source)?;
        let apt = Self { directory };
        let log = workspace.logs().join("apt-kernels.log");
        let label = format!("package lists of {}", kernel.suite);
        exec::logged(apt.command("apt-get").arg("update"), &label, &log, LIMIT)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = self.directory.display();
        for option in [
            format!("Dir::Etc::sourcelist={place}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={place}/lists"),
            format!("Dir::Cache={place}/cache"),
            "Dir::State::status=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The newest release of the series among the packages of the suite.
    fn newest(&self, kernel: &Kernel) -> Result<String> {
        let prefix = kernel.packages[0];
        let listed = exec::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        newest(&listed, prefix, kernel.series).ok_or_else(|| {
            exit::machine(format!(
                "{} has no cloud kernel {}",
                kernel.suite, kernel.series
            ))
        })
    }

    /// Downloads a package into `to`; its file.
    fn download(&self, package: &str, to: &Path) -> Result<PathBuf> {
        exec::output(
            self.command("apt-get")
                .args(["download", package])
                .current_dir(to),
        )?;
        let begins = format!("{package}_");
        let mut files = fs::read_dir(to)?.filter_map(Result::ok);
        let file = files.find(|file| file.file_name().to_string_lossy().starts_with(&begins));
        Ok(file.context("apt-get left no package")?.path())
    }
}

/// Where this machine has the archive `label` from.
fn mirror(label: &str) -> Result<String> {
    let sources = exec::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Identifier: Packages",
        &format!("Label: {label}"),
    ]))?;
    let mirror = sources.lines().next().map(str::to_owned);
    mirror.ok_or_else(|| exit::machine(format!("apt has no source of the archive {label}")))
}

/// The newest release in `listed`, names of packages, of a cloud kernel of `series`.
fn newest(listed: &str, prefix: &str, series: &str) -> Option<String> {
    let releases = listed.lines().filter_map(|name| name.strip_prefix(prefix));
    let of_series = releases.filter(|release| {
        let rest = release.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with('.')) && release.ends_with("-cloud-amd64")
    });
    of_series
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
}

/// The numbers in a release, which sort as releases do.
fn numbers(release: &str) -> Vec<u64> {
    let parts = release.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_kernel_of_a_series_is_chosen() {
        let listed = "\
linux-image-6.1.0-9-cloud-amd64
linux-image-6.1.0-50-cloud-amd64
linux-image-6.1.0-0.deb11.52-cloud-amd64
linux-image-6.1.0-51-amd64
linux-image-6.1.0-51-cloud-amd64-unsigned
linux-image-6.12.3-cloud-amd64
linux-image-6.1-cloud-amd64
";
        let found = |series| newest(listed, "linux-image-", series);
        assert_eq!(found("6.1").as_deref(), Some("6.1.0-50-cloud-amd64"));
        assert_eq!(found("6.12").as_deref(), Some("6.12.3-cloud-amd64"));
        assert_eq!(found("5.10"), None);
    }

    #[test]
    fn each_series_is_listed_once_and_some_are_required() {
        let mut series: Vec<&str> = KERNELS.iter().map(|kernel| kernel.series).collect();
        series.dedup();
        assert_eq!(series.len(), KERNELS.len());
        assert!(KERNELS.iter().any(|kernel| kernel.required));
    }
}

//! A node to fail on, and what a failure looks like.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lb_integration::{
    Cluster, binaries,
    process::{Output, Process},
};
use tempfile::TempDir;

/// A node of its own, and a directory for manifests and kubeconfigs.
pub(crate) struct Stage {
    pub(crate) files: TempDir,
    pub(crate) cluster: Cluster,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::builder().nodes(1).build().unwrap();
        let files = tempfile::tempdir().unwrap();
        Self { files, cluster }
    }

    /// A file in the stage's directory.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// An empty directory of manifests.
    pub(crate) fn no_manifests(&self) -> PathBuf {
        let path = self.files.path().join("none");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A pin directory nobody uses.
    pub(crate) fn fresh_pins(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.cluster.node(0).pins().join(format!("pins-{number}"))
    }

    /// `lb-controller run` on this node with fresh pins, no manifests and servers off, but for
    /// what `options` say.
    pub(crate) fn run(&self, options: &[(&str, &dyn AsRef<OsStr>)]) -> Command {
        let node = self.cluster.node(0);
        let (pins, manifests) = (self.fresh_pins(), self.no_manifests());
        let defaults: [(&str, &dyn AsRef<OsStr>); 7] = [
            ("--node-name", &node.name()),
            ("--cgroup", &node.cgroup()),
            ("--bpffs", &pins),
            ("--source-files", &manifests),
            ("--healthz-bind-address", &""),
            ("--metrics-bind-address", &""),
            ("--log", &"warn"),
        ];
        let api = options.iter().any(|(name, _)| *name == "--kubeconfig");
        let given = |name: &str| options.iter().any(|(option, _)| *option == name);
        let kept = defaults
            .iter()
            .filter(|(name, _)| !(given(name) || api && *name == "--source-files"));
        let mut command = Command::new(binaries::find("lb-controller").unwrap());
        command.arg("run");
        for (name, value) in kept.chain(options) {
            command.arg(name).arg(value.as_ref());
        }
        command
    }

    /// The same on these manifests.
    pub(crate) fn run_files(&self, source: &Path) -> Command {
        self.run(&[("--source-files", &source)])
    }

    /// `lb-controller cleanup` of these pins.
    pub(crate) fn cleanup(pins: &Path) -> Command {
        let mut command = Command::new(binaries::find("lb-controller").unwrap());
        command.args(["cleanup", "--log", "warn"]);
        command.arg("--bpffs").arg(pins);
        command
    }

    /// Runs a command in the node's namespace, outside its cgroup, to its end.
    pub(crate) fn output(&self, command: Command) -> Output {
        let system = self.cluster.node(0).system();
        system.output(command, Duration::from_secs(20)).unwrap()
    }

    /// Starts a command there.
    pub(crate) fn spawn(&self, command: Command) -> Process {
        self.cluster.node(0).system().spawn(command).unwrap()
    }

    /// Runs a command that must fail with this code and one sentence with all these words.
    pub(crate) fn fails(&self, command: Command, code: i32, words: &[&str]) {
        let line = format!("{command:?}");
        let output = self.output(command);
        let ended = output.status.code();
        assert_eq!(ended, Some(code), "{line}: {}", output.stderr);
        assert_said(&output.stderr, words);
    }
}

/// A program has said one sentence with all these words.
pub(crate) fn assert_said(stderr: &str, words: &[&str]) {
    let sentence = the_sentence(stderr);
    for word in words {
        assert!(
            sentence.contains(word),
            "{word:?} is missing in {sentence:?}"
        );
    }
}

/// The one line of the program itself, beside its logs.
fn the_sentence(stderr: &str) -> &str {
    let own = |line: &&str| line.starts_with("lb-controller: ") || line.starts_with("lbctl: ");
    let lines: Vec<_> = stderr.lines().collect();
    let sentences: Vec<_> = lines.iter().copied().filter(own).collect();
    assert_eq!(sentences.len(), 1, "{stderr}");
    assert_eq!(lines.last(), sentences.last(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    sentences[0]
}

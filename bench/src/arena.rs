//! A cgroup, a directory of pins, network namespaces and a directory of files under one
//! unique name, removed on drop, on SIGINT and SIGTERM, and, after a SIGKILL, by the next
//! run.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use lb_controller::{
    config::ConntrackArgs,
    conntrack::{FlowSizes, Machine},
    datapath::{self, Network, Place},
    devices::{Inventory, Options},
    kernel::Features,
    loader::Cgroup,
    pins::Pins,
};
use lb_integration::{bpffs, cgroup, netns::Netns, prefix::Prefix, teardown};
use tokio::signal::unix::{SignalKind, signal};

/// See the module's documentation.
#[derive(Debug)]
pub struct Arena {
    prefix: Prefix,
    mount: PathBuf,
}

impl Arena {
    /// A new one, after sweeping what killed runs left behind.
    pub fn new() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this needs root");
        teardown::sweep().context("sweeping what dead runs left behind")?;
        bpffs::ensure_mounted()?;
        let arena = Self {
            prefix: Prefix::new()?,
            mount: cgroup::mount_point()?,
        };
        remove_on_signals(arena.prefix.clone());
        cgroup::create(&arena.mount.join(arena.prefix.as_str()))?;
        for dir in [arena.pins(""), arena.dir()] {
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        Ok(arena)
    }

    /// Directory for files.
    pub fn dir(&self) -> PathBuf {
        teardown::working_directory(&self.prefix)
    }

    /// Directory of pins of the node `name`.
    pub fn pins(&self, name: &str) -> PathBuf {
        Path::new(bpffs::MOUNT_POINT)
            .join(self.prefix.as_str())
            .join(name)
    }

    /// Makes the cgroup of the node `name`.
    pub fn cgroup(&self, name: &str) -> Result<PathBuf> {
        let path = self.mount.join(self.prefix.as_str()).join(name);
        cgroup::create(&path)?;
        Ok(path)
    }

    /// Makes a network namespace with its loopback up.
    pub fn netns(&self, name: &str) -> Result<Netns> {
        let mut made = Netns::create_all(&[format!("{}-{name}", self.prefix)])?;
        made.pop().context("no namespace was made")
    }

    /// Where a datapath of the node `name` lives, in the cgroup of that name.
    pub fn place(&self, name: &str) -> Result<Place> {
        let pins = self.pins(name);
        fs::create_dir_all(&pins)?;
        Ok(Place {
            pins: Pins::new(&pins),
            cgroup: Cgroup::open(&self.cgroup(name)?)?,
            features: Features::probe(),
            affinity_entries: 65_536,
            flow_sizes: FlowSizes::new(&ConntrackArgs::default(), Machine::current()),
            node_name: name.to_owned(),
            source: "files",
            network: Network::new(Options::default(), Inventory::default()),
        })
    }

    /// Detaches and removes the datapath of the node `name`.
    pub fn clean(&self, name: &str) -> Result<()> {
        datapath::cleanup(&Pins::new(&self.pins(name)))?;
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Err(error) = teardown::remove(&self.prefix) {
            eprintln!("cannot remove everything named {}: {error:#}", self.prefix);
        }
    }
}

fn remove_on_signals(prefix: Prefix) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::io::Result::Ok(())
        })?;
        let removed = teardown::remove(&prefix);
        eprintln!("interrupted; everything removed: {}", removed.is_ok());
        std::process::exit(130);
        #[expect(unreachable_code, reason = "gives the closure its type")]
        std::io::Result::Ok(())
    });
}

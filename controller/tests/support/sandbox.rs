//! A network namespace, a cgroup and a pin directory of a test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use lb_controller::{
    conntrack::FlowSizes,
    datapath::{Network, Place, cleanup},
    devices::{Inventory, Options},
    kernel::{Features, check_bpffs, find_cgroup2},
    loader::Cgroup,
    pins::Pins,
};
use nix::sched::{CloneFlags, unshare};

/// Everything is undone when this is dropped, also by a panic.
pub(crate) struct Sandbox {
    cgroup: PathBuf,
    /// The cgroup that this process came from.
    home: PathBuf,
    /// The root of its pins.
    pub(crate) pins: PathBuf,
}

impl Sandbox {
    /// The calling thread, and threads that it makes later, are in a new network
    /// namespace with nothing but a loopback device. `name` is of this test alone.
    pub(crate) fn new(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run as root");
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("iproute2").success());
        let name = format!("lb-{name}-{}", process::id());
        let root = find_cgroup2().expect("a cgroup v2 hierarchy");
        let own = fs::read_to_string("/proc/self/cgroup").expect("procfs");
        let home = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let sandbox = Self {
            cgroup: root.join(&name),
            home: root.join(home.expect("membership in cgroup v2")),
            pins: Path::new("/sys/fs/bpf").join(&name),
        };
        check_bpffs(&sandbox.pins).expect("a BPF file system at /sys/fs/bpf");
        fs::create_dir(&sandbox.cgroup).expect("a new cgroup");
        sandbox
    }

    /// Sockets that this process makes from now on belong to the cgroup.
    pub(crate) fn enter(&self) {
        move_to(&self.cgroup).expect("a cgroup of our own");
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            pins: Pins::new(&self.pins),
            cgroup: Cgroup::open(&self.cgroup).expect("our cgroup"),
            features: Features::probe(),
            affinity_entries: 1024,
            flow_sizes: FlowSizes {
                conntrack: 1024,
                half_open: 1024,
                fragments: 64,
            },
            node_name: "node-1".into(),
            source: "files",
            network: Network::new(Options::default(), Inventory::default()),
        }
    }
}

fn move_to(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string())
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let undone = [
            cleanup(&Pins::new(&self.pins)).map_err(|error| error.to_string()),
            fs::remove_dir(&self.pins).map_err(|error| error.to_string()),
            move_to(&self.home).map_err(|error| error.to_string()),
            fs::remove_dir(&self.cgroup).map_err(|error| error.to_string()),
        ];
        for error in undone.into_iter().filter_map(Result::err) {
            eprintln!("clean-up: {error}");
        }
    }
}

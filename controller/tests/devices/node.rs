//! A node: a network namespace with an uplink, a cgroup, pins, and a controller. The other
//! ends of its veths are in a namespace beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_controller::{
    kernel::{check_bpffs, find_cgroup2},
    maps::Access,
    pins::Pins,
};
use lb_ebpf::abi::StatusFlags;
use serde_json::Value;

const CONTROLLER: &str = env!("CARGO_BIN_EXE_lb-controller");
const LBCTL: &str = env!("CARGO_BIN_EXE_lbctl");

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything is undone when this is dropped, also by a panic.
pub(crate) struct Node {
    name: String,
    pub(crate) cgroup: PathBuf,
    pub(crate) pins: PathBuf,
    pub(crate) source: PathBuf,
    controller: Option<Child>,
}

impl Node {
    /// With `eth0` (172.30.0.11, fd00:30::11, a veth) as its uplink.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lb-devices-{}-{count}", process::id());
        let node = Self {
            cgroup: find_cgroup2().expect("a cgroup v2 hierarchy").join(&name),
            pins: Path::new("/sys/fs/bpf").join(&name),
            source: env::temp_dir().join(&name),
            name,
            controller: None,
        };
        check_bpffs(&node.pins).expect("a BPF file system at /sys/fs/bpf");
        for dir in [&node.cgroup, &node.pins, &node.source] {
            fs::create_dir(dir).expect("a directory of the test's own");
        }
        for namespace in [node.netns(), node.outside()] {
            run("ip", &["netns", "add", &namespace]);
            run("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
        }
        node.veth("eth0");
        node.ip("addr add 172.30.0.11/24 dev eth0");
        node.ip("addr add fd00:30::11/64 dev eth0 nodad");
        node.ip("route add default via 172.30.0.254");
        node
    }

    /// The name of its namespace.
    pub(crate) fn netns(&self) -> String {
        format!("{}-node", self.name)
    }

    fn outside(&self) -> String {
        format!("{}-outside", self.name)
    }

    /// Plugs in a veth whose other end is elsewhere.
    pub(crate) fn veth(&self, device: &str) {
        let outside = self.outside();
        self.ip(&format!(
            "link add {device} type veth peer name {device} netns {outside}"
        ));
        run("ip", &["-n", &outside, "link", "set", device, "up"]);
        self.ip(&format!("link set {device} up"));
    }

    /// Runs `ip` in the node; its output.
    pub(crate) fn ip(&self, words: &str) -> String {
        let netns = self.netns();
        let mut arguments = vec!["-n", &netns];
        arguments.extend(words.split(' '));
        run("ip", &arguments)
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns()));
        command.arg(program);
        command
    }

    /// Runs a program in the node to its end; its output.
    pub(crate) fn output(&self, program: &str, words: &str) -> String {
        let mut command = self.inside(program);
        output(command.args(words.split(' ').filter(|word| !word.is_empty())))
    }

    /// Starts a controller in place of the one that runs, which is killed; waits until it
    /// has taken over.
    pub(crate) fn start(&mut self, options: &str) {
        self.kill();
        let mut command = self.inside(CONTROLLER);
        command
            .args(["run", "--node-name", "n1", "--log", "warn"])
            .args(["--healthz-bind-address", "", "--metrics-bind-address", ""])
            .arg("--source-files")
            .arg(&self.source)
            .arg("--bpffs")
            .arg(&self.pins)
            .arg("--cgroup")
            .arg(&self.cgroup)
            .args(options.split(' ').filter(|word| !word.is_empty()))
            .stderr(Stdio::null());
        let child = command.spawn().expect("the controller starts");
        let pid = child.id();
        self.controller = Some(child);
        let pins = Pins::new(&self.pins);
        self.until("the controller has taken over", || {
            let (_, maps) = pins.current(Access::Read).ok()??;
            let status = maps.status.get(0);
            (status.pid == pid && status.flags & StatusFlags::SYNCED != 0).then_some(())
        });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.controller.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `lbctl status`, once there is something to show.
    fn status(&self) -> Option<Value> {
        let mut command = self.inside(LBCTL);
        command.args(["status", "-o", "json", "--bpffs"]);
        let output = command.arg(&self.pins).output().expect("lbctl runs");
        let answered = output.status.success();
        answered.then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// `name class tc xdp` of each device that `lbctl status` shows.
    pub(crate) fn devices(&self) -> Vec<String> {
        let status = self.status().unwrap_or_default();
        let devices = status["devices"].as_array().cloned().unwrap_or_default();
        let word = |device: &Value, key: &str| device[key].as_str().unwrap_or("?").to_owned();
        let row = |device: &Value| ["name", "class", "tc", "xdp"].map(|key| word(device, key));
        devices.iter().map(|device| row(device).join(" ")).collect()
    }

    /// What `lbctl status` says of one device.
    pub(crate) fn device(&self, name: &str) -> Value {
        let status = self.status().unwrap_or_default();
        let devices = status["devices"].as_array().cloned().unwrap_or_default();
        let mut found = devices.into_iter().filter(|device| device["name"] == name);
        found.next().unwrap_or_default()
    }

    /// Waits until `lbctl status` shows exactly these devices.
    pub(crate) fn shows(&self, wanted: &[&str]) {
        let mut seen = Vec::new();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            seen = self.devices();
            if seen == wanted {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{seen:?} instead of {wanted:?}");
    }

    /// Waits for an answer.
    pub(crate) fn until<T>(&self, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(answer) = answer() {
                return answer;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: not within {PATIENCE:?}; {:?}", self.status());
    }

    /// The directory of all pins.
    pub(crate) fn pinned(&self) -> PathBuf {
        Pins::new(&self.pins).dir().to_path_buf()
    }

    /// Runs a line of shell in the node; its output.
    pub(crate) fn shell(&self, line: &str) -> String {
        output(self.inside("sh").args(["-c", line]))
    }

    /// Kills the controller and runs `lb-controller cleanup`.
    pub(crate) fn clean(&mut self) {
        self.kill();
        let mut command = self.inside(CONTROLLER);
        output(
            command
                .args(["cleanup", "--log", "warn", "--bpffs"])
                .arg(&self.pins),
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.pins);
        let _ = fs::remove_dir_all(&self.source);
        for namespace in [self.netns(), self.outside()] {
            let mut command = Command::new("ip");
            let _ = command.args(["netns", "del", &namespace]).output();
        }
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    output(Command::new(program).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

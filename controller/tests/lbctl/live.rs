//! A datapath in force: `lb-controller` on files, and `lbctl` beside it.
//!
//! Needs root, a BPF file system, cgroup v2 and a controller built with its BPF object;
//! without root or the object the test says so and does nothing.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lb_controller::{conntrack::Clock, exit::Exit, kernel, maps::Access, pins::Pins};
use lb_ebpf::abi::{
    Addr, ConntrackEntry, ConntrackFlags, ConntrackKey, ConntrackState, Lifetime, NextHop, Port,
};
use serde_json::Value;

const CONTROLLER: &str = env!("CARGO_BIN_EXE_lb-controller");
const LBCTL: &str = env!("CARGO_BIN_EXE_lbctl");
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- addresses: [127.0.0.1]
  nodeName: n1
  zone: zone-a
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec:
  clusterIP: 10.96.0.11
  clusterIPs: [10.96.0.11]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, protocol: TCP}]
";

/// A node of its own: pin directory, cgroup, manifests, controller.
pub(crate) struct Node {
    bpffs: PathBuf,
    cgroup: PathBuf,
    pub(crate) manifests: PathBuf,
    controller: Option<Child>,
}

impl Node {
    /// `None`, with the reason printed, where this cannot run.
    pub(crate) fn new(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: not root");
            return None;
        }
        let unique = format!("lbctl-test-{name}-{}", std::process::id());
        let cgroups = kernel::find_cgroup2().expect("a cgroup v2 hierarchy is mounted");
        let node = Self {
            bpffs: Path::new("/sys/fs/bpf").join(&unique),
            cgroup: cgroups.join(&unique),
            manifests: env::temp_dir().join(&unique),
            controller: None,
        };
        for dir in [&node.bpffs, &node.cgroup, &node.manifests] {
            fs::create_dir(dir).expect("a directory of the test's own");
        }
        fs::write(node.manifests.join("base.yaml"), MANIFESTS).expect("a manifest");
        Some(node)
    }

    /// `false`, with the reason printed, if the controller has no BPF object.
    pub(crate) fn start(&mut self) -> bool {
        // In a network namespace of its own: it attaches programs to devices.
        let mut command = Command::new("unshare");
        command
            .args(["--net", CONTROLLER, "run"])
            .args(["--node-name", "n1", "--healthz-bind-address", ""])
            .args(["--metrics-bind-address", "", "--log", "warn"])
            .arg("--source-files")
            .arg(&self.manifests)
            .arg("--bpffs")
            .arg(&self.bpffs)
            .arg("--cgroup")
            .arg(&self.cgroup);
        self.controller = Some(command.spawn().expect("the controller starts"));
        let started = Instant::now();
        loop {
            let child = self.controller.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("a child of ours") {
                assert_eq!(status.code(), Some(1), "the controller ended: {status}");
                println!("skipped: lb-controller was built without its BPF object");
                return false;
            }
            let status = self.lbctl(&["status", "-o", "json"]);
            if status.status.success() && json(&status)["sync"]["state"] == "synced" {
                return true;
            }
            assert!(started.elapsed() < PATIENCE, "never synced: {status:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn lbctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(LBCTL);
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        command.output().expect("lbctl runs")
    }

    /// Standard output of a call that succeeds.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.lbctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs a shell in the node's cgroup and in a network namespace of its own.
    fn client(&self, script: &str) {
        let procs = self.cgroup.join("cgroup.procs");
        let script = format!(
            "echo $$ > {} && ip link set lo up && {{ {script}; }}",
            procs.display()
        );
        let mut command = Command::new("unshare");
        command
            .args(["--net", "bash", "-c", &script])
            .stderr(Stdio::null());
        command.output().expect("unshare runs");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.controller.take() {
            child
                .kill()
                .and_then(|()| child.wait())
                .expect("a child of ours");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let cleaned = Command::new(CONTROLLER)
            .args(["cleanup", "--log", "warn", "--bpffs"])
            .arg(&self.bpffs)
            .status();
        println!("cleanup: {cleaned:?}");
        let _ = fs::remove_dir_all(&self.manifests);
        for dir in [&self.bpffs, &self.cgroup] {
            if let Err(error) = fs::remove_dir(dir) {
                println!("{} stays: {error}", dir.display());
            }
        }
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn connections_of_clients_are_shown_and_outlive_the_controller() {
    let Some(mut node) = Node::new("life") else {
        return;
    };
    let before = node.lbctl(&["list"]);
    assert_eq!(before.status.code(), Some(Exit::NothingProgrammed as i32));
    assert_eq!(String::from_utf8_lossy(&before.stderr).lines().count(), 1);
    if !node.start() {
        return;
    }
    node.client("(exec 3<>/dev/tcp/10.96.0.10/80); (exec 3<>/dev/tcp/10.96.0.11/80); true");

    let services = json(&node.lbctl(&["list", "--by-service", "-o", "json"]));
    let [empty, web] = [0, 1].map(|index| &services["services"][index]["ports"][0]);
    assert_eq!(empty["counters"]["refused"], 1);
    assert_eq!(empty["frontends"][0]["new_connections"], "refused");
    assert_eq!(web["counters"]["opened"], 1);
    let backend = &web["backends"][0];
    assert_eq!(backend["address"], "127.0.0.1");
    assert_eq!(backend["state"], "ready");
    assert_eq!(backend["node_local"], true);
    assert_eq!(backend["zone"], "zone-a");
    assert_eq!(
        (&backend["opened"], &backend["active"]),
        (&1.into(), &0.into())
    );

    let status = json(&node.lbctl(&["status", "-o", "json"]));
    assert_eq!(status["healthy"], true, "{status}");
    let pid = node.controller.as_ref().map(Child::id);
    assert_eq!(status["controller"]["pid"].as_u64(), pid.map(u64::from));
    let cgroup = node.cgroup.display().to_string();
    for program in status["programs"].as_array().expect("programs") {
        assert_eq!(program["state"], "attached");
        assert_eq!(program["cgroup"], cgroup.as_str());
    }

    let (list, dump) = (node.text(&["list"]), node.text(&["dump"]));
    node.kill();
    assert_eq!(node.text(&["list"]), list);
    assert_eq!(node.text(&["dump"]), dump);
    let status = json(&node.lbctl(&["status", "-o", "json"]));
    assert_eq!(status["controller"]["running"], false);
    assert_eq!(status["healthy"], false);
}

#[test]
fn unprivileged_callers_learn_what_they_lack() {
    let Some(mut node) = Node::new("plain") else {
        return;
    };
    if !node.start() {
        return;
    }
    let copy = node.manifests.join("lbctl");
    // By another process: while this one has the copy open, one that another test starts
    // may inherit it, and a file open for writing cannot be run.
    let copied = Command::new("cp").arg(LBCTL).arg(&copy).status();
    let copied = copied.expect("cp runs");
    assert!(copied.success(), "a copy that everybody may run");
    let mut command = Command::new(&copy);
    command
        .arg("--bpffs")
        .arg(&node.bpffs)
        .arg("list")
        .uid(65534)
        .gid(65534);
    let output = command.output().expect("lbctl runs");
    assert_eq!(
        output.status.code(),
        Some(Exit::Privileges as i32),
        "{output:?}"
    );
}

#[test]
fn equal_nodes_have_equal_dumps_and_reads_survive_growing_maps() {
    let (Some(mut one), Some(mut other)) = (Node::new("one"), Node::new("other")) else {
        return;
    };
    if !one.start() || !other.start() {
        return;
    }
    for dump in ["--canonical", "--raw"] {
        assert_eq!(one.text(&["dump", dump]), other.text(&["dump", dump]));
    }

    // More Services than the first maps hold: the controller swaps in larger ones.
    let many: String = (0..4200).map(service).collect();
    fs::write(one.manifests.join("many.tmp"), many).expect("manifests");
    fs::rename(
        one.manifests.join("many.tmp"),
        one.manifests.join("many.yaml"),
    )
    .expect("rename");
    let started = Instant::now();
    loop {
        let dump: Value = serde_json::from_str(&one.text(&["dump", "-o", "json"])).expect("JSON");
        let services = dump["services"].as_array().expect("services").len();
        let status = json(&one.lbctl(&["status", "-o", "json"]));
        if services == 4202 && status["pins"]["epoch"].as_u64() > Some(1) {
            assert_eq!(dump["inconsistencies"], Value::Array(Vec::new()));
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{services} services; {status}"
        );
    }
}

fn service(index: u32) -> String {
    let ip = format!("10.97.{}.{}", index / 250, index % 250 + 1);
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{index}, namespace: many}}\nspec: \
         {{clusterIP: {ip}, clusterIPs: [{ip}], ipFamilies: [IPv4], ports: [{{port: 80, protocol: \
         TCP}}]}}\n"
    )
}

#[test]
fn flushed_flows_are_gone_in_both_directions_and_others_stay() {
    let Some(mut node) = Node::new("flush") else {
        return;
    };
    if !node.start() {
        return;
    }
    let pins = Pins::new(&node.bpffs);
    let (_, maps) = pins
        .current(Access::Write)
        .expect("readable")
        .expect("maps");
    let now = Clock::new([0; Lifetime::COUNT]).now;
    for (client, table) in [
        ("198.51.100.7", &maps.conntrack),
        ("198.51.100.8", &maps.conntrack),
        ("198.51.100.7", &maps.half_open),
    ] {
        for (key, entry) in flow(client, table.max_entries(), now) {
            assert!(table.insert_new(&key, &entry).expect("writable"));
        }
    }
    let flows = |node: &Node| {
        let answer = json(&node.lbctl(&["conntrack", "list", "-o", "json"]));
        answer["flows"].as_array().expect("flows").len()
    };
    assert_eq!(flows(&node), 3);
    let status = json(&node.lbctl(&["status", "-o", "json"]));
    let fills = status["maps"].as_array().expect("maps");
    let fill = fills.iter().find(|map| map["name"] == "CONNTRACK");
    assert_eq!(fill.expect("it is listed")["used"], 4);

    let refused = node.lbctl(&["conntrack", "flush"]);
    assert_eq!(refused.status.code(), Some(Exit::Usage as i32));
    assert_eq!(flows(&node), 3);
    let flushed = node.text(&["conntrack", "flush", "--client", "198.51.100.7"]);
    assert_eq!(flushed, "2 flows forgotten\n");
    assert_eq!(flows(&node), 1);
    assert_eq!(maps.conntrack.dump().expect("readable").len(), 2);
    let flushed = json(&node.lbctl(&["conntrack", "flush", "--all", "-o", "json"]));
    assert_eq!(flushed["deleted"], 1);
    let again = node.lbctl(&["affinity", "flush", "--all"]);
    assert_eq!(again.stdout, b"0 clients forgotten\n");
    assert!(again.status.success());
}

/// Both halves of a proven flow; `number` tells flows of one client apart.
fn flow(client: &str, number: u32, now: u32) -> [(ConntrackKey, ConntrackEntry); 2] {
    let addr = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().expect("an address"));
    let key = ConntrackKey {
        src: addr(client),
        dst: addr("192.0.2.40"),
        src_port: Port::new(number as u16 ^ (number >> 16) as u16),
        dst_port: Port::new(80),
        protocol: 6,
        reserved: [0; 3],
    };
    let entry = ConntrackEntry {
        src: key.src,
        dst: addr("10.244.0.5"),
        src_port: key.src_port,
        dst_port: Port::new(8080),
        flags: ConntrackFlags::INITIATOR,
        state: ConntrackState::REPLIED | ConntrackState::ESTABLISHED,
        last_seen: now,
        created: now,
        service_id: 0,
        slot: 0,
        generation: 0,
        proof: 0,
        proof_end: 0,
        seal: 0,
        hop: NextHop::UNKNOWN,
        mtu: 0,
    }
    .sealed(&key);
    [(key, entry), entry.mirror(&key)]
}

//! A controller that cannot start.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use lb_ebpf::abi::ABI_VERSION;
use lb_integration::{binaries, patience::becomes};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use super::stage::{Stage, assert_said};

#[test]
fn malformed_manifests_exit_3_and_name_file_line_and_field() {
    let stage = Stage::new();
    let wrong_type = stage.file(
        "port.yaml",
        "kind: Service\napiVersion: v1\nmetadata: {name: web}\nspec: {ports: [{port: http}]}\n",
    );
    let words = [
        "port.yaml",
        "line 1",
        "Service default/web",
        "spec.ports[0].port",
        "\"http\"",
    ];
    stage.fails(stage.run_files(&wrong_type), 3, &words);
    let no_yaml = stage.file("broken.yaml", "kind: Service\nmetadata: [\n");
    stage.fails(stage.run_files(&no_yaml), 3, &["broken.yaml", "line 3"]);
    let no_text = stage.file("binary.yaml", [0xff, 0xfe, 0, 1]);
    stage.fails(
        stage.run_files(&no_text),
        3,
        &["binary.yaml", "not UTF-8 text"],
    );
    let no_json = stage.file("list.json", "{\"kind\": \"List\", \"items\": [}");
    stage.fails(stage.run_files(&no_json), 3, &["list.json", "line 1"]);
    let no_object = stage.file("values.yaml", "replicas: 3\n");
    stage.fails(
        stage.run_files(&no_object),
        3,
        &["values.yaml", "has no kind"],
    );
}

#[test]
fn paths_without_manifests_exit_3() {
    let stage = Stage::new();
    let absent = stage.files.path().join("absent");
    stage.fails(
        stage.run_files(&absent),
        3,
        &["cannot read", "absent", "No such file"],
    );
}

#[test]
fn unusable_kubeconfigs_exit_4_and_say_why() {
    let stage = Stage::new();
    let with =
        |name: &str, content: &str| stage.run(&[("--kubeconfig", &stage.file(name, content))]);
    let absent = stage.run(&[("--kubeconfig", &stage.files.path().join("absent"))]);
    stage.fails(absent, 4, &["kubeconfig", "absent", "No such file"]);
    stage.fails(with("no-yaml", "{"), 4, &["no-yaml", "line 1"]);
    stage.fails(with("empty", ""), 4, &["empty", "current context"]);
    let cluster = |fields: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: a, \
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
             users: [{{name: a, user: {{}}}}], clusters: [{{name: a, cluster: {{{fields}}}}}]}}"
        )
    };
    let no_authority =
        cluster("server: 'https://192.0.2.1', certificate-authority: /nowhere/ca.crt");
    stage.fails(
        with("authority", &no_authority),
        4,
        &["authority", "/nowhere/ca.crt", "No such file"],
    );
    let no_base64 = cluster("server: 'https://192.0.2.1', certificate-authority-data: '!'");
    stage.fails(
        with("base64", &no_base64),
        4,
        &["certificate authority", "base64"],
    );
    let no_url = cluster("server: 'not a url'");
    stage.fails(with("url", &no_url), 4, &["url"]);
}

#[test]
fn pins_outside_of_a_bpffs_exit_5() {
    let stage = Stage::new();
    let words = ["not on a BPF file system", "mount -t bpf", "--bpffs"];
    let command = stage.run(&[("--bpffs", &stage.files.path())]);
    stage.fails(command, 5, &words);
    // What only looks like pins is not removed.
    let lookalike = versioned(stage.files.path()).join("links");
    std::fs::create_dir_all(&lookalike).unwrap();
    stage.fails(Stage::cleanup(stage.files.path()), 5, &words);
    assert!(lookalike.exists());
}

#[test]
fn cgroups_that_are_no_cgroup2_directory_exit_6() {
    let stage = Stage::new();
    let procs = stage.cluster.node(0).cgroup().join("cgroup.procs");
    for path in [stage.files.path(), "/nowhere".as_ref(), &procs] {
        let command = stage.run(&[("--cgroup", &path)]);
        let path = path.display().to_string();
        stage.fails(
            command,
            6,
            &[&path, "not a cgroup v2 directory", "--cgroup"],
        );
    }
}

#[test]
fn every_missing_capability_exits_8_by_name() {
    let stage = Stage::new();
    let drop_and = |capabilities: &str, mut command: Command| {
        let mut all = Command::new("setpriv");
        let sets = ["--bounding-set", "--inh-caps"];
        all.args(sets.iter().flat_map(|set| [set, capabilities]));
        all.arg(command.get_program()).args(command.get_args());
        std::mem::swap(&mut command, &mut all);
        command
    };
    let run = || stage.run_files(&stage.no_manifests());
    let all = [
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_NET_ADMIN",
        "too few privileges",
    ];
    stage.fails(drop_and("-all", run()), 8, &all);
    stage.fails(
        drop_and("-net_admin", run()),
        8,
        &["missing CAP_NET_ADMIN;"],
    );
    stage.fails(drop_and("-sys_admin,-bpf", run()), 8, &["missing CAP_BPF;"]);
    let pins = stage.fresh_pins();
    stage.fails(drop_and("-all", Stage::cleanup(&pins)), 8, &all);
}

#[test]
fn seccomp_profile_that_forbids_bpf_exits_8_by_name() {
    let stage = Stage::new();
    let mut command = stage.run_files(&stage.no_manifests());
    // A child may do what the thread may that makes it: one of this thread's own.
    let output = std::thread::scope(|scope| {
        let filtered = || {
            apply_filter(&without_bpf()).unwrap();
            command.output().unwrap()
        };
        scope.spawn(filtered).join().unwrap()
    });
    assert_eq!(output.status.code(), Some(8));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_said(&stderr, &["bpf(2)", "seccomp profile", "Unconfined"]);
}

/// bpf(2) fails with EPERM, as in containers; everything else is allowed.
fn without_bpf() -> BpfProgram {
    let filter = SeccompFilter::new(
        [(nix::libc::SYS_bpf, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(nix::libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    filter.unwrap().try_into().unwrap()
}

#[test]
fn kernels_before_5_10_exit_9() {
    let stage = Stage::new();
    let mut command = stage.run_files(&stage.no_manifests());
    command.env("LB_TEST_KERNEL_RELEASE", "5.4.0-150-generic");
    stage.fails(command, 9, &["5.4.0-150-generic", "Linux 5.10 or newer"]);
}

#[test]
fn programs_that_cannot_be_attached_exit_10_and_name_the_obstacle() {
    let stage = Stage::new();
    let pins = stage.fresh_pins();
    let obstacle = versioned(&pins).join("links/lb_connect4");
    std::fs::create_dir_all(&obstacle).unwrap();
    let words = ["lb_connect4", "cannot"];
    stage.fails(stage.run(&[("--bpffs", &pins)]), 10, &words);
    // The reason gone, the next start works.
    std::fs::remove_dir(&obstacle).unwrap();
    let mut controller = stage.spawn(stage.run(&[("--bpffs", &pins)]));
    becomes("the attachment", || obstacle.is_file());
    controller.kill();
}

#[test]
fn listening_addresses_that_are_taken_exit_11_if_that_is_asked_for() {
    let stage = Stage::new();
    let node = stage.cluster.node(0);
    let taken = node.netns().run(|| TcpListener::bind("127.0.0.1:0"));
    let taken = taken.unwrap().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--healthz-bind-address", "--metrics-bind-address"] {
        let mut command = stage.run(&[(option, &address)]);
        command.arg("--bind-address-hard-fail");
        stage.fails(command, 11, &["cannot listen at", &address, "in use"]);
    }
}

#[test]
fn wrong_usage_exits_2() {
    let stage = Stage::new();
    let code = |arguments: &[&str]| {
        let mut command = Command::new(binaries::find("lb-controller").unwrap());
        command.args(arguments);
        let output = stage.output(command);
        assert!(!output.stderr.is_empty() && !output.stderr.contains("panicked"));
        output.status.code()
    };
    assert_eq!(code(&["rum"]), Some(2));
    assert_eq!(
        code(&["run", "--source-files", "a", "--kubeconfig", "b"]),
        Some(2)
    );
    assert_eq!(code(&["run", "--batch-window", "5"]), Some(2));
    assert_eq!(code(&["run", "--log", "lb=loud"]), Some(2));
    let nameless = stage.run(&[("--node-name", &" ")]);
    stage.fails(nameless, 2, &["node", "empty", "--node-name"]);
    let by_name = stage.run(&[("--healthz-bind-address", &"localhost")]);
    stage.fails(by_name, 2, &["\"localhost\"", "IP:PORT"]);
}

#[test]
fn second_controllers_and_cleanups_beside_one_exit_7_until_it_ends() {
    let stage = Stage::new();
    let pins = stage.fresh_pins();
    let run = || stage.run(&[("--bpffs", &pins)]);
    let mut first = stage.spawn(run());
    let links = versioned(&pins).join("links/lb_connect6");
    let attached = || links.exists();
    becomes("the first controller", attached);
    let words = ["another lb-controller", pins.to_str().unwrap()];
    stage.fails(run(), 7, &words);
    stage.fails(Stage::cleanup(&pins), 7, &words);
    assert!(attached(), "a refused cleanup removes nothing");
    first.kill();
    // The lock dies with its holder.
    assert!(stage.output(Stage::cleanup(&pins)).status.success());
    assert!(!versioned(&pins).exists());
}

#[test]
fn lbctl_where_nothing_is_programmed_exits_12() {
    let stage = Stage::new();
    for command in [&["status"][..], &["list"], &["dump", "--canonical"]] {
        let mut lbctl = Command::new(binaries::find("lbctl").unwrap());
        lbctl.arg("--bpffs").arg(stage.fresh_pins()).args(command);
        stage.fails(lbctl, 12, &["nothing is programmed on this node"]);
    }
}

/// The directory of this version below a pin directory.
fn versioned(pins: &Path) -> PathBuf {
    pins.join(format!("abi{ABI_VERSION}"))
}

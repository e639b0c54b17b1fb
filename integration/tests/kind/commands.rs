//! Creating and deleting clusters.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use lb_integration::{
    binaries,
    cluster::Families,
    kind::{
        Invocation, KindCluster, Runner,
        cluster::Options,
        commands::{Kubectl, ObjectPath},
        config, pod,
        tools::{Missing, missing},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Recorder;

fn config_of(families: Families, image: Option<&str>) -> Value {
    serde_norway::from_str(&config::cluster(families, image).unwrap()).unwrap()
}

#[test]
fn clusters_have_no_kube_proxy_and_three_workers_in_three_zones() {
    let config = config_of(Families::Dual, Some("kindest/node:v1.36.2"));
    assert_eq!(config["networking"]["kubeProxyMode"], "none");
    let nodes = config["nodes"].as_array().unwrap();
    let zones: Vec<&str> = nodes
        .iter()
        .filter(|node| node["role"] == "worker")
        .filter_map(|node| node["labels"]["topology.kubernetes.io/zone"].as_str())
        .collect();
    assert_eq!(zones, ["zone-1", "zone-2", "zone-3"]);
    assert_eq!(nodes.len(), 4);
    assert!(
        nodes
            .iter()
            .all(|node| node["image"] == "kindest/node:v1.36.2")
    );
}

#[test]
fn subnets_are_those_of_the_families_in_use() {
    let networking = |families| config_of(families, None)["networking"].clone();
    let dual = networking(Families::Dual);
    assert_eq!(dual["ipFamily"], "dual");
    assert_eq!(dual["serviceSubnet"], "10.96.0.0/16,fd00:10:96::/112");
    let v6 = networking(Families::V6);
    assert_eq!(
        (&v6["ipFamily"], &v6["serviceSubnet"]),
        (&"ipv6".into(), &"fd00:10:96::/112".into())
    );
    assert_eq!(networking(Families::V4)["podSubnet"], "10.244.0.0/16");
}

/// What making a cluster called `t` runs.
const UP: [&str; 5] = [
    "kind create cluster --name t --config -",
    "kind load image-archive target/image.tar --name t",
    "kubectl apply --server-side --force-conflicts -f -",
    "kubectl apply -k manifests",
    "kubectl -n kube-system rollout status daemonset/lb --timeout=5m",
];

#[test]
fn a_cluster_is_created_loaded_and_given_lb_before_anything_waits_for_services() {
    let recorder = Arc::new(Recorder::default());
    let options = Options {
        name: "t".to_owned(),
        families: Families::Dual,
        node_image: None,
        archive: "target/image.tar".into(),
        manifests: "manifests".into(),
    };
    let runner: Arc<dyn Runner> = recorder.clone();
    let cluster = KindCluster::create(runner, &options).unwrap();
    let address = recorder.seen.lock().unwrap()[2].input.clone();
    let address: Value = serde_json::from_str(&address).unwrap();
    assert_eq!(address["data"]["host"], "t-control-plane");
    assert_eq!(recorder.lines(), UP);
    cluster.restart_proxies().unwrap();
    cluster.delete().unwrap();
    assert_eq!(
        recorder.lines(),
        [
            "kubectl -n kube-system delete pods -l app.kubernetes.io/name=lb",
            "kubectl -n kube-system rollout status daemonset/lb --timeout=5m",
            "kind delete cluster --name t",
        ]
    );
}

#[test]
fn the_first_missing_tool_is_named() {
    let has = |names: &'static [&'static str]| {
        move |program: &str| names.contains(&program).then(|| PathBuf::from(program))
    };
    let engine = || Ok(());
    let said = missing(has(&["docker", "kubectl"]), engine)
        .unwrap()
        .to_string();
    assert!(said.starts_with("kind is not on PATH"), "{said}");
    let said = missing(has(&["kind", "docker"]), engine)
        .unwrap()
        .to_string();
    assert!(said.starts_with("kubectl is not on PATH"), "{said}");
    let all = &["kind", "kubectl", "docker"];
    assert_eq!(missing(has(all), engine), None);
    let reason = "no daemon".to_owned();
    let dead = missing(has(all), || Err("no daemon".to_owned()));
    assert_eq!(dead, Some(Missing::Engine { reason }));
}

/// Every form of command line for `kubectl` that the back end uses.
fn of_kubectl() -> Vec<Invocation> {
    let kubectl = Kubectl::new("t");
    let at = ObjectPath {
        kind: "pod",
        namespace: "n",
        name: "p",
    };
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let file = std::env::temp_dir().join("lb-kind-never-copied");
    vec![
        kubectl.apply(&object),
        kubectl.apply_kustomization(&manifests),
        kubectl.rollout("n", "lb"),
        kubectl.patch(&at, false, &pod::relabel([], [])),
        kubectl.patch(&at, true, &pod::gate(true)),
        kubectl.get(&at),
        kubectl.list("nodes"),
        kubectl.show("n", "services,endpointslices,pods"),
        kubectl.delete(&at),
        kubectl.end_pod("n", "p", 0),
        kubectl.end_pod("n", "p", 30),
        kubectl.wait("n", "p", "condition=ContainersReady", 1),
        kubectl.wait("n", "p", "delete", 1),
        kubectl.delete_namespace("n"),
        kubectl.delete_labelled("n", "a=b"),
        kubectl.exec("n", "p", &["lb-agent", "control"]),
        kubectl.logs("n", "a=b", 15),
        kubectl.copy_from("n", "p", "/f", &file),
    ]
}

/// Runs it; what it wrote to standard error.
fn complaint(invocation: &Invocation, kubeconfig: &Path) -> String {
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.arguments)
        .env("KUBECONFIG", kubeconfig);
    command.env_remove("DOCKER_HOST").stdin(Stdio::piped());
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended before it reads.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(invocation.input.as_bytes());
    said(&child.wait_with_output().unwrap())
}

#[test]
fn kubectl_understands_every_command_line_and_fails_only_for_want_of_a_server() {
    if Command::new("kubectl").arg("help").output().is_err() {
        eprintln!("skipped: kubectl is not on PATH");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "kind-t", "context": { "cluster": "c", "user": "u" } }],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    for invocation in of_kubectl() {
        let said = complaint(&invocation, &kubeconfig);
        assert!(said.contains("refused"), "{invocation}: {said}");
    }
}

/// Programs on a PATH of their own that note how they are called.
struct Played {
    directory: TempDir,
}

impl Played {
    /// `docker` says this and ends so.
    fn new(programs: &[&str], docker: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for program in programs {
            let path = directory.path().join(program);
            let last = if *program == "docker" {
                docker
            } else {
                "exit 0"
            };
            let log = directory.path().join("log").display().to_string();
            let script = format!("#!/bin/sh\necho \"{program} $*\" >> {log}\n{last}\n");
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { directory }
    }

    fn lb_kind(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binaries::find("lb-kind").unwrap());
        command.args(arguments).env("PATH", self.directory.path());
        command.output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn lb_kind_runs_what_its_dry_run_prints() {
    let dry = Played::new(&[], "");
    let output = dry.lb_kind(&["up", "--name", "t", "--dry-run"]);
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8_lossy(&output.stdout).replace(" --context kind-t", "");
    assert_eq!(printed.lines().collect::<Vec<_>>(), UP);

    let played = Played::new(&["kind", "kubectl", "docker"], "exit 0");
    let output = played.lb_kind(&["up", "--name", "t"]);
    assert!(output.status.success(), "{}", said(&output));
    let log = played.log().replace(" --context kind-t", "");
    let ran: Vec<&str> = log
        .lines()
        .filter(|line| !line.starts_with("docker "))
        .collect();
    assert_eq!(ran, UP);
}

#[test]
fn lb_kind_exits_2_without_kind_and_without_an_engine() {
    let without_kind = Played::new(&["kubectl", "docker"], "exit 0").lb_kind(&["up"]);
    assert_eq!(without_kind.status.code(), Some(2));
    assert!(said(&without_kind).contains("kind is not on PATH"));
    let dead = Played::new(
        &["kind", "kubectl", "docker"],
        "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
    );
    let output = dead.lb_kind(&["up"]);
    assert_eq!(output.status.code(), Some(2));
    let words = "docker answers, but no engine: Cannot connect to the Docker daemon";
    assert!(said(&output).contains(words), "{}", said(&output));
    assert!(!dead.log().contains("kind "), "{}", dead.log());
}

#[test]
fn lb_kind_exits_3_with_the_command_that_failed() {
    let played = Played::new(&["kubectl", "docker"], "exit 0");
    let path: &Path = &played.directory.path().join("kind");
    fs::write(path, "#!/bin/sh\necho 'node is gone' >&2\nexit 4\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = played.lb_kind(&["down", "--name", "t"]);
    assert_eq!(output.status.code(), Some(3));
    for word in ["kind delete cluster --name t", "node is gone"] {
        assert!(said(&output).contains(word), "{}", said(&output));
    }
}

//! The deployment of `manifests/`, tried: the controller asks the API server for what its role
//! grants, and works with the capabilities of its container, on a node that `prepare` has made
//! ready. What can be checked without running anything is in the controller's own tests.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Container, rbac::v1::ClusterRole};
use lb_integration::{
    Cluster,
    agent::socket::Protocol,
    apiserver::RequestRecord,
    binaries,
    cluster::Node,
    process::Process,
    proxy::{ProxyUnderTest, Source},
    scene::Scene,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/lb")
}

/// The one object of this kind in a file of the deployment.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let documents = serde_norway::Deserializer::from_str(&text);
    let mut documents = documents.map(|document| Value::deserialize(document).unwrap());
    let found = documents.find(|document| document["kind"] == kind);
    serde_json::from_value(found.unwrap()).unwrap()
}

fn container() -> Container {
    let set: DaemonSet = object("daemonset.yaml", "DaemonSet");
    let pod = set.spec.template.spec.unwrap();
    pod.containers.into_iter().next().unwrap()
}

/// API group, resource and verb.
type Right = (String, String, String);

fn granted() -> BTreeSet<Right> {
    let role: ClusterRole = object("rbac.yaml", "ClusterRole");
    let mut rights = BTreeSet::new();
    for rule in role.rules.unwrap() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    rights
}

/// The right that a request takes; none for discovery and the like.
fn right(request: &RequestRecord) -> Option<Right> {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _version, rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, named) = match rest {
        [] => return None,
        ["namespaces", _, resource, named @ ..] | [resource, named @ ..] => (*resource, named),
    };
    let watches = request
        .query
        .split('&')
        .any(|pair| pair.starts_with("watch="));
    let verb = match request.method.as_str() {
        "GET" if watches => "watch",
        "GET" if named.is_empty() => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        other => return Some((group.into(), resource.into(), other.to_lowercase())),
    };
    Some((group.into(), resource.into(), verb.into()))
}

#[test]
fn the_controller_asks_for_exactly_what_its_role_grants() {
    let mut scene = Scene::from_api(&[]).unwrap();
    let api = scene.api.clone().unwrap();
    let seen = || -> BTreeSet<Right> {
        let requests = api.requests();
        let ours = requests
            .iter()
            .filter(|request| !request.user_agent.contains("kubectl"));
        ours.filter_map(right).collect()
    };
    // A change and a new start: whatever it asks for at any time, it has asked for by then.
    scene.withdraw(&["pod-1"]).unwrap();
    scene.reaches(&["pod-2"]).unwrap();
    scene.kill_proxy().unwrap();
    scene.start_proxy().unwrap();
    // An Event that repeats itself is patched, and none does here.
    let repetition = ["events.k8s.io", "events", "patch"].map(str::to_owned);
    let mut granted = granted();
    assert!(granted.remove(&repetition.into()), "repeated Events");
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen().len() < granted.len() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(seen(), granted);
}

/// A command confined as the container is: root with these capabilities alone.
fn confined(capabilities: &[String], command: &Command) -> Command {
    let mut set = "-all".to_owned();
    for capability in capabilities {
        set.push_str(",+");
        set.push_str(&capability.to_lowercase());
    }
    let mut all = Command::new("setpriv");
    all.args([
        "--no-new-privs",
        "--inh-caps",
        "-all",
        "--bounding-set",
        &set,
    ]);
    all.arg(command.get_program()).args(command.get_args());
    all
}

/// The DaemonSet's controller on this node; a node of the harness has its own directories.
fn deployed(node: &Node, arguments: &[String], kubeconfig: &Path) -> Command {
    let mut command = Command::new(binaries::find("lb-controller").unwrap());
    let replaced = arguments
        .iter()
        .filter(|word| !word.starts_with("--cgroup="));
    command.args(replaced);
    command.args(["--node-name", node.name()]);
    command.arg("--cgroup").arg(node.cgroup());
    command.arg("--bpffs").arg(node.pins());
    command.arg("--kubeconfig").arg(kubeconfig);
    command
}

fn wait_healthy(node: &Node, process: &mut Process) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let address = (node.v4(), 10256).into();
    while !matches!(node.http_get(address, "/livez"), Ok((200, _))) {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", process.stderr());
        assert!(Instant::now() < deadline, "{}", process.stderr());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the DaemonSet's controller with these capabilities through a first start, a take-over
/// and the end of a backend, and returns the error that a UDP socket connected to it got.
fn through_a_life(arguments: &[String], capabilities: &[String]) -> Option<i32> {
    // Each loads the programs three times: one after another, on small machines.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scene = Scene::from_api(&[]).unwrap();
    scene.kill_proxy().unwrap();
    ProxyUnderTest::cleanup(scene.cluster.node(0)).unwrap();
    let Source::Kubeconfig(kubeconfig) = scene.source().clone() else {
        panic!("the scene has an API server");
    };
    let start = |scene: &Scene| {
        let node = scene.cluster.node(0);
        let command = confined(capabilities, &deployed(node, arguments, &kubeconfig));
        let mut process = node.system().spawn(command).unwrap();
        wait_healthy(node, &mut process);
        process
    };
    let first = start(&scene);
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
    drop(first);
    // Taking over what is pinned takes other calls than making it.
    let second = start(&scene);
    let [to, _] = scene.addresses();
    let socket = scene.client.connect_new(Protocol::Udp, to).unwrap();
    let socket = socket.unwrap();
    let reply = scene.client.ask(socket, "hostname").unwrap().unwrap();
    let (gone, stays) = match reply.data.as_str() {
        "pod-1" => ("pod-1", "pod-2"),
        _ => ("pod-2", "pod-1"),
    };
    scene.withdraw(&[gone]).unwrap();
    scene.reaches(&[stays]).unwrap();
    // Finding that socket takes an iterator.
    let deadline = Instant::now() + Duration::from_secs(20);
    let failure = loop {
        if let Err(failure) = scene.client.pending_error(socket).unwrap() {
            break failure;
        }
        assert!(Instant::now() < deadline, "{}", second.stderr());
        thread::sleep(Duration::from_millis(50));
    };
    let said = second.stderr();
    for word in ["ERROR", "ermission", "not permitted", "does without"] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    failure.errno
}

fn capabilities() -> Vec<String> {
    let context = container().security_context.unwrap();
    context.capabilities.unwrap().add.unwrap()
}

#[test]
fn the_containers_capabilities_suffice_for_everything_the_controller_does() {
    let told = through_a_life(&container().args.unwrap(), &capabilities());
    assert_eq!(told, Some(nix::libc::ECONNREFUSED), "by ICMP");
}

#[test]
fn the_component_for_walking_namespaces_adds_what_that_takes() {
    let file = directory().join("../components/netns-walk/kustomization.yaml");
    let text = fs::read_to_string(file).unwrap();
    let component: Value = serde_norway::from_str(&text).unwrap();
    let operations = component["patches"][0]["patch"].as_str().unwrap();
    let operations: Vec<Value> = serde_norway::from_str(operations).unwrap();
    let mut arguments = container().args.unwrap();
    let mut capabilities = capabilities();
    for operation in &operations {
        let path = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "remove" => assert_eq!(arguments.remove(2), "--no-netns-walk"),
            "add" if path.ends_with("/capabilities/add/-") => {
                capabilities.push(operation["value"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
    }
    let told = through_a_life(&arguments, &capabilities);
    assert_eq!(told, Some(nix::libc::ECONNABORTED), "destroyed");
}

#[test]
fn prepare_mounts_a_bpf_file_system_once_and_reserves_ports() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let node = cluster.node(0);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("bpf");
    let program = binaries::find("lb-controller").unwrap();
    let prepare = format!(
        "{} prepare --bpf-mount {} --snat-ports 31000-31099",
        program.display(),
        place.display()
    );
    // In a mount namespace of its own, so that nothing stays mounted here.
    let script = format!(
        "set -e; {prepare}; {prepare}; grep -c ' {place} bpf ' /proc/self/mounts; \
         cat /proc/sys/net/ipv4/ip_local_reserved_ports",
        place = place.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let output = node
        .system()
        .output(command, Duration::from_secs(20))
        .unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "1", "{}", output.stdout);
    assert!(lines[1].contains("31000-31099"), "{}", output.stdout);
    assert!(output.stderr.contains("mounted a BPF file system"));
}

//! The deployment of `manifests/` fits the API and the programs that it starts.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Container, Node, PodSpec, Probe, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use lb_controller::config::{Cli, Command, Prepare, Run};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// The YAML files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// The one object of this kind in a file.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let mut found = documents(&directory().join(file));
    found.retain(|document| document["kind"] == kind);
    assert_eq!(found.len(), 1, "{kind} in {file}");
    serde_json::from_value(found.remove(0)).unwrap()
}

/// What of `written` is not in `read`: fields that the type does not have.
fn lost(written: &Value, read: &Value, path: &str, out: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                match read.get(key) {
                    Some(read) => lost(value, read, &path, out),
                    None => out.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                lost(written, read, &format!("{path}[{index}]"), out);
            }
        }
        (written, read) if written == read => {}
        // Times and quantities are made canonical.
        (Value::String(_), Value::String(_)) => {}
        _ => out.push(path.to_owned()),
    }
}

fn check<T: Serialize + DeserializeOwned>(document: &Value, from: &Path) {
    let from = from.display();
    let typed: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{from}: {error}"));
    let mut unknown = Vec::new();
    let read = serde_json::to_value(typed).unwrap();
    lost(document, &read, "", &mut unknown);
    assert_eq!(unknown, Vec::<String>::new(), "unknown fields in {from}");
}

#[test]
fn every_manifest_is_of_its_type_without_unknown_fields() {
    let mut found = Vec::new();
    files(&directory(), &mut found);
    let mut kinds = BTreeSet::new();
    for path in &found {
        for document in documents(path) {
            let kind = document["kind"].as_str().unwrap_or_default();
            match kind {
                "DaemonSet" => check::<DaemonSet>(&document, path),
                "ServiceAccount" => check::<ServiceAccount>(&document, path),
                "ClusterRole" => check::<ClusterRole>(&document, path),
                "ClusterRoleBinding" => check::<ClusterRoleBinding>(&document, path),
                "Service" => check::<Service>(&document, path),
                "EndpointSlice" => check::<EndpointSlice>(&document, path),
                "Node" => check::<Node>(&document, path),
                // Not objects of the API.
                "Kustomization" | "Component" => {}
                other => panic!("{}: what is a {other:?}?", path.display()),
            }
            kinds.insert(kind.to_owned());
        }
    }
    for kind in ["DaemonSet", "ClusterRole", "EndpointSlice", "Component"] {
        assert!(kinds.contains(kind), "no {kind} among {}", found.len());
    }
}

#[test]
fn unknown_fields_are_noticed() {
    let written = serde_json::json!({"kind": "ServiceAccount", "metadata": {"nmae": "lb"}});
    let typed: ServiceAccount = serde_json::from_value(written.clone()).unwrap();
    let mut unknown = Vec::new();
    let read = serde_json::to_value(typed).unwrap();
    lost(&written, &read, "", &mut unknown);
    assert_eq!(unknown, [".metadata.nmae"]);
}

// === the DaemonSet ===

fn daemon_set() -> DaemonSet {
    object("lb/daemonset.yaml", "DaemonSet")
}

fn pod_spec(set: &DaemonSet) -> &PodSpec {
    set.spec.template.spec.as_ref().unwrap()
}

fn labels(set: &DaemonSet) -> BTreeMap<String, String> {
    let template = &set.spec.template;
    template.metadata.clone().unwrap().labels.unwrap()
}

fn controller(set: &DaemonSet) -> Container {
    let containers = &pod_spec(set).containers;
    assert_eq!(containers.len(), 1);
    containers[0].clone()
}

fn prepare(set: &DaemonSet) -> Container {
    pod_spec(set).init_containers.clone().unwrap().remove(0)
}

/// What the container's arguments mean to `lb-controller`.
fn command(container: &Container) -> Command {
    let arguments = container.args.clone().unwrap();
    let line = ["lb-controller".to_owned()].into_iter().chain(arguments);
    Cli::try_parse_from(line).unwrap().command
}

fn run_options(container: &Container) -> Run {
    match command(container) {
        Command::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

fn prepare_options(container: &Container) -> Prepare {
    match command(container) {
        Command::Prepare(prepare) => prepare,
        other => panic!("{other:?}"),
    }
}

#[test]
fn daemon_sets_select_their_own_pods() {
    for file in ["lb/daemonset.yaml", "cleanup/daemonset.yaml"] {
        let set: DaemonSet = object(file, "DaemonSet");
        let selector = set.spec.selector.match_labels.clone();
        let labels = labels(&set);
        for (key, value) in selector.unwrap() {
            assert_eq!(labels.get(&key), Some(&value), "{file}: {key}");
        }
    }
}

#[test]
fn pods_carry_the_label_by_which_upstream_finds_the_proxy() {
    let labels = labels(&daemon_set());
    assert_eq!(labels["k8s-app"], "kube-proxy");
}

#[test]
fn pods_run_where_those_of_kube_proxy_run() {
    let set = daemon_set();
    let spec = pod_spec(&set);
    assert_eq!(set.metadata.namespace.as_deref(), Some("kube-system"));
    assert_eq!(
        spec.priority_class_name.as_deref(),
        Some("system-node-critical")
    );
    assert_eq!(spec.host_network, Some(true));
    let tolerations = spec.tolerations.clone().unwrap();
    assert!(tolerations.iter().any(
        |toleration| toleration.operator.as_deref() == Some("Exists")
            && toleration.key.is_none()
            && toleration.effect.is_none()
    ));
}

#[test]
fn arguments_are_understood_and_agree_with_each_other() {
    let set = daemon_set();
    let (prepare, run) = (
        prepare_options(&prepare(&set)),
        run_options(&controller(&set)),
    );
    assert!(run.pinned.bpffs.starts_with(&prepare.bpf_mount));
    assert_eq!(prepare.snat_ports, run.network.snat_ports);
    let cleanup: DaemonSet = object("cleanup/daemonset.yaml", "DaemonSet");
    let container = pod_spec(&cleanup)
        .init_containers
        .clone()
        .unwrap()
        .remove(0);
    match command(&container) {
        Command::Cleanup(pinned) => assert_eq!(pinned.bpffs, run.pinned.bpffs),
        other => panic!("{other:?}"),
    }
}

#[test]
fn probes_ask_the_port_and_paths_that_are_served() {
    let container = controller(&daemon_set());
    let port = run_options(&container).healthz().unwrap().unwrap().port();
    let asks = |probe: &Option<Probe>| {
        let get = probe.as_ref().unwrap().http_get.clone().unwrap();
        assert_eq!(get.port, IntOrString::Int(port.into()));
        get.path.unwrap()
    };
    assert_eq!(asks(&container.liveness_probe), "/livez");
    assert_eq!(asks(&container.readiness_probe), "/healthz");
}

#[test]
fn what_the_controller_uses_of_the_host_is_mounted() {
    let set = daemon_set();
    let (prepare, controller) = (prepare(&set), controller(&set));
    let mount = |container: &Container, path: &Path| {
        let mounts = container.volume_mounts.clone().unwrap();
        let mount = mounts
            .iter()
            .find(|mount| path.starts_with(&mount.mount_path))
            .unwrap_or_else(|| panic!("nothing is mounted at {}", path.display()))
            .clone();
        let volumes = pod_spec(&set).volumes.clone().unwrap();
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        // At the same place, so that paths mean the same on the host.
        let host = volume.unwrap().host_path.clone().unwrap().path;
        assert_eq!(host, mount.mount_path);
        mount.mount_propagation.unwrap_or_default()
    };
    let run = run_options(&controller);
    assert_eq!(mount(&controller, &run.pinned.bpffs), "HostToContainer");
    mount(&controller, &run.cgroup.unwrap());
    let place = prepare_options(&prepare).bpf_mount;
    // The API server allows it to privileged containers only.
    assert_eq!(mount(&prepare, &place), "Bidirectional");
    assert_eq!(prepare.security_context.unwrap().privileged, Some(true));
}

#[test]
fn the_controller_has_few_capabilities_and_walks_no_namespaces_without_the_right_one() {
    let container = controller(&daemon_set());
    let context = container.security_context.clone().unwrap();
    assert_eq!(context.privileged, None);
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let capabilities = context.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    let added = capabilities.add.unwrap();
    assert!(!added.iter().any(|capability| capability == "SYS_ADMIN"));
    assert!(run_options(&container).no_netns_walk);
}

#[test]
fn images_have_the_version_of_the_programs() {
    let image = format!("lb:{}", env!("CARGO_PKG_VERSION"));
    let set = daemon_set();
    let cleanup: DaemonSet = object("cleanup/daemonset.yaml", "DaemonSet");
    let cleaner = pod_spec(&cleanup)
        .init_containers
        .clone()
        .unwrap()
        .remove(0);
    for container in [prepare(&set), controller(&set), cleaner] {
        assert_eq!(container.image.as_ref(), Some(&image), "{}", container.name);
    }
}

#[test]
fn component_for_walking_namespaces_names_what_is_there() {
    // Its first operation is a test of this very place.
    let arguments = controller(&daemon_set()).args.unwrap();
    assert_eq!(arguments[2], "--no-netns-walk");
}

// === RBAC ===

/// What kube-proxy's role grants, as (group, resource, verbs).
const NODE_PROXIER: [(&str, &str, &[&str]); 6] = [
    ("", "services", &["list", "watch"]),
    ("", "endpoints", &["list", "watch"]),
    ("", "nodes", &["get", "list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
    ("networking.k8s.io", "servicecidrs", &["list", "watch"]),
    ("events.k8s.io", "events", &["create", "patch", "update"]),
];

#[test]
fn the_role_grants_nothing_that_kube_proxy_has_not() {
    let role: ClusterRole = object("lb/rbac.yaml", "ClusterRole");
    for rule in role.rules.unwrap() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let known = NODE_PROXIER
                    .iter()
                    .find(|(known, name, _)| known == group && name == resource);
                let (_, _, verbs) = known.unwrap_or_else(|| panic!("{resource}"));
                for verb in &rule.verbs {
                    assert!(verbs.contains(&verb.as_str()), "{verb} {resource}");
                }
            }
        }
    }
}

#[test]
fn the_role_is_bound_to_the_account_of_the_pods() {
    let binding: ClusterRoleBinding = object("lb/rbac.yaml", "ClusterRoleBinding");
    let account: ServiceAccount = object("lb/rbac.yaml", "ServiceAccount");
    let role: ClusterRole = object("lb/rbac.yaml", "ClusterRole");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    let subject = binding.subjects.unwrap().remove(0);
    assert_eq!(Some(&subject.name), account.metadata.name.as_ref());
    assert_eq!(subject.namespace, account.metadata.namespace);
    let set = daemon_set();
    assert_eq!(pod_spec(&set).service_account_name, account.metadata.name);
    assert_eq!(set.metadata.namespace, account.metadata.namespace);
}

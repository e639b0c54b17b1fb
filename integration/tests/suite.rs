//! The conformance suite as a program: its exit codes, its last line, its reports, and that it
//! leaves nothing in an API server of somebody else's.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use lb_integration::{binaries::find, objects::Http};
use serde_json::Value;

/// A process that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn suite(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-conformance"));
    command.args(arguments).output().expect("the suite starts")
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn cases_run_with_their_objects_in_another_api_server() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (kubeconfig, report) = (path("config"), path("report.json"));
    let mut server = Command::new(env!("CARGO_BIN_EXE_lb-apiserver"));
    server.args(["--endpoint-slices", "--kubeconfig-out", &kubeconfig]);
    let mut server = Process(server.stdout(Stdio::piped()).spawn().unwrap());
    let mut started = BufReader::new(server.0.stdout.take().unwrap());
    started.read_line(&mut String::new()).unwrap();

    // Pods that come, are ready, terminate and go; a load balancer's status; a manual slice; mirrored
    // ones.
    let focus = "^(s1|s17|s22|lb13_policy|em2)_";
    let output = suite(&[
        "--kubeconfig",
        &kubeconfig,
        "--focus",
        focus,
        "--report-json",
        &report,
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(last_line(&output).starts_with("5 passed, 0 failed, "));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["source"], "kubeconfig");
    assert_eq!(report["counts"]["passed"], 5);

    let http = Http::connect(kubeconfig.as_ref()).unwrap();
    for collection in ["nodes", "pods", "services"] {
        let left = http.get(&format!("/api/v1/{collection}")).unwrap().unwrap();
        assert_eq!(left["items"], serde_json::json!([]), "{collection}");
    }
}

#[test]
fn a_proxy_that_does_nothing_fails_its_cases() {
    // It is healthy, but reads a directory that has the Nodes and another Service, and never gets
    // anything else.
    let (home, program) = (tempfile::tempdir().unwrap(), find("lb-controller").unwrap());
    let other = "{apiVersion: v1, kind: Service, metadata: {name: other}, \
                 spec: {clusterIP: 10.96.200.1, ports: [{port: 80}]}}";
    std::fs::write(home.path().join("service.yaml"), other).unwrap();
    let idle = format!(
        "cp {{files}}/node.* {0}; exec {1} run --source-files {0} --node-name {{node}} \
         --cgroup {{cgroup}} --bpffs {{bpffs}}",
        home.path().display(),
        program.display()
    );
    let output = suite(&[
        "--focus",
        "^s5_",
        "--families",
        "v4",
        "--proxy-command",
        &idle,
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(last_line(&output).starts_with("0 passed, 1 failed, "));
    assert!(text.contains("should reach exactly {\"pod\"}"), "{text}");
}

#[test]
fn wrong_usage_ends_with_2_and_a_missing_site_with_3() {
    assert_eq!(suite(&["--focus", "["]).status.code(), Some(2));
    let missing = suite(&["--kubeconfig", "/nowhere/config"]);
    assert_eq!(missing.status.code(), Some(3));
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("/nowhere/config"), "{said}");
}

//! kubectl as users run it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use lb_integration::apiserver::ApiServer;
use serde_json::Value;
use tempfile::TempDir;

use super::clients::{server, service};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

const MANIFEST: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: lb, namespace: kube-system}
spec:
  selector: {matchLabels: {app: lb}}
  template:
    metadata: {labels: {app: lb}}
    spec: {containers: [{name: lb, image: lb}]}
";

/// kubectl with a kubeconfig and a cache of its own.
struct Kubectl {
    home: TempDir,
}

impl Kubectl {
    /// None, having said so, where kubectl is not installed.
    fn for_server(server: &ApiServer) -> Option<Self> {
        if Command::new("kubectl")
            .args(["version", "--client"])
            .output()
            .is_err()
        {
            eprintln!("skipped: needs kubectl, which is not installed");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), server.kubeconfig()).unwrap();
        std::fs::write(home.path().join("manifest.yaml"), MANIFEST).unwrap();
        std::fs::write(home.path().join("namespace.yaml"), NAMESPACE).unwrap();
        Some(Self { home })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(["--request-timeout=20s"])
            .args(arguments.split_whitespace())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .current_dir(self.home.path());
        command
    }

    /// Runs kubectl, which must succeed, and answers what it printed. Words are
    /// separated by white space.
    async fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn output(&self, arguments: &str) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }
}

/// Ends a kubectl that runs until told otherwise.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn manifests_are_applied_read_and_deleted() {
    let server = server();
    let Some(kubectl) = Kubectl::for_server(&server) else {
        return;
    };
    kubectl.run("create -f namespace.yaml").await;
    let created = kubectl.run("apply -f manifest.yaml").await;
    assert_eq!(
        created
            .lines()
            .filter(|line| line.ends_with("created"))
            .count(),
        3,
        "{created}"
    );
    let again = kubectl.run("apply -f manifest.yaml").await;
    assert!(again.contains("service/web unchanged"), "{again}");

    let json: Value =
        serde_json::from_str(&kubectl.run("-n shop get svc web -o json").await).unwrap();
    assert_eq!(json["spec"]["ports"][0]["nodePort"], 30_000);
    let yaml = kubectl.run("-n shop get services web -o yaml").await;
    assert!(yaml.contains("clusterIP: 10.96."), "{yaml}");
    let wide = kubectl
        .run("get service,endpointslices,daemonsets -A -o wide")
        .await;
    assert!(
        wide.contains("endpointslice.discovery.k8s.io/web-1"),
        "{wide}"
    );
    assert!(wide.lines().next().unwrap().contains("AGE"), "{wide}");

    let deleted = kubectl.run("delete -f manifest.yaml --timeout=10s").await;
    assert_eq!(deleted.lines().count(), 3, "{deleted}");
    assert!(server.list("svc", Some("shop")).unwrap().is_empty());
}

#[tokio::test]
async fn changes_by_patch_edit_and_server_side_apply_arrive() {
    let server = server();
    let Some(kubectl) = Kubectl::for_server(&server) else {
        return;
    };
    kubectl.run("create -f namespace.yaml").await;
    kubectl.run("apply --server-side -f manifest.yaml").await;
    kubectl
        .run(r#"-n shop patch svc web --type merge -p {"spec":{"externalTrafficPolicy":"Local"}}"#)
        .await;
    kubectl
        .run(r#"-n shop patch svc web -p {"spec":{"ports":[{"port":80,"targetPort":9090}]}}"#)
        .await;
    kubectl
        .run(r#"-n shop patch svc web --type json -p [{"op":"replace","path":"/spec/ports/1/port","value":444}]"#)
        .await;
    kubectl.run("-n shop label svc web tier=front").await;
    let web = server.get("svc", "shop", "web").unwrap();
    assert_eq!(web["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(web["spec"]["ports"][0]["targetPort"], 9090);
    assert_eq!(web["spec"]["ports"][0]["nodePort"], 30_000);
    assert_eq!(web["spec"]["ports"][1]["port"], 444);
    assert_eq!(
        kubectl.run("-n shop get svc -l tier=front -o name").await,
        "service/web\n"
    );
    assert_eq!(kubectl.run("-n shop get svc -l !tier -o name").await, "");
    let status = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.7"}]}}}"#;
    kubectl
        .run(r#"-n shop patch svc web -p {"spec":{"type":"LoadBalancer"}}"#)
        .await;
    kubectl
        .run(&format!(
            "-n shop patch svc web --subresource=status --type merge -p {status}"
        ))
        .await;
    let web = server.get("svc", "shop", "web").unwrap();
    assert_eq!(
        web["status"]["loadBalancer"]["ingress"][0]["ip"],
        "192.0.2.7"
    );
    kubectl.run("apply --server-side -f manifest.yaml").await;
    let web = server.get("svc", "shop", "web").unwrap();
    assert_eq!(
        web["spec"]["ports"][0]["nodePort"], 30_000,
        "allocated values survive apply"
    );
}

#[tokio::test]
async fn mistakes_are_reported_as_a_real_server_would() {
    let server = server();
    let Some(kubectl) = Kubectl::for_server(&server) else {
        return;
    };
    let output = kubectl.output("get svc missing").await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("Error from server (NotFound): services \"missing\" not found"),
        "{errors}"
    );
    let output = kubectl.output("apply -f manifest.yaml").await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("namespaces \"shop\" not found"), "{errors}");
}

#[tokio::test]
async fn watching_prints_changes_as_they_happen() {
    let server = server();
    let Some(kubectl) = Kubectl::for_server(&server) else {
        return;
    };
    server.create(service("first")).unwrap();
    let mut command = kubectl.command("--request-timeout=60s get svc --watch -o name");
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let output = running.0.stdout.take().unwrap();
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let mut line = async || {
        let line = tokio::time::timeout(super::clients::PATIENCE, lines.recv()).await;
        line.expect("a line before patience ends")
            .expect("kubectl goes on")
    };
    assert_eq!(line().await, "service/first");
    server.create(service("second")).unwrap();
    assert_eq!(line().await, "service/second");
    server.delete("svc", "default", "first").unwrap();
    assert_eq!(line().await, "service/first");
}

//! The server as a process.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn process_serves_loaded_manifests_until_terminated() {
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = home.path().join("config");
    let manifests = home.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    std::fs::write(manifests.join("web.yaml"), service).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-apiserver"));
    command
        .arg("--kubeconfig-out")
        .arg(&kubeconfig)
        .arg("--load")
        .arg(&manifests);
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    let mut url = String::new();
    output.read_line(&mut url).unwrap();

    let written = Kubeconfig::read_from(&kubeconfig).unwrap();
    let server = written.clusters[0].cluster.as_ref().unwrap().server.clone();
    assert_eq!(server.as_deref(), Some(url.trim()));
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(written, &options)
        .await
        .unwrap();
    let api: Api<Service> = Api::default_namespaced(Client::try_from(config).unwrap());
    assert!(
        api.get("web")
            .await
            .unwrap()
            .spec
            .unwrap()
            .cluster_ip
            .is_some()
    );

    kill(Pid::from_raw(process.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(process.0.wait().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "standard output is the address alone");
}

//! Connections while the maps outgrow themselves: larger maps are filled and swapped in.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use lb_integration::{
    agent::{dial::Dial, socket::Protocol},
    proxy::{Source, lbctl},
    scene::Scene,
};
use serde_json::{Value, json};

/// Endpoints of one of the Services that fill the maps.
const ENDPOINTS: usize = 500;

/// One Service with its slice; its addresses lead nowhere.
fn filler(number: usize) -> [Value; 2] {
    let name = format!("filler-{number}");
    let metadata = json!({"namespace": "filler", "name": name});
    let address = |host: usize| format!("10.{}.{}.{}", 100 + number, host / 250, 1 + host % 250);
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|host| json!({"addresses": [address(host)]}))
        .collect();
    let mut labelled = metadata.clone();
    labelled["labels"] = json!({"kubernetes.io/service-name": name});
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": format!("10.96.9.{number}"), "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": labelled,
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        }),
    ]
}

#[test]
fn connections_survive_growing_maps() {
    let mut scene = Scene::from_files(&[]).unwrap();
    let Source::Files(directory) = scene.source().clone() else {
        unreachable!("the scene reads files")
    };
    let to = scene.addresses()[0];
    let stream = scene
        .client
        .connect_new(Protocol::Tcp, to)
        .unwrap()
        .unwrap();
    let mut client = scene.client_pod.control().unwrap();
    let dial = Dial::tcp(to).abort();
    let dialling = thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut summaries = Vec::new();
        while summaries.len() < 20 && Instant::now() < deadline {
            summaries.push(client.dial_many(&dial, 500).unwrap());
            thread::sleep(Duration::from_millis(50));
        }
        summaries
    });
    // 16,384 backends are the least that is allocated; each step is more than the last growth.
    for services in [34, 55, 85] {
        let items: Vec<Value> = (0..services).flat_map(filler).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let staged = directory.with_file_name("filler");
        fs::write(&staged, list.to_string()).unwrap();
        fs::rename(&staged, directory.join("filler.json")).unwrap();
        let newest = format!("filler-{}", services - 1);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let rows = lbctl(
                scene.cluster.node(0),
                &["list", "-n", "filler", "--name", &newest],
            );
            if rows.unwrap().contains("10.96.9.") {
                break;
            }
            assert!(Instant::now() < deadline, "{services} Services are late");
            thread::sleep(Duration::from_millis(100));
        }
    }
    let grown = "growing the maps";
    let output = scene.proxy_output();
    assert!(output.matches(grown).count() >= 3, "{output}");
    for summary in dialling.join().unwrap() {
        assert_eq!((summary.dials, summary.failed()), (500, 0), "{summary:?}");
        assert_eq!(
            summary.peers.keys().collect::<Vec<_>>(),
            [&to],
            "{summary:?}"
        );
        assert_eq!(summary.replies.len(), 2, "{summary:?}");
    }
    let answer = scene.client.ask(stream, "hostname").unwrap().unwrap();
    assert!(answer.data.starts_with("pod-"), "{answer:?}");
    assert_eq!(scene.client.peer(stream).unwrap().unwrap(), to);
    scene.reaches(&["pod-1", "pod-2"]).unwrap();
}

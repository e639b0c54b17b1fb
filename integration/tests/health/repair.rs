//! Attachments and pins that somebody else has removed (rule K5).

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use lb_ebpf::abi::ABI_VERSION;
use lb_integration::{
    client::{Client, tcp},
    proxy::lbctl,
};

use super::{
    ask::eventually,
    stage::{From, NODE_PORT, Stage},
};

/// A served Service, and a proxy that looks every second.
fn served() -> Stage {
    let mut stage = Stage::new(1, From::Files, &["--sync-period", "1s"]);
    let service = Stage::checked();
    stage.control_plane.apply(service.object()).unwrap();
    stage.serve(0, "server");
    works(&stage);
    stage
}

/// A pod reaches the ClusterIP, a client outside the node port.
fn works(stage: &Stage) {
    let mut pod = Client::new(stage.client.control().unwrap());
    for to in Stage::checked().at(80) {
        pod.reaches(&tcp(to), &["server"]);
    }
    let mut outside = Client::new(stage.outside.control().unwrap());
    for to in stage.at(0, NODE_PORT) {
        outside.reaches(&tcp(to), &["server"]);
    }
}

fn pins(stage: &Stage) -> PathBuf {
    stage
        .cluster
        .node(0)
        .pins()
        .join(format!("abi{ABI_VERSION}"))
}

/// Pins of links whose names contain this.
fn links(stage: &Stage, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(pins(stage).join("links")).unwrap().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().contains(part));
    named.map(|entry| entry.path()).collect()
}

fn reattached(stage: &Stage, what: &str) -> u64 {
    stage.count("lb_reattached_total", what)
}

#[test]
fn k5_programs_whose_pins_somebody_removed_are_attached_again() {
    let stage = served();
    assert_eq!(reattached(&stage, ""), 0, "nothing was missing so far");
    let sockets = links(&stage, "connect");
    let devices = links(&stage, "@");
    assert_eq!(sockets.len(), 2);
    assert!(devices.len() >= 2, "{devices:?}");
    for pin in sockets.iter().chain(&devices) {
        fs::remove_file(pin).unwrap();
    }
    eventually("the sockets' programs are back", || {
        reattached(&stage, "\"sockets\"") >= 2
    });
    eventually("the devices' programs are back", || {
        reattached(&stage, "\"devices\"") >= devices.len() as u64
    });
    works(&stage);
    for pin in sockets.iter().chain(&devices) {
        assert!(pin.exists(), "{}", pin.display());
    }
    assert!(stage.output().contains("somebody had removed"));
}

#[test]
fn k5_links_that_somebody_detached_are_made_anew() {
    let stage = served();
    let damaged = [links(&stage, "connect"), links(&stage, "@")].concat();
    for pin in &damaged {
        // The pin stays; what it names is dead.
        let mut command = Command::new("bpftool");
        command.args(["link", "detach", "pinned"]).arg(pin);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: no bpftool ({error})");
                return;
            }
        };
        assert!(output.status.success(), "{output:?}");
    }
    eventually("all is back", || {
        reattached(&stage, "") >= damaged.len() as u64
    });
    works(&stage);
    let before = reattached(&stage, "");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(reattached(&stage, ""), before, "what holds is left alone");
}

#[test]
fn k5_the_whole_directory_of_pins_comes_back() {
    let stage = served();
    fs::remove_dir_all(pins(&stage)).unwrap();
    eventually("the maps are pinned again", || {
        reattached(&stage, "\"maps\"") >= 20
    });
    works(&stage);
    let listed = lbctl(stage.cluster.node(0), &["list"]).unwrap();
    assert!(listed.contains("10.96.0.100"), "{listed}");
}

//! Step 1: nodes and pods.

use std::time::Instant;

use anyhow::Result;

use crate::{
    cluster::{Node, addresses::GATEWAY_V4},
    demo::{
        Options,
        scene::{Role, Scene},
        screen::{Screen, time},
    },
};

/// Columns of one node in the picture.
const WIDTH: usize = 48;

pub(in crate::demo) fn topology(screen: &mut Screen, options: &Options) -> Result<Scene> {
    screen.step(
        "Two nodes with pods",
        "Network namespaces joined by virtual cables; nothing of this machine's network changes.",
    );
    let started = Instant::now();
    let scene = Scene::build(options)?;
    let columns: Vec<Vec<String>> = scene
        .cluster
        .nodes()
        .iter()
        .map(|node| column(&scene, node))
        .collect();
    screen.line("");
    for row in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
        let cells = columns
            .iter()
            .map(|column| column.get(row).map_or("", String::as_str));
        let padded: Vec<String> = cells.map(|cell| format!("{cell:<WIDTH$}")).collect();
        screen.line(padded.concat());
    }
    let fabric = format!(" fabric {GATEWAY_V4} ");
    screen.line(format!("└{fabric:─^width$}┘", width = WIDTH - 1));
    screen.line("");
    let pods = columns.iter().map(|column| column.len() - 2).sum::<usize>();
    screen.check(
        pods == 10,
        format!(
            "{} nodes and {pods} pods in {}; no iptables rules, no route to any Service address",
            scene.cluster.nodes().len(),
            time(started.elapsed())
        ),
    );
    Ok(scene)
}

/// A node and its pods, a line each.
fn column(scene: &Scene, node: &Node) -> Vec<String> {
    let v6 = node.v6().map_or_else(String::new, |v6| v6.to_string());
    let mut lines = vec![format!(
        "{} ({}), {}, {v6}",
        node.name(),
        node.zone(),
        node.v4()
    )];
    for (pod, role) in scene.pods_on(node) {
        let v6 = pod.v6().map_or_else(String::new, |v6| v6.to_string());
        let role = match role {
            Role::Tcp(port) => format!("tcp {port}"),
            Role::Udp(port) => format!("udp {port}"),
            Role::Client => "dials".to_owned(),
        };
        lines.push(format!(
            "├─ {:<8} {:<10} {v6:<13} {role}",
            pod.name(),
            pod.v4()
        ));
    }
    lines.push("│".to_owned());
    lines
}

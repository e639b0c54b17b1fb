//! Step 3: a controller on each node.

use std::{collections::BTreeMap, mem, net::SocketAddr, time::Instant};

use anyhow::{Context, Result};

use crate::{
    cluster::Node,
    demo::{
        scene::{Scene, attached_programs},
        screen::{Screen, time},
    },
};

pub(in crate::demo) fn controllers(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "lb-controller on each node",
        "It reads the objects, fills BPF maps and attaches programs to the node's cgroup and devices.",
    );
    let expected = scene.manifests.frontends();
    let started = Instant::now();
    for index in 0..scene.cluster.nodes().len() {
        let proxy = scene.launch_proxy(index)?;
        scene.proxies.push(proxy);
    }
    let mut proxies = mem::take(&mut scene.proxies);
    for (index, proxy) in proxies.iter_mut().enumerate() {
        scene.wait_healthy(index, proxy)?;
        let took = started.elapsed();
        let node = scene.cluster.node(index);
        let frontends = metric(node, r#"lb_map_entries{map="SERVICES"}"#)?;
        let backends = metric(node, r#"lb_map_entries{map="BACKENDS"}"#)?;
        let programs = attached_programs(node)?;
        screen.check(
            frontends == expected && !programs.is_empty(),
            format!(
                "{}: healthy {} after its start; {frontends} service addresses, {backends} \
                 backends, {} programs",
                node.name(),
                time(took),
                programs.len()
            ),
        );
        if index == 0 {
            for line in hooks(&programs) {
                screen.note(line);
            }
        }
    }
    scene.proxies = proxies;
    Ok(())
}

/// The hooks of sockets, and those of packets with the number of devices that have them.
fn hooks(programs: &[String]) -> [String; 2] {
    let (packets, sockets): (Vec<&str>, Vec<&str>) = programs
        .iter()
        .map(|name| name.trim_start_matches("lb_"))
        .partition(|name| name.contains('@'));
    let mut devices = BTreeMap::<&str, usize>::new();
    for (hook, _) in packets.iter().filter_map(|name| name.split_once('@')) {
        *devices.entry(hook).or_default() += 1;
    }
    let packets: Vec<String> = devices
        .iter()
        .map(|(hook, count)| format!("{hook} ×{count}"))
        .collect();
    [
        format!("sockets: {}", sockets.join(" ")),
        format!("packets: {}", packets.join(" ")),
    ]
}

/// One value of the controller's /metrics.
fn metric(node: &Node, name: &str) -> Result<usize> {
    let address: SocketAddr = ([127, 0, 0, 1], 10249).into();
    let (_, text) = node.http_get(address, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("{} has no metric {name}", node.name()))?;
    Ok(value.trim().parse::<f64>()? as usize)
}

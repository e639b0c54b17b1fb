//! Step 3: a controller on each node.

use std::{net::SocketAddr, time::Instant};

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
        "It reads the objects, fills BPF maps and attaches programs to the node's cgroup.",
    );
    let expected = scene.manifests.frontends();
    for index in 0..scene.cluster.nodes().len() {
        let started = Instant::now();
        let proxy = scene.start_proxy(index)?;
        let took = started.elapsed();
        scene.proxies.push(proxy);
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
            let names: Vec<&str> = programs
                .iter()
                .map(|name| name.trim_start_matches("lb_"))
                .collect();
            screen.note(format!("  hooks: {}", names.join(" ")));
        }
    }
    Ok(())
}

/// One value of the controller's /metrics.
fn metric(node: &Node, name: &str) -> Result<usize> {
    let address: SocketAddr = ([127, 0, 0, 1], 10249).into();
    let (_, text) = node.http_get(address, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("{} has no metric {name}", node.name()))?;
    Ok(value.trim().parse::<f64>()? as usize)
}

//! Step 7: what an operator sees.

use anyhow::Result;

use crate::{
    demo::{
        manifests::cluster_ips,
        scene::{Scene, attached_programs},
        screen::Screen,
    },
    proxy::lbctl,
};

pub(in crate::demo) fn tools(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "lbctl on node-1",
        "It reads the pinned maps, so it works without a controller and without an API server.",
    );
    let node = scene.cluster.node(0);
    screen.command("lbctl list --by-service");
    let list = lbctl(node, &["list", "--by-service"])?;
    print(screen, &list);
    screen.command("lbctl status");
    let status = lbctl(node, &["status"])?;
    print(screen, &status);

    let wrong = wrongly_listed(scene, &list);
    screen.check(
        wrong.is_empty(),
        if wrong.is_empty() {
            "every Service is listed with its addresses; the headless one has none to list"
                .to_owned()
        } else {
            format!("not listed as the manifests say: {}", wrong.join(", "))
        },
    );
    let programs = attached_programs(node)?;
    let shown = programs.iter().all(|name| status.contains(name.as_str()));
    screen.check(
        shown && status.contains("healthy"),
        format!("healthy, {} programs attached", programs.len()),
    );
    Ok(())
}

/// Services whose addresses `list` lacks, and those without any that it has.
fn wrongly_listed(scene: &Scene, list: &str) -> Vec<String> {
    let services = scene.manifests.of_kind("Service");
    let names = services.filter_map(|(_, service)| {
        let name = format!(
            "{}/{}",
            service["metadata"]["namespace"].as_str()?,
            service["metadata"]["name"].as_str()?
        );
        let ips = cluster_ips(service);
        let listed = list.contains(&name) && ips.iter().all(|ip| list.contains(&ip.to_string()));
        let expected = !ips.is_empty();
        (listed != expected).then_some(name)
    });
    names.collect()
}

fn print(screen: &Screen, text: &str) {
    for line in text.lines() {
        screen.line(line);
    }
    screen.line("");
}

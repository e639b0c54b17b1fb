//! Step 7: what an operator sees.

use anyhow::Result;

use crate::{
    demo::{scene::Scene, screen::Screen},
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
    let missing: Vec<String> = ["web", "dns", "cart", "soon"]
        .into_iter()
        .filter(|name| !list.contains(&format!("default/{name}")))
        .map(str::to_owned)
        .collect();
    screen.check(
        missing.is_empty() && !list.contains("default/db"),
        format!(
            "every Service with an address is listed {}",
            missing.join(", ")
        ),
    );
    screen.check(!status.trim().is_empty(), "status answers");
    Ok(())
}

fn print(screen: &Screen, text: &str) {
    for line in text.lines() {
        screen.line(line);
    }
    screen.line("");
}

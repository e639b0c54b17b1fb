//! Step 8: what an operator sees.

use anyhow::Result;

use crate::{
    demo::{
        manifests::{cluster_ips, ingress_ips},
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
    let missing: Vec<&String> = programs
        .iter()
        .filter(|name| !is_shown(&status, name))
        .collect();
    screen.check(
        missing.is_empty() && status.contains("healthy"),
        if missing.is_empty() {
            format!("healthy, {} programs attached", programs.len())
        } else {
            format!("not shown as attached: {missing:?}")
        },
    );
    Ok(())
}

/// Whether `status` has a program of a cgroup by its name, or the hook of a device (`NAME-HOOK@N`)
/// in the line of the device with this index.
fn is_shown(status: &str, program: &str) -> bool {
    let Some((hook, index)) = program.split_once('@') else {
        return status.contains(program);
    };
    let hook = hook.rsplit('-').next().unwrap_or(hook);
    status.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&index) && words.contains(&hook)
    })
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
        let ips = [cluster_ips(service), ingress_ips(service)].concat();
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

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
PROGRAM          STATE       ID  TAG
lb_connect4      attached  9848  63c03eea42f944e2

DEVICE  INDEX  CLASS        MTU  TC   XDP      SNAT ADDRESSES  REASON
eth0        2  uplink      1500  tcx  generic  172.30.0.11     -
veth0       3  pod-facing  1500  tcx  none     172.30.0.11     -
";

    #[test]
    fn programs_of_devices_are_looked_for_at_their_device() {
        for shown in ["lb_connect4", "lb_xdp-generic@2", "lb_pod_egress-tcx@3"] {
            assert!(is_shown(STATUS, shown), "{shown}");
        }
        for not in ["lb_connect6", "lb_xdp-generic@3", "lb_pod_egress-tcx@4"] {
            assert!(!is_shown(STATUS, not), "{not}");
        }
    }
}

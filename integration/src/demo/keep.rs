//! A cluster that stays up after the demo: how to play with it, and how to remove it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::scene::Scene;
use crate::{binaries, prefix::Prefix, process::Placement, teardown};

/// Removes every cluster that was kept; their names.
pub fn teardown() -> Result<Vec<Prefix>> {
    let kept = teardown::kept();
    for prefix in &kept {
        teardown::remove(prefix).with_context(|| format!("removing {prefix}"))?;
    }
    Ok(kept)
}

/// Writes a script for each pod and node, and says what to try.
pub(super) fn guide(scene: &Scene) -> Result<Vec<String>> {
    let directory = teardown::working_directory(scene.cluster.prefix());
    let mut pods = Vec::new();
    for node in scene.cluster.nodes() {
        // Tools of the node run outside the cgroup its hooks judge.
        let node_script = write(&directory, node.name(), &node.system(), "")?;
        for (pod, _) in scene.pods_on(node) {
            write(&directory, pod.name(), pod.placement(), "")?;
            pods.push(pod.name().to_owned());
        }
        let lbctl = binaries::find("lbctl")?;
        let lbctl = format!("{} --bpffs {}", lbctl.display(), node.pins().display());
        write(
            &directory,
            &format!("lbctl-{}", node.name()),
            &node.system(),
            &lbctl,
        )?;
        drop(node_script);
    }
    let at = directory.display();
    let manifests = scene.manifests.directory().display();
    let vips = scene.manifests.vips("web")?;
    let demo = std::env::current_exe().context("finding this executable")?;
    let (pod, pins) = (
        scene.pod("client-1")?.placement(),
        scene.cluster.node(0).pins(),
    );
    Ok(vec![
        format!("cd {at}"),
        String::new(),
        "dial web from a pod, over IPv4 and IPv6 (the pods: ".to_owned() + &pods.join(", ") + ")",
        format!("  ./client-1 curl http://{}/hostname", vips[0].ip()),
        format!("  ./client-2 curl -g 'http://[{}]/hostname'", vips[1].ip()),
        "a shell in a pod; on a node".to_owned(),
        "  ./client-1 sh".to_owned(),
        "  ./node-1 sh".to_owned(),
        "what node-1 has programmed".to_owned(),
        "  ./lbctl-node-1 list --by-service".to_owned(),
        "change a Service and watch: make a pod not ready, scale, add a file".to_owned(),
        format!("  cd {manifests}"),
        "  sed -i '/10.244.1.2/,/targetRef/ s/ready: true/ready: false/' web.yaml".to_owned(),
        String::new(),
        "the same by hand: join the pod's cgroup, whose sockets are translated, and its namespace"
            .to_owned(),
        format!("  echo $$ > {}/cgroup.procs", pod.cgroup.display()),
        format!("  nsenter --net={} sh", pod.netns.path().display()),
        format!("  lbctl --bpffs {} status", pins.display()),
        String::new(),
        "remove everything".to_owned(),
        format!("  {} --teardown", demo.display()),
    ])
}

/// A script that runs its arguments in `placement`, behind `before` if that is not empty.
fn write(directory: &Path, name: &str, placement: &Placement, before: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let command = if before.is_empty() {
        r#""${@:-sh}""#.to_owned()
    } else {
        format!(r#"{before} "$@""#)
    };
    let text = format!(
        "#!/bin/sh\n# Runs a command where {name} runs.\necho $$ > {}/cgroup.procs\nexec nsenter \
         --net={} {command}\n",
        placement.cgroup.display(),
        placement.netns.path().display(),
    );
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

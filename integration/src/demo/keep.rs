//! A cluster that stays up after the demo: how to play with it, and how to remove it.

use std::{env, fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, bail};

use super::{machine::installed, scene::Scene};
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
pub(super) fn guide(scene: &Scene) -> Result<String> {
    let directory = teardown::working_directory(scene.cluster.prefix());
    let lbctl = binaries::find("lbctl")?;
    let mut pods = Vec::new();
    for node in scene.cluster.nodes() {
        // Tools of the node run outside the cgroup its hooks judge.
        let tool = format!("{} --bpffs {} ", lbctl.display(), node.pins().display());
        write(&directory, node.name(), &node.system(), "")?;
        write(
            &directory,
            &format!("lbctl-{}", node.name()),
            &node.system(),
            &tool,
        )?;
        for (pod, _) in scene.pods_on(node) {
            write(&directory, pod.name(), pod.placement(), "")?;
            pods.push(pod.name());
        }
    }
    write(&directory, "visitor", scene.outside.placement(), "")?;
    let vips = scene.manifests.vips("web")?;
    let [v4, v6] = vips.as_slice() else {
        bail!("web has {} addresses, not two", vips.len());
    };
    let shop = SocketAddr::new(
        scene.cluster.node(0).v4().into(),
        scene.manifests.node_port("shop")?,
    );
    let (get4, get6, get_shop) = if installed("curl") {
        let (v4, v6) = (v4.ip(), v6.ip());
        (
            format!("curl http://{v4}/hostname"),
            format!("curl -g 'http://[{v6}]/hostname'"),
            format!("curl http://{shop}/clientip"),
        )
    } else {
        let agent = binaries::find("lb-agent")?;
        let dial = format!("{} dial tcp", agent.display());
        (
            format!("{dial} {v4}"),
            format!("{dial} '{v6}'"),
            format!("{dial} {shop}"),
        )
    };
    let pod = scene.pod("client-1")?.placement();
    Ok(format!(
        "\
cd {directory}

dial web from a pod, over IPv4 and IPv6
  ./client-1 {get4}
  ./client-2 {get6}
dial shop from outside, and see the flow
  ./visitor {get_shop}
  ./lbctl-node-1 conntrack list
a shell in a pod, a shell on a node
  ./client-1 sh
  ./node-1 sh
  (also: {pods})
what node-1 has programmed
  ./lbctl-node-1 list --by-service
change the objects and watch: make a pod not ready, add an endpoint, add a file
  cd {manifests}
  sed -i '/10.244.1.2/,/targetRef/ s/ready: true/ready: false/' web.yaml
  ../../lbctl-node-1 backends

the same by hand: join the pod's cgroup (hooks go by it) and its network namespace
  sh -c 'echo $$ > {cgroup}/cgroup.procs
         exec nsenter --net={netns} sh'
  {lbctl} --bpffs {pins} status

remove everything
  {demo} --teardown",
        directory = directory.display(),
        pods = pods.join(", "),
        manifests = scene.manifests.directory().display(),
        cgroup = pod.cgroup.display(),
        netns = pod.netns.path().display(),
        lbctl = lbctl.display(),
        pins = scene.cluster.node(0).pins().display(),
        demo = env::current_exe()
            .context("finding this executable")?
            .display(),
    ))
}

/// A script that runs `before` and its arguments in `placement`; without either, a shell.
fn write(directory: &Path, name: &str, placement: &Placement, before: &str) -> Result<()> {
    let path = directory.join(name);
    let arguments = if before.is_empty() { "${@:-sh}" } else { "$@" };
    let text = format!(
        "#!/bin/sh\n\
         # Joins a cgroup of the demo's node, then a network namespace, then runs a command.\n\
         echo $$ > {}/cgroup.procs || exit\n\
         exec nsenter --net={} {before}\"{arguments}\"\n",
        placement.cgroup.display(),
        placement.netns.path().display(),
    );
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

//! Builds a cluster with two pods per node, says how to enter it, and takes it down on Enter.

use std::io::{self, Write};

use anyhow::Result;
use lb_integration::Cluster;

fn main() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).dual_stack().build()?;
    let mut pods = Vec::new();
    let mut servers = Vec::new();
    let mut out = io::stdout();
    for node in 0..2 {
        for name in ["a", "b"] {
            let pod = cluster.pod(node, name).create()?;
            servers.push(pod.serve(&[80], &[80])?);
            writeln!(
                out,
                "{:?}: nsenter --net={}",
                pod.addresses(),
                pod.placement().netns.path().display()
            )?;
            pods.push(pod);
        }
        let node = cluster.node(node);
        writeln!(
            out,
            "{:?}: nsenter --net={}",
            node.addresses(),
            node.netns().path().display()
        )?;
    }
    writeln!(
        out,
        "fabric: nsenter --net={}",
        cluster.fabric().path().display()
    )?;
    writeln!(out, "Press Enter to take the cluster down.")?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

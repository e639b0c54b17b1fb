//! Starts clients where they belong, and talks to them.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use lb_integration::{ip::Batch, netns::Netns};

use super::protocol::{Answer, Request};
use crate::arena::Arena;

/// How packets get from a client to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// Through a veth pair, into the namespace of a pod.
    Veth,
    /// Through loopback: the least that a connection can cost.
    Loopback,
}

/// Where clients run.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Their CPU.
    pub cpu: usize,
    /// Their way to the endpoints.
    pub path: Path,
}

/// A client process; killed when dropped.
#[derive(Debug)]
pub struct Client {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    netns: Netns,
}

impl Client {
    /// Starts this program again as a client called `name`, in the cgroup `cgroup`.
    pub fn start(arena: &Arena, name: &str, cgroup: &str, place: &Place) -> Result<Self> {
        let netns = arena.netns(name)?;
        let pod = match place.path {
            Path::Loopback => {
                loopback(&netns)?;
                None
            }
            Path::Veth => Some(veth(arena, &netns, name)?),
        };
        // Other work on this machine should not be measured; a batch takes about a
        // millisecond, far less than what real-time processes are allowed.
        let mut child = Command::new("chrt")
            .args(["--fifo", "1"])
            .arg(std::env::current_exe()?)
            .arg("client")
            .arg("--netns")
            .arg(netns.path())
            .arg("--cgroup")
            .arg(arena.cgroup(cgroup)?)
            .args(["--cpu", &place.cpu.to_string()])
            .args(
                pod.iter()
                    .flat_map(|pod| ["--pod-netns".into(), pod.path()]),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a client")?;
        let requests = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            requests,
            answers,
            netns,
        })
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Has it do a batch.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.write_all(&line)?;
        let mut answer = String::new();
        ensure!(
            self.answers.read_line(&mut answer)? > 0,
            "a client ended: {:?}",
            self.child.wait()
        );
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// ClusterIPs need a route for iptables, which translates after routing.
fn loopback(netns: &Netns) -> Result<()> {
    netns.ip(Batch::new()
        .add("addr add 10.99.0.2/32 dev lo")
        .add("route add local 10.128.0.0/9 dev lo src 10.99.0.2")
        .add("route add default dev lo src 10.99.0.2"))
}

/// One pod with the addresses of all endpoints.
fn veth(arena: &Arena, netns: &Netns, name: &str) -> Result<Netns> {
    let pod = arena.netns(&format!("{name}-pod"))?;
    netns.ip(Batch::new()
        .add(format!(
            "link add pod type veth peer name eth0 netns {}",
            pod.name()
        ))
        .add("addr add 10.99.0.1/30 dev pod")
        .add("link set pod up"))?;
    pod.ip(Batch::new()
        .add("addr add 10.99.0.2/30 dev eth0")
        .add("link set eth0 up")
        .add("route add local 10.128.0.0/9 dev lo"))?;
    netns.ip(Batch::new().add("route add default via 10.99.0.2 src 10.99.0.1"))?;
    Ok(pod)
}

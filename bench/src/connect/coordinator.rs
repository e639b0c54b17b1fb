//! Starts clients where they belong, and talks to them.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use lb_integration::{ip::Batch, netns::Netns};

use super::protocol::{Answer, Request};
use crate::arena::Arena;

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
    pub fn start(arena: &Arena, name: &str, cgroup: &str, cpu: usize) -> Result<Self> {
        let netns = arena.netns(name)?;
        // ClusterIPs need a route for iptables, which translates after routing; endpoints
        // are local, so that packets take the shortest way there is.
        netns.ip(Batch::new()
            .add("addr add 10.99.0.2/32 dev lo")
            .add("route add local 10.128.0.0/9 dev lo src 10.99.0.2")
            .add("route add default dev lo src 10.99.0.2"))?;
        // Others on this machine should not be measured.
        let mut child = Command::new("nice")
            .args(["-n", "-20"])
            .arg(std::env::current_exe()?)
            .arg("client")
            .arg("--netns")
            .arg(netns.path())
            .arg("--cgroup")
            .arg(arena.cgroup(cgroup)?)
            .args(["--cpu", &cpu.to_string()])
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

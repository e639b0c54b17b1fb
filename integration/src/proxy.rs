//! The service proxy under test, one process per node: ours, or any other by its command line.

mod kube_proxy;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::kube_proxy::Configuration;
use crate::{
    binaries,
    cluster::Node,
    process::{Options, Process, tail},
};

/// The environment variable with the command line of another proxy; see [`Kind::Custom`].
pub const PROXY_COMMAND: &str = "LB_PROXY_COMMAND";

/// Where a proxy takes its objects from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory of manifests.
    Files(PathBuf),
    /// A kubeconfig for an API server the node can reach.
    Kubeconfig(PathBuf),
}

/// Which proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `lb-controller`.
    Ours,
    /// A shell command in which `{kubeconfig}`, `{files}`, `{node}`, `{cgroup}`, `{bpffs}` and
    /// `{config}` (see [`kube_proxy`]) are replaced. It runs in the node's namespace and must answer `/healthz` on port 10256.
    Custom(String),
}

impl Kind {
    /// What the environment asks for: [`PROXY_COMMAND`], else ours.
    pub fn from_environment() -> Self {
        env::var(PROXY_COMMAND).map_or(Self::Ours, Self::Custom)
    }

    /// Whether settings reach it.
    pub fn takes_settings(&self) -> bool {
        match self {
            Self::Ours => true,
            Self::Custom(line) => line.contains("{config}"),
        }
    }
}

/// How a node's proxy is started.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Which proxy.
    pub kind: Kind,
    /// Where its objects come from.
    pub source: Source,
    /// Further arguments for `lb-controller run`.
    pub arguments: Vec<String>,
    /// `nodePortAddresses`; proxies of which [`Kind::takes_settings`] is true take it.
    pub node_port_addresses: Vec<String>,
    /// Whether it goes on when this process ends (a kept demo).
    pub outlive: bool,
}

impl ProxyOptions {
    /// The proxy the environment asks for, fed from `source`.
    pub fn new(source: Source) -> Self {
        let kind = Kind::from_environment();
        Self {
            kind,
            source,
            arguments: Vec::new(),
            node_port_addresses: Vec::new(),
            outlive: false,
        }
    }
}

/// A running proxy of one node. Dropping it kills the process; what it put into the kernel stays
/// until [`ProxyUnderTest::cleanup`] or the end of the cluster.
#[derive(Debug)]
pub struct ProxyUnderTest {
    process: Process,
    healthz: SocketAddr,
}

/// kube-proxy's ports.
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

// === impl ProxyUnderTest ===

impl ProxyUnderTest {
    /// Starts the proxy of `node` and waits until it is healthy.
    pub fn start(node: &Node, options: &ProxyOptions) -> Result<Self> {
        let mut proxy = Self::launch(node, options)?;
        proxy.wait_healthy(node, Duration::from_secs(60))?;
        Ok(proxy)
    }

    /// Starts it without waiting.
    pub fn launch(node: &Node, options: &ProxyOptions) -> Result<Self> {
        let healthz = SocketAddr::new(node.addresses()[0], HEALTHZ_PORT);
        let command = match &options.kind {
            Kind::Ours => our_command(node, options, healthz)?,
            Kind::Custom(line) => custom_command(line, node, options, healthz)?,
        };
        let started = Options {
            piped: false,
            outlive: options.outlive,
        };
        let process = node.system().spawn_with(command, started)?;
        Ok(Self { process, healthz })
    }

    /// Waits until `/healthz` answers 200.
    pub fn wait_healthy(&mut self, node: &Node, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "the proxy of {} ended with {status}:\n{}",
                    node.name(),
                    self.recent_output(30)
                );
            }
            let answer = node.http_get(self.healthz, "/healthz");
            match answer {
                Ok((200, _)) => return Ok(()),
                other if Instant::now() > deadline => bail!(
                    "the proxy of {} is not healthy after {limit:?} ({other:?}):\n{}",
                    node.name(),
                    self.recent_output(30)
                ),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Where it serves `/healthz`.
    pub fn healthz(&self) -> SocketAddr {
        self.healthz
    }

    /// The process, for signals and output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The last lines of what it wrote.
    pub fn recent_output(&self, lines: usize) -> String {
        let (out, err) = (self.process.stdout(), self.process.stderr());
        format!("{}\n{}", tail(&out, lines), tail(&err, lines))
    }

    /// Removes everything our controller put into the kernel for `node`.
    pub fn cleanup(node: &Node) -> Result<()> {
        let mut command = Command::new(binaries::find("lb-controller")?);
        command.arg("cleanup").arg("--bpffs").arg(node.pins());
        let output = node.system().output(command, Duration::from_secs(10))?;
        if !output.status.success() {
            bail!("lb-controller cleanup: {}", output.stderr);
        }
        Ok(())
    }
}

/// `lbctl` on the node's pinned maps: its standard output.
pub fn lbctl(node: &Node, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binaries::find("lbctl")?);
    command.arg("--bpffs").arg(node.pins()).args(arguments);
    let output = node.system().output(command, Duration::from_secs(10))?;
    if !output.status.success() {
        bail!("lbctl {}: {}", arguments.join(" "), output.stderr);
    }
    Ok(output.stdout)
}

fn metrics_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT)
}

fn our_command(node: &Node, options: &ProxyOptions, healthz: SocketAddr) -> Result<Command> {
    let program = binaries::find("lb-controller").context("the proxy under test")?;
    let mut command = Command::new(program);
    command.arg("run");
    match &options.source {
        Source::Files(directory) => command.arg("--source-files").arg(directory),
        Source::Kubeconfig(file) => command.arg("--kubeconfig").arg(file),
    };
    let metrics = metrics_address();
    command.args(["--node-name", node.name()]);
    command
        .arg("--cgroup")
        .arg(node.cgroup())
        .arg("--bpffs")
        .arg(node.pins());
    command.args(["--healthz-bind-address", &healthz.to_string()]);
    command.args(["--metrics-bind-address", &metrics.to_string()]);
    if !options.node_port_addresses.is_empty() {
        let addresses = options.node_port_addresses.join(",");
        command.args(["--nodeport-addresses", &addresses]);
    }
    command.args(&options.arguments);
    Ok(command)
}

fn custom_command(
    line: &str,
    node: &Node,
    options: &ProxyOptions,
    healthz: SocketAddr,
) -> Result<Command> {
    let (files, kubeconfig) = match &options.source {
        Source::Files(path) => (path.display().to_string(), String::new()),
        Source::Kubeconfig(path) => (String::new(), path.display().to_string()),
    };
    let line = line
        .replace("{kubeconfig}", &kubeconfig)
        .replace("{files}", &files)
        .replace("{node}", node.name())
        .replace("{cgroup}", &node.cgroup().display().to_string())
        .replace("{bpffs}", &node.pins().display().to_string());
    let line = if line.contains("{config}") {
        let configuration = Configuration {
            node,
            kubeconfig: &kubeconfig,
            healthz,
            metrics: metrics_address(),
            node_port_addresses: &options.node_port_addresses,
        };
        let file = configuration.write()?;
        line.replace("{config}", &file.display().to_string())
    } else {
        line
    };
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    Ok(command)
}

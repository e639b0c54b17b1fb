//! What the demo plays with: the cluster, its pods and servers, the clients, the controllers.

use std::{
    collections::BTreeMap,
    fs, mem,
    os::unix::process::CommandExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Options, Xdp, manifests::Manifests};
use crate::{
    agent::READY,
    binaries,
    cluster::{Cluster, Node, Outside, Pod},
    control::Control,
    process::{self, Process},
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source},
};

/// What a pod of the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Serves TCP at this port.
    Tcp(u16),
    /// Serves UDP at this port.
    Udp(u16),
    /// Dials.
    Client,
}

/// Every pod: its name, the index of its node, the host part of its addresses, what it does.
/// The manifests name the same pods with the same addresses.
const PODS: [(&str, usize, u8, Role); 10] = [
    ("web-1", 0, 2, Role::Tcp(8080)),
    ("web-2", 0, 3, Role::Tcp(8080)),
    ("dns-1", 0, 4, Role::Udp(5353)),
    ("db-1", 0, 5, Role::Tcp(5432)),
    ("client-1", 0, 9, Role::Client),
    ("web-3", 1, 2, Role::Tcp(8080)),
    ("web-4", 1, 3, Role::Tcp(8080)),
    ("dns-2", 1, 4, Role::Udp(5353)),
    ("db-2", 1, 5, Role::Tcp(5432)),
    ("client-2", 1, 9, Role::Client),
];

/// A pod that dials.
#[derive(Debug)]
pub(super) struct Client {
    /// Its name.
    pub(super) name: String,
    /// The process in it.
    pub(super) control: Control,
}

/// The stage and everyone on it. Fields are dropped in order: processes before their pods, pods
/// before their cluster.
#[derive(Debug)]
pub(super) struct Scene {
    /// By node.
    pub(super) proxies: Vec<ProxyUnderTest>,
    /// One on each node.
    pub(super) clients: Vec<Client>,
    /// A client outside the cluster, and where it is.
    pub(super) visitor: Client,
    pub(super) outside: Outside,
    /// By the name of their pod.
    servers: BTreeMap<String, Process>,
    /// In the order of [`PODS`].
    pods: Vec<(Pod, Role)>,
    pub(super) manifests: Manifests,
    pub(super) cluster: Cluster,
    /// How nodes take packets from their uplinks.
    pub(super) xdp: Xdp,
    keep: bool,
}

/// A kernel may take seconds to verify the programs, where it is slow.
const START_LIMIT: Duration = Duration::from_secs(60);

// === impl Scene ===

impl Scene {
    /// Builds nodes and pods, starts servers and clients; no controller yet.
    pub(super) fn build(options: &Options) -> Result<Self> {
        let cluster = Cluster::builder()
            .nodes(2)
            .dual_stack()
            .zones(&["zone-a", "zone-b"])
            .complete_checksums()
            .build()?;
        let manifests = Manifests::copy(&options.manifests, cluster.manifests()?.path())?;
        // What a router outside would have learned from the first node.
        for vip in manifests.load_balancer_ips() {
            cluster.route_vip(vip, 0)?;
        }
        let outside = cluster.outside("visitor")?;
        let visitor = Client {
            name: "visitor".to_owned(),
            control: outside.control()?,
        };
        let mut scene = Self {
            proxies: Vec::new(),
            clients: Vec::new(),
            visitor,
            outside,
            servers: BTreeMap::new(),
            pods: Vec::new(),
            manifests,
            cluster,
            xdp: options.xdp,
            keep: options.keep,
        };
        for (name, node, host, role) in PODS {
            let pod = scene.cluster.pod(node, name).host_part(host).create()?;
            scene.pods.push((pod, role));
            match role {
                Role::Client => {
                    let control = scene.pod(name)?.control()?;
                    let name = name.to_owned();
                    scene.clients.push(Client { name, control });
                }
                Role::Tcp(_) | Role::Udp(_) => scene.start_server(name)?,
            }
        }
        Ok(scene)
    }

    /// The pod of this name.
    pub(super) fn pod(&self, name: &str) -> Result<&Pod> {
        let mut pods = self.pods.iter().map(|(pod, _)| pod);
        pods.find(|pod| pod.name() == name)
            .with_context(|| format!("no pod {name}"))
    }

    /// All pods of a node.
    pub(super) fn pods_on(&self, node: &Node) -> impl Iterator<Item = (&Pod, Role)> {
        let name = node.name().to_owned();
        let pods = self.pods.iter().map(|(pod, role)| (pod, *role));
        pods.filter(move |(pod, _)| pod.node().name() == name)
    }

    /// Lends the clients to `work`, which may change the rest of the scene meanwhile.
    pub(super) fn with_clients<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut [Client]) -> Result<T>,
    ) -> Result<T> {
        let mut clients = mem::take(&mut self.clients);
        let done = work(self, &mut clients);
        self.clients = clients;
        done
    }

    /// Starts the server of a pod and waits until it listens.
    pub(super) fn start_server(&mut self, name: &str) -> Result<()> {
        let found = self.pods.iter().find(|(pod, _)| pod.name() == name);
        let (pod, role) = found.with_context(|| format!("no pod {name}"))?;
        let (flag, port) = match role {
            Role::Tcp(port) => ("--tcp", port),
            Role::Udp(port) => ("--udp", port),
            Role::Client => bail!("{name} is a client"),
        };
        let mut command = Command::new(binaries::find("lb-agent")?);
        command.args(["serve", "--name", name]);
        for address in pod.addresses() {
            command.args([flag, &std::net::SocketAddr::new(address, *port).to_string()]);
        }
        // Ctrl-C is for the demo, which then removes servers in its own order.
        command.process_group(0);
        let options = process::Options {
            piped: false,
            outlive: self.keep,
        };
        let mut server = pod.placement().spawn_with(command, options)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.stdout().contains(READY) {
            let ended = server.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the server of {name} does not listen: {}", server.stderr());
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// SIGKILL for the server of a pod; its namespace stays, so connections to it are refused.
    pub(super) fn kill_server(&mut self, name: &str) -> Result<()> {
        let mut server = self
            .servers
            .remove(name)
            .with_context(|| format!("no server in {name}"))?;
        server.kill();
        Ok(())
    }

    /// Starts the controller of the node with this index and waits until it is healthy.
    pub(super) fn start_proxy(&self, node: usize) -> Result<ProxyUnderTest> {
        let mut proxy = self.launch_proxy(node)?;
        self.wait_healthy(node, &mut proxy)?;
        Ok(proxy)
    }

    /// The same without waiting.
    pub(super) fn launch_proxy(&self, node: usize) -> Result<ProxyUnderTest> {
        let source = Source::Files(self.manifests.directory().to_owned());
        let options = ProxyOptions {
            kind: Kind::Ours,
            arguments: vec!["--xdp".to_owned(), self.xdp.to_string()],
            outlive: self.keep,
            ..ProxyOptions::new(source)
        };
        ProxyUnderTest::launch(self.cluster.node(node), &options)
    }

    /// Waits until a proxy that was launched on the node with this index is healthy.
    pub(super) fn wait_healthy(&self, node: usize, proxy: &mut ProxyUnderTest) -> Result<()> {
        proxy.wait_healthy(self.cluster.node(node), START_LIMIT)
    }

    /// Leaves everything standing when this process ends.
    pub(super) fn keep(mut self) -> Result<()> {
        // Their `Drop` would end processes and remove namespaces.
        mem::forget(mem::take(&mut self.pods));
        self.clients.clear();
        self.cluster.keep()
    }
}

/// The programs that the controller of a node has attached, by the names of their pinned links.
pub(super) fn attached_programs(node: &Node) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for version in fs::read_dir(node.pins()).context("reading the pin directory")? {
        let links = version?.path().join("links");
        for link in fs::read_dir(&links).into_iter().flatten() {
            found.push(link?.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

//! Two nodes with proxies, backends on both, Services for them, and clients outside.
//!
//! Traffic enters at the first node, so its pods are *near* and those of the second *far*: near
//! ones keep the client's address, far ones are reached through source translation.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::dials::Target;
use crate::{
    Cluster,
    agent::{dial::Dial, socket::Protocol},
    apiserver::Options,
    cluster::{Outside, Pod},
    objects::{Api, Objects},
    patience,
    process::Process,
    proxy::{Kind, ProxyOptions, ProxyUnderTest, Source, lbctl},
    workload::{self, Service, endpoint_slices},
};

const NAMESPACE: &str = "default";
/// How long proxies may take to start: kernels verify large programs slowly.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where packets from outside are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// By TC alone.
    Tc,
    /// By generic XDP, then TC.
    XdpGeneric,
    /// By native XDP, then TC.
    XdpNative,
}

impl Path {
    fn flag(self) -> &'static str {
        match self {
            Self::Tc => "off",
            Self::XdpGeneric => "generic",
            Self::XdpNative => "native",
        }
    }
}

/// The cluster of one scenario. Pods go before it: fields drop in order.
#[derive(Debug)]
pub struct Site {
    /// Where honest clients are.
    pub outside: Outside,
    /// Where proxies see objects.
    pub objects: Api,
    backends: Vec<(Process, Pod)>,
    records: Vec<workload::Pod>,
    proxies: Vec<ProxyUnderTest>,
    /// The cluster.
    pub cluster: Cluster,
}

// === impl Site ===

impl Site {
    /// Starts proxies, with further arguments, and this many backends on each node.
    pub fn new(path: Path, backends: usize, arguments: &[&str]) -> Result<Self> {
        raise_descriptor_limit()?;
        let cluster = Cluster::builder().complete_checksums().build()?;
        let (server, kubeconfig) = cluster.api_server(Options::default())?;
        let objects = Api::new(Arc::clone(&server));
        for node in cluster.nodes() {
            objects.apply(&node.object())?;
        }
        let mut options = ProxyOptions::new(Source::Kubeconfig(kubeconfig));
        // What is looked at are our maps.
        options.kind = Kind::Ours;
        options.arguments = ["--xdp", path.flag()]
            .iter()
            .chain(arguments)
            .map(|&argument| argument.to_owned())
            .collect();
        let launch = |node: &Arc<_>| ProxyUnderTest::launch(node, &options);
        let launched: Result<Vec<_>> = cluster.nodes().iter().map(launch).collect();
        let mut proxies = launched?;
        for (node, proxy) in cluster.nodes().iter().zip(&mut proxies) {
            proxy.wait_healthy(node, START_LIMIT)?;
        }
        let mut site = Self {
            outside: cluster.outside("user")?,
            objects,
            backends: Vec::new(),
            records: Vec::new(),
            proxies,
            cluster,
        };
        for (node, app) in [(0, "near"), (1, "far")] {
            for number in 0..backends {
                site.backend(node, app, &format!("{app}-{number}"))?;
            }
        }
        Ok(site)
    }

    fn backend(&mut self, node: usize, app: &str, name: &str) -> Result<()> {
        let pod = self.cluster.pod(node, name).create()?;
        // It answers every SYN, however many there are.
        let cookies = ("ipv4/tcp_syncookies", "2");
        pod.placement().netns.set_sysctls(&[cookies])?;
        let server = pod.serve(&[80], &[80])?;
        self.records.push(workload::Pod::of(&pod, NAMESPACE, app));
        self.backends.push((server, pod));
        Ok(())
    }

    /// The backends as the control plane knows them, near ones first.
    pub fn records(&self) -> &[workload::Pod] {
        &self.records
    }

    /// Serves these pods as a Service under a NodePort and load-balancer addresses; `number`
    /// (at most 250) makes them its own. Gives the addresses at the first node.
    pub fn service(
        &self,
        number: u8,
        pods: &[workload::Pod],
    ) -> Result<(Service, Vec<SocketAddr>)> {
        let v4 = IpAddr::V4(Ipv4Addr::new(203, 0, 113, number));
        let v6 = IpAddr::V6(Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xcb00,
            0,
            0,
            0,
            0,
            number.into(),
        ));
        let node_port = 30_000 + u16::from(number);
        let mut addresses = vec![SocketAddr::new(v4, 80), SocketAddr::new(v6, 80)];
        for vip in [v4, v6] {
            self.cluster.route_vip(vip, 0)?;
        }
        let node = self.cluster.node(0).addresses();
        addresses.extend(node.iter().map(|&ip| SocketAddr::new(ip, node_port)));
        let cluster_v4 = Ipv4Addr::new(10, 96, 1, number);
        let cluster_v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 1, number.into());
        let name = format!("stress-{number}");
        let service = Service::new(NAMESPACE, &name, cluster_v4, cluster_v6)
            .port("tcp", 80, 80, "TCP")
            .port("udp", 80, 80, "UDP")
            .node_port("tcp", node_port)
            .node_port("udp", node_port)
            .load_balancer(&[v4, v6]);
        self.objects.apply(service.object())?;
        self.endpoints(&service, pods)?;
        Ok((service, addresses))
    }

    /// Makes these pods, whatever their labels, the endpoints of a Service.
    pub fn endpoints(&self, service: &Service, pods: &[workload::Pod]) -> Result<()> {
        let selector = service.object()["spec"]["selector"]["app"].as_str();
        let app = selector.context("a Service selects by app")?;
        let selected: Vec<_> = pods
            .iter()
            .cloned()
            .map(|mut pod| {
                pod.labels.insert("app".to_owned(), app.to_owned());
                pod
            })
            .collect();
        for slice in endpoint_slices(service.object(), &selected) {
            self.objects.apply(&slice)?;
        }
        Ok(())
    }

    /// A Service of the near pods and one of the far pods, once both are reached everywhere;
    /// nothing is tracked then.
    pub fn near_and_far(&self) -> Result<[Vec<SocketAddr>; 2]> {
        let (near, far) = self.records.split_at(self.records.len() / 2);
        let all = [self.service(1, near)?.1, self.service(2, far)?.1];
        self.wait_for(all.concat())?;
        lbctl(self.cluster.node(0), &["conntrack", "flush", "--all"])?;
        Ok(all)
    }

    /// Waits until a client outside is answered at all these addresses, over TCP and UDP.
    pub fn wait_for(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Result<()> {
        let mut client = self.outside.control()?;
        for to in addresses {
            for dial in [Dial::tcp(to).abort(), Dial::udp(to)] {
                let dial = dial.timeout(Duration::from_millis(500));
                let answered = patience::wait(patience::CHANGE_LIMIT, || {
                    let dialed = client.dial(&dial).map_err(|error| format!("{error:#}"))?;
                    dialed
                        .ok
                        .then_some(())
                        .ok_or_else(|| format!("{:?}", dialed.error))
                });
                answered.with_context(|| format!("{to} should answer\n{}", self.proxy_output()))?;
            }
        }
        Ok(())
    }

    /// The last lines that the first node's proxy wrote.
    pub fn proxy_output(&self) -> String {
        self.proxies[0].recent_output(20)
    }
}

/// Every address with both protocols.
pub fn over_both(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<Target> {
    let both = |to| [(Protocol::Tcp, to), (Protocol::Udp, to)];
    addresses.into_iter().flat_map(both).collect()
}

/// Thousands of connections take as many descriptors; servers inherit the limit.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")
}

//! The smallest scene most tests need: one node with its proxy, one Service over two pods, and a
//! client that has reached both.
//!
//! The Service is `default/web`, dual-stack, TCP and UDP port 80; its pods `pod-1` and `pod-2`
//! serve both.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    Cluster,
    agent::dial::{Dial, Summary},
    apiserver::{ApiServer, Options},
    cluster::Pod,
    control::Control,
    objects::{Api, ControlPlane, Objects},
    patience::{self, CHANGE_LIMIT},
    process::Process,
    proxy::{ProxyOptions, ProxyUnderTest, Source},
    workload::{self, Service},
};

/// The scene; see the module documentation. Pods go before the cluster they are part of, because
/// fields drop in order.
#[derive(Debug)]
pub struct Scene {
    /// The client in [`Scene::client_pod`].
    pub client: Control,
    /// A pod that serves nothing.
    pub client_pod: Pod,
    servers: Vec<(Process, Pod)>,
    /// The Service.
    pub service: Service,
    /// Its objects.
    pub control_plane: ControlPlane,
    proxy: Option<ProxyUnderTest>,
    options: ProxyOptions,
    /// The stand-in API server, if the proxy takes its objects from one.
    pub api: Option<Arc<ApiServer>>,
    /// The cluster.
    pub cluster: Cluster,
}

// === impl Scene ===

impl Scene {
    /// The scene with a proxy that reads files, started with these further arguments.
    pub fn from_files(arguments: &[&str]) -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).dual_stack().build()?;
        let manifests = cluster.manifests()?;
        let source = Source::Files(manifests.path().to_owned());
        Self::set(cluster, Box::new(manifests), source, None, arguments)
    }

    /// The scene with a proxy that watches the stand-in API server.
    pub fn from_api(arguments: &[&str]) -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).dual_stack().build()?;
        let (server, kubeconfig) = cluster.api_server(Options::default())?;
        let objects = Box::new(Api::new(Arc::clone(&server)));
        Self::set(
            cluster,
            objects,
            Source::Kubeconfig(kubeconfig),
            Some(server),
            arguments,
        )
    }

    fn set(
        cluster: Cluster,
        objects: Box<dyn Objects>,
        source: Source,
        api: Option<Arc<ApiServer>>,
        arguments: &[&str],
    ) -> Result<Self> {
        let node = cluster.node(0);
        objects.apply(&node.object())?;
        let mut options = ProxyOptions::new(source);
        options.arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        let mut control_plane = ControlPlane::new(objects);
        let v4 = Ipv4Addr::new(10, 96, 0, 100);
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x100);
        let service = Service::new("default", "web", v4, v6)
            .port("tcp", 80, 80, "TCP")
            .port("udp", 80, 80, "UDP");
        control_plane.apply(service.object())?;
        let mut servers = Vec::new();
        for name in ["pod-1", "pod-2"] {
            let pod = cluster.pod(0, name).create()?;
            servers.push((pod.serve(&[80], &[80])?, pod));
        }
        let proxy = ProxyUnderTest::start(node, &options)?;
        let client_pod = cluster.pod(0, "client").create()?;
        let client = client_pod.control()?;
        let proxy = Some(proxy);
        let mut scene = Self {
            client,
            client_pod,
            servers,
            service,
            control_plane,
            proxy,
            options,
            api,
            cluster,
        };
        scene.publish(&["pod-1", "pod-2"])?;
        scene.reaches(&["pod-1", "pod-2"])?;
        Ok(scene)
    }

    /// Makes pods endpoints of the Service.
    pub fn publish(&mut self, names: &[&str]) -> Result<()> {
        let pods = self.servers.iter().map(|(_, pod)| pod);
        let records: Vec<workload::Pod> = pods
            .filter(|pod| names.contains(&pod.name()))
            .map(|pod| workload::Pod::of(pod, "default", "web"))
            .collect();
        ensure!(records.len() == names.len(), "no such pods: {names:?}");
        self.control_plane.set_pods(records)
    }

    /// Takes pods out of the Service; they go on serving.
    pub fn withdraw(&mut self, names: &[&str]) -> Result<()> {
        self.control_plane.remove_pods("default", names)
    }

    /// The pods that serve, whether they are endpoints or not.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.servers.iter().map(|(_, pod)| pod)
    }

    /// The Service's TCP ports, IPv4 first.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.service.at(80)
    }

    /// Waits until new connections to both addresses are answered by exactly these pods. None may
    /// fail on the way.
    pub fn reaches(&mut self, names: &[&str]) -> Result<()> {
        for to in self.addresses() {
            let reached = patience::wait(CHANGE_LIMIT, || {
                let summary = self.connect(to, 40).map_err(|error| format!("{error:#}"))?;
                let right = summary.replies.keys().eq(names);
                let reached = summary.failed() == 0 && right;
                reached.then_some(()).ok_or_else(|| format!("{summary:?}"))
            });
            reached
                .with_context(|| format!("{to} should reach {names:?}\n{}", self.proxy_output()))?;
        }
        Ok(())
    }

    /// Connects this many times and asks for the hostname.
    pub fn connect(&mut self, to: SocketAddr, times: u64) -> Result<Summary> {
        self.client.dial_many(&Dial::tcp(to).abort(), times)
    }

    /// Kills the proxy with SIGKILL: no chance to tidy up.
    pub fn kill_proxy(&mut self) -> Result<()> {
        self.proxy.take().context("no proxy runs")?.process().kill();
        Ok(())
    }

    /// Asks the proxy to end, and tells how it did.
    pub fn terminate_proxy(&mut self) -> Result<ExitStatus> {
        let mut proxy = self.proxy.take().context("no proxy runs")?;
        proxy.process().stop(Duration::from_secs(5))
    }

    /// Where the proxy takes its objects from.
    pub fn source(&self) -> &Source {
        &self.options.source
    }

    /// Starts the proxy again and waits until it is healthy.
    pub fn start_proxy(&mut self) -> Result<()> {
        self.proxy = Some(ProxyUnderTest::start(self.cluster.node(0), &self.options)?);
        Ok(())
    }

    /// Starts the proxy again without waiting.
    pub fn launch_proxy(&mut self) -> Result<()> {
        self.proxy = Some(ProxyUnderTest::launch(self.cluster.node(0), &self.options)?);
        Ok(())
    }

    /// The last lines the proxy wrote.
    pub fn proxy_output(&self) -> String {
        self.proxy
            .as_ref()
            .map(|proxy| proxy.recent_output(20))
            .unwrap_or_default()
    }
}

//! Connections while the controller is killed, is away, and comes back. Rules K2 and C16.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use lb_integration::{
    Cluster,
    agent::{dial::Dial, socket::Protocol},
    cluster::Pod,
    control::Control,
    objects::{ControlPlane, Objects},
    process::Process,
    proxy::{ProxyOptions, ProxyUnderTest, Source},
    workload::{self, Service},
};

/// One node, one Service over two pods, its proxy, and a client that has reached both.
///
/// Fields drop in order: pods go before the cluster they are part of.
struct Scene {
    client: Control,
    client_pod: Pod,
    _servers: Vec<(Process, Pod)>,
    service: Service,
    control_plane: ControlPlane,
    proxy: Option<ProxyUnderTest>,
    options: ProxyOptions,
    cluster: Cluster,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::builder().nodes(1).dual_stack().build().unwrap();
        let manifests = cluster.manifests().unwrap();
        let options = ProxyOptions::new(Source::Files(manifests.path().to_owned()));
        manifests.apply(&cluster.node(0).object()).unwrap();
        let mut control_plane = ControlPlane::new(Box::new(manifests));
        let v4 = Ipv4Addr::new(10, 96, 0, 1);
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1);
        let service = Service::new("default", "web", v4, v6).port("", 80, 80, "TCP");
        control_plane.apply(service.object()).unwrap();
        let mut servers = Vec::new();
        for name in ["pod-1", "pod-2"] {
            let pod = cluster.pod(0, name).create().unwrap();
            let server = pod.serve(&[80], &[]).unwrap();
            control_plane
                .set_pods([workload::Pod::of(&pod, "default", "web")])
                .unwrap();
            servers.push((server, pod));
        }
        let proxy = ProxyUnderTest::start(cluster.node(0), &options).unwrap();
        let client_pod = cluster.pod(0, "client").create().unwrap();
        let mut client = client_pod.control().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while client
            .dial_many(&Dial::tcp(service.v4(80)).abort(), 30)
            .unwrap()
            .replies
            .len()
            < 2
        {
            assert!(Instant::now() < deadline, "{}", proxy.recent_output(20));
        }
        Self {
            client,
            client_pod,
            _servers: servers,
            service,
            control_plane,
            proxy: Some(proxy),
            options,
            cluster,
        }
    }

    /// SIGKILL: no chance to tidy up.
    fn kill_proxy(&mut self) {
        self.proxy.take().unwrap().process().kill();
    }

    fn start_proxy(&mut self) {
        self.proxy = Some(ProxyUnderTest::start(self.cluster.node(0), &self.options).unwrap());
    }
}

/// Kills and restarts the controller as often as fits while connections are made; every restart
/// also replaces the programs.
fn connections_survive_restarts(pick: fn(&Service) -> SocketAddr, connections: u64) {
    let mut scene = Scene::new();
    let to = pick(&scene.service);
    let dial = Dial::tcp(to).abort();
    // A client of its own, because the thread keeps it.
    let mut client = scene.client_pod.control().unwrap();
    let dialling = thread::spawn(move || client.dial_many(&dial, connections).unwrap());
    let mut restarts = 0;
    while !dialling.is_finished() {
        scene.kill_proxy();
        thread::sleep(Duration::from_millis(100));
        scene.start_proxy();
        thread::sleep(Duration::from_millis(100));
        restarts += 1;
    }
    let summary = dialling.join().unwrap();
    assert_eq!(
        (summary.dials, summary.failed()),
        (connections, 0),
        "{summary:?}"
    );
    assert_eq!(summary.replies.len(), 2, "{summary:?}");
    // An untranslated connection would have failed; one not translated back shows a pod here.
    assert_eq!(
        summary.peers.keys().collect::<Vec<_>>(),
        [&to],
        "{summary:?}"
    );
    assert!(
        restarts >= 2,
        "only {restarts} restarts in the time of {connections} connections"
    );
}

#[test]
fn k2_ten_thousand_v4_connections_survive_restarts_of_the_controller() {
    connections_survive_restarts(|service| service.v4(80), 10_000);
}

#[test]
fn k2_ten_thousand_v6_connections_survive_restarts_of_the_controller() {
    connections_survive_restarts(|service| service.v6(80), 10_000);
}

#[test]
fn k2_services_work_while_no_controller_runs_and_changes_follow_when_it_is_back() {
    let mut scene = Scene::new();
    let to = scene.service.v4(80);
    let dial = Dial::tcp(to).abort();
    let stream = scene
        .client
        .connect_new(Protocol::Tcp, to)
        .unwrap()
        .unwrap();
    assert_eq!(
        scene.client.ask(stream, "stream").unwrap().unwrap().data,
        "streaming"
    );

    scene.kill_proxy();
    let summary = scene.client.dial_many(&dial, 200).unwrap();
    assert_eq!(
        (summary.failed(), summary.replies.len()),
        (0, 2),
        "{summary:?}"
    );
    // Nobody acts on this yet.
    scene
        .control_plane
        .remove_pods("default", &["pod-1"])
        .unwrap();
    let summary = scene.client.dial_many(&dial, 200).unwrap();
    assert_eq!(
        (summary.failed(), summary.replies.len()),
        (0, 2),
        "{summary:?}"
    );

    scene.start_proxy();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let summary = scene.client.dial_many(&dial, 30).unwrap();
        assert_eq!(summary.failed(), 0, "{summary:?}");
        if summary.replies.keys().eq(["pod-2"]) {
            break;
        }
        assert!(Instant::now() < deadline, "{summary:?}");
    }
    // The connection made before all this goes on.
    assert_eq!(
        scene
            .client
            .ask(stream, "still here")
            .unwrap()
            .unwrap()
            .data,
        "still here"
    );
    assert_eq!(scene.client.peer(stream).unwrap().unwrap(), to);
}

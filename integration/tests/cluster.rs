//! The cluster itself: direct traffic between pods, isolation, and removal whatever happens.
//!
//! No service proxy runs here: what fails in this file is the harness, not the proxy.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use lb_integration::{
    Cluster, PodNetwork,
    agent::{
        ServeOptions,
        dial::Dial,
        socket::{ErrorKind, Family, Protocol},
    },
    bpffs, cgroup,
    cluster::CniRules,
    netns,
    prefix::Prefix,
};
use nix::sys::signal::Signal;

fn dials(to: SocketAddr) -> Vec<Dial> {
    let mut all = vec![Dial::tcp(to), Dial::udp(to), Dial::udp_unconnected(to)];
    if to.is_ipv4() {
        let mapped: Vec<Dial> = all.iter().cloned().map(Dial::mapped).collect();
        all.extend(mapped);
    }
    all
}

/// Everything of a cluster that exists outside its own namespaces.
fn traces(prefix: &Prefix) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(netns::DIRECTORY)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| Prefix::of(&e.file_name().to_string_lossy()).as_ref() == Some(prefix))
        .map(|e| e.path())
        .collect();
    found.push(cgroup::mount_point().unwrap().join(prefix.as_str()));
    found.push(Path::new(bpffs::MOUNT_POINT).join(prefix.as_str()));
    found.retain(|path| path.exists());
    found
}

/// Whether a process exists and is more than a zombie that nobody has collected yet.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Every pair of pods and the hosts, over TCP and UDP, v4, v6 and mapped, also large datagrams.
fn traffic_flows_between_pods(cluster: &Cluster, masqueraded: bool) {
    let servers = [
        cluster.pod(0, "near").create().unwrap(),
        cluster.pod(1, "far").create().unwrap(),
        cluster.pod(1, "hostnet").host_network().create().unwrap(),
    ];
    let _running: Vec<_> = servers
        .iter()
        .map(|s| s.serve(&[8080], &[8080]).unwrap())
        .collect();
    let client = cluster.pod(0, "client").create().unwrap();
    let outside = cluster.outside("user").unwrap();
    let mut from_pod = client.control().unwrap();
    let mut from_host = cluster.node(0).control().unwrap();
    let mut from_outside = outside.control().unwrap();

    for server in &servers {
        for address in server.addresses() {
            let to = SocketAddr::new(address, 8080);
            for dial in dials(to) {
                for control in [&mut from_pod, &mut from_host] {
                    let dialed = control.dial(&dial).unwrap();
                    assert_eq!(
                        dialed.reply.as_deref(),
                        Some(server.name()),
                        "{dial:?} {dialed:?}"
                    );
                    assert_eq!(dialed.peer, Some(dial.expected_peer()), "{dial:?}");
                }
                let large = "x".repeat(2_000);
                let echo = dial.clone().request(format!("echo {large}"));
                let dialed = from_pod.dial(&echo).unwrap();
                assert_eq!(dialed.reply, Some(large), "{dial:?} {:?}", dialed.error);
            }
            let source = from_pod
                .dial(&Dial::tcp(to).request("clientip"))
                .unwrap()
                .reply
                .unwrap();
            let source: SocketAddr = source.parse().unwrap();
            let expected = if masqueraded && server.is_host_network() {
                cluster.node(0).addresses()
            } else {
                client.addresses()
            };
            assert!(
                expected.contains(&source.ip()),
                "{source} is not of {expected:?}"
            );
            if server.is_host_network() {
                let dialed = from_outside
                    .dial(&Dial::tcp(to).request("clientip"))
                    .unwrap();
                let source: SocketAddr = dialed.reply.unwrap().parse().unwrap();
                assert!(outside.addresses().contains(&source.ip()), "{source}");
            }
        }
    }
}

#[test]
fn traffic_flows_between_routed_pods() {
    traffic_flows_between_pods(&Cluster::builder().build().unwrap(), false);
}

#[test]
fn traffic_flows_between_bridged_pods() {
    let bridged = Cluster::builder().pod_network(PodNetwork::Bridged);
    traffic_flows_between_pods(&bridged.build().unwrap(), false);
}

#[test]
fn traffic_flows_between_pods_over_a_tunnel() {
    traffic_flows_between_pods(&Cluster::builder().overlay().build().unwrap(), false);
}

#[test]
fn traffic_flows_between_pods_under_a_cnis_rules() {
    let cluster = Cluster::builder().complete_checksums().build().unwrap();
    let rules: Vec<_> = cluster.nodes().iter().map(CniRules::install).collect();
    traffic_flows_between_pods(&cluster, true);
    for rules in rules {
        let rules = rules.unwrap();
        assert_eq!(rules.dropped("invalid").unwrap(), 0);
        assert_eq!(rules.dropped("stranger").unwrap(), 0);
    }
}

#[test]
fn failures_have_names() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let (server, client) = (
        cluster.pod(0, "server").create().unwrap(),
        cluster.pod(0, "client").create().unwrap(),
    );
    let mut control = client.control().unwrap();
    let kind = |control: &mut lb_integration::control::Control, dial: Dial| {
        let error = control
            .dial(&dial.timeout(Duration::from_millis(300)))
            .unwrap()
            .error;
        error.map(|failure| failure.kind)
    };
    for address in server.addresses() {
        let closed = SocketAddr::new(address, 9);
        assert_eq!(
            kind(&mut control, Dial::tcp(closed)),
            Some(ErrorKind::Refused)
        );
        assert_eq!(
            kind(&mut control, Dial::udp(closed)),
            Some(ErrorKind::Refused)
        );
        assert_eq!(
            kind(&mut control, Dial::udp_unconnected(closed)),
            Some(ErrorKind::Timeout)
        );
    }
    // The Service range is routed nowhere. The ICMP answer ends a connect at once, unless it comes
    // while connect() still holds the socket: then only the next SYN would tell.
    for nowhere in ["10.96.0.10:80", "[fd00:96::a]:80"] {
        let error = kind(&mut control, Dial::tcp(nowhere.parse().unwrap()));
        let expected = [Some(ErrorKind::Unreachable), Some(ErrorKind::Timeout)];
        assert!(expected.contains(&error), "{nowhere}: {error:?}");
    }
}

#[test]
fn processes_are_in_their_pods_cgroup_and_namespace() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let node = cluster.node(0);
    let mount = cgroup::mount_point().unwrap();
    let inside = |placement: &lb_integration::process::Placement| {
        let mut command = Command::new("sh");
        command.args(["-c", "cat /proc/self/cgroup; stat -Lc %i /proc/self/ns/net"]);
        let text = placement
            .output(command, Duration::from_secs(5))
            .unwrap()
            .stdout;
        let cgroup = text
            .lines()
            .find_map(|l| l.strip_prefix("0::/"))
            .unwrap()
            .to_owned();
        (mount.join(cgroup), text.lines().last().unwrap().to_owned())
    };
    let pod = cluster.pod(0, "plain").create().unwrap();
    let hostnet = cluster.pod(0, "hostnet").host_network().create().unwrap();
    let kata = cluster
        .pod(0, "kata")
        .without_socket_hooks()
        .create()
        .unwrap();
    let (pod_cgroup, pod_netns) = inside(pod.placement());
    let (host_cgroup, host_netns) = inside(&node.host());
    let (hostnet_cgroup, hostnet_netns) = inside(hostnet.placement());
    let (kata_cgroup, kata_netns) = inside(kata.placement());
    let (system_cgroup, system_netns) = inside(&node.system());
    for hooked in [&pod_cgroup, &host_cgroup, &hostnet_cgroup] {
        assert!(hooked.starts_with(node.cgroup()), "{}", hooked.display());
    }
    for free in [&kata_cgroup, &system_cgroup] {
        assert!(!free.starts_with(node.cgroup()), "{}", free.display());
    }
    assert_eq!(host_netns, hostnet_netns);
    assert_eq!(host_netns, system_netns);
    assert!(pod_netns != host_netns && kata_netns != host_netns && kata_netns != pod_netns);
}

#[test]
fn sockets_stay_open_across_requests() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let server = cluster.pod(0, "server").create().unwrap();
    let _running = server.serve(&[80], &[53]).unwrap();
    let client = cluster.pod(0, "client").create().unwrap();
    let mut control = client.control().unwrap();
    let to = SocketAddr::new(IpAddr::V4(server.v4()), 80);
    let stream = control.connect_new(Protocol::Tcp, to).unwrap().unwrap();
    assert_eq!(
        control.ask(stream, "stream").unwrap().unwrap().data,
        "streaming"
    );
    for line in ["one", "two"] {
        assert_eq!(control.ask(stream, line).unwrap().unwrap().data, line);
    }
    assert_eq!(control.peer(stream).unwrap().unwrap(), to);
    let udp = control
        .open(Protocol::Udp, Family::V6, None)
        .unwrap()
        .unwrap();
    for address in server.addresses() {
        let to = SocketAddr::new(address, 53);
        let received = control.ask_at(udp, to, "hostname").unwrap().unwrap();
        assert_eq!(received.data, "server");
        let port = control.local(udp).unwrap().unwrap().port();
        let seen = control.ask_at(udp, to, "clientip").unwrap().unwrap().data;
        assert_eq!(seen.parse::<SocketAddr>().unwrap().port(), port);
    }
    let many = control.dial_many(&Dial::tcp(to).abort(), 500).unwrap();
    assert_eq!(
        (many.replies.get("server"), many.failed()),
        (Some(&500), 0),
        "{many:?}"
    );
}

#[test]
fn server_goes_on_serving_after_sigterm_when_told_to() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let pod = cluster.pod(0, "server").create().unwrap();
    let options = ServeOptions {
        name: "slow".into(),
        delay_shutdown: Duration::from_millis(600),
        ..ServeOptions::default()
    };
    let mut server = pod.serve_with(&options, &[80], &[]).unwrap();
    let mut control = pod.control().unwrap();
    let dial = Dial::tcp(SocketAddr::new(IpAddr::V4(pod.v4()), 80));
    server.signal(Signal::SIGTERM).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(control.dial(&dial).unwrap().reply.as_deref(), Some("slow"));
    assert!(server.wait(Duration::from_secs(3)).unwrap().success());
    assert_eq!(
        control.dial(&dial).unwrap().error.unwrap().kind,
        ErrorKind::Refused
    );
}

#[test]
fn http_is_spoken_on_tcp_ports() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let node = cluster.node(0);
    let pod = cluster.pod(0, "web").create().unwrap();
    let _running = pod.serve(&[80], &[]).unwrap();
    for address in pod.addresses() {
        let to = SocketAddr::new(address, 80);
        assert_eq!(
            node.http_get(to, "/hostname").unwrap(),
            (200, "web".to_owned())
        );
        assert_eq!(
            node.http_get(to, "/echo?msg=a%20b").unwrap(),
            (200, "a b".to_owned())
        );
        assert_eq!(node.http_get(to, "/nothing").unwrap().0, 404);
    }
}

#[test]
fn two_clusters_stand_at_once_with_the_same_addresses() {
    let clusters: Vec<Cluster> = (0..2)
        .map(|_| Cluster::builder().nodes(1).build().unwrap())
        .collect();
    let names = ["first", "second"];
    let pods: Vec<_> = clusters
        .iter()
        .zip(names)
        .map(|(cluster, name)| cluster.pod(0, name).create().unwrap())
        .collect();
    assert_eq!(pods[0].v4(), pods[1].v4());
    let _running: Vec<_> = pods.iter().map(|p| p.serve(&[80], &[]).unwrap()).collect();
    for (cluster, pod) in clusters.iter().zip(&pods) {
        let mut control = cluster.node(0).control().unwrap();
        let dial = Dial::tcp(SocketAddr::new(IpAddr::V4(pod.v4()), 80));
        assert_eq!(
            control.dial(&dial).unwrap().reply.as_deref(),
            Some(pod.name())
        );
    }
}

#[test]
fn an_address_can_be_given_to_the_next_pod() {
    let cluster = Cluster::builder().nodes(1).build().unwrap();
    let mut control = cluster.node(0).control().unwrap();
    let first = cluster.pod(0, "first").create().unwrap();
    let (host, v4) = (first.host_part().unwrap(), first.v4());
    let dial = Dial::tcp(SocketAddr::new(IpAddr::V4(v4), 80));
    let running = first.serve(&[80], &[]).unwrap();
    assert_eq!(control.dial(&dial).unwrap().reply.as_deref(), Some("first"));
    drop((running, first));
    let second = cluster.pod(0, "second").host_part(host).create().unwrap();
    let _running = second.serve(&[80], &[]).unwrap();
    assert_eq!(
        control.dial(&dial).unwrap().reply.as_deref(),
        Some("second")
    );
}

#[test]
fn drop_leaves_no_trace_and_kills_what_runs() {
    let cluster = Cluster::builder().nodes(2).build().unwrap();
    let prefix = cluster.prefix().clone();
    let pod = cluster.pod(0, "p").create().unwrap();
    // Not held by a handle that would kill it, and deaf to SIGTERM.
    let mut command = Command::new("sh");
    command.args(["-c", "(trap '' TERM; exec sleep 1000) & echo $!"]);
    let output = pod.output(command, Duration::from_secs(5)).unwrap();
    let pid: u32 = output.stdout.trim().parse().unwrap();
    assert!(runs(pid));
    assert!(traces(&prefix).len() >= 6, "{:?}", traces(&prefix));
    drop(cluster);
    assert_eq!(traces(&prefix), Vec::<PathBuf>::new());
    assert!(!runs(pid));
}

#[test]
fn a_panic_leaves_no_trace() {
    let mut name = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::builder().nodes(1).build().unwrap();
        name = Some(cluster.prefix().clone());
        let pod = cluster.pod(0, "p").create().unwrap();
        let _running = pod.serve(&[80], &[]).unwrap();
        // `resume_unwind` unwinds without printing a message that would look like a failure.
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(result.is_err());
    assert_eq!(traces(&name.unwrap()), Vec::<PathBuf>::new());
}

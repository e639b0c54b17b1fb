//! One test's part of the shared cluster: its Kubernetes namespace, pods, clients and checks.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use lb_integration::{
    agent::{
        ServeOptions,
        dial::{Dial, Dialed},
        socket::ErrorKind,
    },
    cluster::Pod,
    control::Control,
    process::Process,
    workload::{self, Service},
};
use serde_json::Value;

use crate::suite::{Suite, suite};

/// Upstream allows 30 seconds for a change of endpoints; we are far below on any machine.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// A namespace of its own; dropping it deletes its objects.
pub(crate) struct Scenario {
    suite: &'static Suite,
    namespace: String,
}

/// A pod that serves.
pub(crate) struct Backend {
    pub(crate) pod: Pod,
    pub(crate) server: Process,
}

/// A client in a pod or on a host.
pub(crate) struct Client {
    pub(crate) control: Control,
    pub(crate) pod: Option<Pod>,
}

// === impl Scenario ===

impl Scenario {
    /// The part of the cluster that belongs to the test `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            suite: suite(),
            namespace: name.to_owned(),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A Service with ClusterIPs of its own and the selector `app=<name>`; not yet applied.
    pub(crate) fn service(&self, name: &str) -> Service {
        let (v4, v6) = self.suite.cluster_ips();
        Service::new(&self.namespace, name, v4, v6)
    }

    pub(crate) fn apply(&self, object: &Value) {
        self.suite.control_plane().apply(object).unwrap();
    }

    pub(crate) fn delete(&self, object: &Value) {
        self.suite.control_plane().delete(object).unwrap();
    }

    /// A pod on node 0 or 1 that serves on these ports; not yet published.
    pub(crate) fn backend(&self, node: usize, name: &str, tcp: &[u16], udp: &[u16]) -> Backend {
        let pod = self.suite.cluster.pod(node, name).create().unwrap();
        let server = pod.serve(tcp, udp).unwrap();
        Backend { pod, server }
    }

    /// A host-network pod that serves.
    pub(crate) fn host_network_backend(&self, node: usize, name: &str, port: u16) -> Backend {
        let pod = self
            .suite
            .cluster
            .pod(node, name)
            .host_network()
            .create()
            .unwrap();
        let server = pod.serve(&[port], &[port]).unwrap();
        Backend { pod, server }
    }

    /// A pod whose server goes on for `delay` after SIGTERM.
    pub(crate) fn lingering_backend(&self, node: usize, name: &str, delay: Duration) -> Backend {
        let pod = self.suite.cluster.pod(node, name).create().unwrap();
        let options = ServeOptions {
            name: name.to_owned(),
            delay_shutdown: delay,
            ..Default::default()
        };
        let server = pod.serve_with(&options, &[80], &[80]).unwrap();
        Backend { pod, server }
    }

    /// Pods serving TCP and UDP on port 80, one per name, on the two nodes by turns, published
    /// under `app`.
    pub(crate) fn published_backends(&self, app: &str, names: &[&str]) -> Vec<Backend> {
        let backends: Vec<Backend> = names
            .iter()
            .enumerate()
            .map(|(i, name)| self.backend(i % 2, name, &[80], &[80]))
            .collect();
        self.publish(backends.iter().map(|backend| self.record(backend, app)));
        backends
    }

    /// What the control plane knows about a backend, to be changed and published.
    pub(crate) fn record(&self, backend: &Backend, app: &str) -> workload::Pod {
        workload::Pod::of(&backend.pod, &self.namespace, app)
    }

    /// Tells the control plane about pods.
    pub(crate) fn publish(&self, pods: impl IntoIterator<Item = workload::Pod>) {
        self.suite.control_plane().set_pods(pods).unwrap();
    }

    /// Changes what the control plane knows about a pod.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut workload::Pod)) {
        self.suite
            .control_plane()
            .change_pod(&self.namespace, name, change)
            .unwrap();
    }

    /// Makes the control plane forget a pod.
    pub(crate) fn withdraw(&self, name: &str) {
        self.suite
            .control_plane()
            .remove_pods(&self.namespace, &[name])
            .unwrap();
    }

    /// A client in a pod of its own.
    pub(crate) fn client(&self, node: usize) -> Client {
        let pod = self.suite.cluster.pod(node, "client").create().unwrap();
        let control = pod.control().unwrap();
        Client {
            control,
            pod: Some(pod),
        }
    }

    /// A client among the host processes of a node.
    pub(crate) fn host_client(&self, node: usize) -> Client {
        let control = self.suite.cluster.node(node).control().unwrap();
        Client { control, pod: None }
    }

    /// A client inside a backend's pod.
    #[expect(clippy::unused_self, reason = "reads as the other clients do")]
    pub(crate) fn client_in(&self, backend: &Backend) -> Client {
        Client {
            control: backend.pod.control().unwrap(),
            pod: None,
        }
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if thread::panicking() {
            self.suite.explain(&self.namespace);
        }
        let deleted = self.suite.control_plane().delete_namespace(&self.namespace);
        if let Err(error) = deleted {
            eprintln!("deleting namespace {}: {error:#}", self.namespace);
        }
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn dial(&mut self, dial: &Dial) -> Dialed {
        self.control.dial(dial).unwrap()
    }

    /// Waits until requests are answered by exactly these backends: every one within upstream's
    /// number of tries, no other, no failure, and always under the dialled address.
    pub(crate) fn reaches(&mut self, dial: &Dial, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        // Upstream's MaxTries.
        let tries = names.len() * names.len() + 30;
        let deadline = Instant::now() + CHANGE_LIMIT;
        loop {
            let outcome = self.collect(dial, &wanted, tries);
            match outcome {
                Ok(()) => return,
                Err(found) if Instant::now() > deadline => {
                    panic!("{dial:?} should reach exactly {wanted:?}, but {found}")
                }
                Err(_) => thread::sleep(Duration::from_millis(30)),
            }
        }
    }

    /// The same for several addresses.
    pub(crate) fn reaches_all(&mut self, dials: &[Dial], names: &[&str]) {
        for dial in dials {
            self.reaches(dial, names);
        }
    }

    fn collect(
        &mut self,
        dial: &Dial,
        wanted: &BTreeSet<String>,
        tries: usize,
    ) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        // A few more after the set is complete would notice a backend too many.
        let mut spare = 3;
        for _ in 0..tries {
            let dialed = self.dial(dial);
            match dialed.reply {
                Some(name) if wanted.contains(&name) => seen.insert(name),
                Some(name) => return Err(format!("{name} answered")),
                None => return Err(format!("there was {:?}", dialed.error)),
            };
            if dialed.peer != Some(dial.expected_peer()) {
                return Err(format!("the peer was reported as {:?}", dialed.peer));
            }
            if seen == *wanted {
                if spare == 0 {
                    return Ok(());
                }
                spare -= 1;
            }
        }
        if seen == *wanted {
            Ok(())
        } else {
            Err(format!("only {seen:?} answered"))
        }
    }

    /// Waits until requests fail, whatever the error, five times in a row.
    pub(crate) fn fails(&mut self, dial: &Dial) {
        self.fails_with(dial, |_| true);
    }

    /// Waits until requests are refused, five times in a row.
    pub(crate) fn is_refused(&mut self, dial: &Dial) {
        self.fails_with(dial, |kind| kind == ErrorKind::Refused);
    }

    /// Waits until requests fail, and not as if nobody served: a Service whose policy leaves no
    /// endpoint here is dropped, not refused (rule C12).
    pub(crate) fn is_dropped_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.fails_with(dial, |kind| kind != ErrorKind::Refused);
        }
    }

    /// [`Client::fails`] for several addresses.
    pub(crate) fn fails_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.fails(dial);
        }
    }

    /// [`Client::is_refused`] for several addresses.
    pub(crate) fn is_refused_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.is_refused(dial);
        }
    }

    fn fails_with(&mut self, dial: &Dial, expected: impl Fn(ErrorKind) -> bool) {
        let dial = dial.clone().timeout(Duration::from_millis(250));
        let deadline = Instant::now() + CHANGE_LIMIT;
        let mut in_a_row = 0;
        while in_a_row < 5 {
            let dialed = self.dial(&dial);
            if dialed
                .error
                .as_ref()
                .is_some_and(|failure| expected(failure.kind))
            {
                in_a_row += 1;
            } else {
                in_a_row = 0;
                assert!(
                    Instant::now() < deadline,
                    "{dial:?} should fail, but gave {dialed:?}"
                );
                thread::sleep(Duration::from_millis(30));
            }
        }
    }

    /// Requests `count` times and returns the hostnames that answered; none may fail.
    pub(crate) fn hostnames(&mut self, dial: &Dial, count: u64) -> BTreeSet<String> {
        let summary = self.control.dial_many(dial, count).unwrap();
        assert_eq!(summary.failed(), 0, "{dial:?}: {summary:?}");
        summary.replies.into_keys().collect()
    }
}

/// A TCP request with a second's patience.
pub(crate) fn tcp(to: SocketAddr) -> Dial {
    Dial::tcp(to).abort().timeout(Duration::from_secs(1))
}

/// A request over a connected UDP socket.
pub(crate) fn udp(to: SocketAddr) -> Dial {
    Dial::udp(to).timeout(Duration::from_millis(500))
}

/// TCP to both ClusterIPs.
pub(crate) fn tcp_both(service: &Service, port: u16) -> [Dial; 2] {
    service.at(port).map(tcp)
}

/// UDP to both ClusterIPs.
pub(crate) fn udp_both(service: &Service, port: u16) -> [Dial; 2] {
    service.at(port).map(udp)
}

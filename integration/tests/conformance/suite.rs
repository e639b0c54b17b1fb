//! The cluster that all tests of this binary share.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU16, Ordering},
    },
};

use lb_integration::{
    Cluster,
    apiserver::Options,
    cluster::Outside,
    objects::{Api, ControlPlane, Objects},
    proxy::{ProxyOptions, ProxyUnderTest, Source, lbctl},
};

/// A cluster of three nodes with a client outside, its objects and its proxies.
///
/// It lives in a static, so nothing drops it; the harness removes it when the process ends.
pub(crate) struct Suite {
    pub(crate) cluster: Cluster,
    pub(crate) outside: Outside,
    control_plane: Mutex<ControlPlane>,
    proxies: Mutex<Vec<ProxyUnderTest>>,
    next_ip: AtomicU16,
    next_node_port: AtomicU16,
    next_vip: AtomicU8,
}

/// Builds the cluster for the first test that asks.
pub(crate) fn suite() -> &'static Suite {
    static SUITE: OnceLock<Suite> = OnceLock::new();
    SUITE.get_or_init(|| {
        let builder = Cluster::builder().nodes(3).complete_checksums();
        let cluster = builder.build().unwrap();
        let (objects, source) = source(&cluster);
        for node in cluster.nodes() {
            objects.apply(&node.object()).unwrap();
        }
        let options = ProxyOptions::new(source);
        let mut proxies: Vec<ProxyUnderTest> = cluster
            .nodes()
            .iter()
            .map(|node| ProxyUnderTest::launch(node, &options).unwrap())
            .collect();
        for (node, proxy) in cluster.nodes().iter().zip(&mut proxies) {
            proxy
                .wait_healthy(node, std::time::Duration::from_secs(60))
                .unwrap();
        }
        Suite {
            outside: cluster.outside("user").unwrap(),
            cluster,
            control_plane: Mutex::new(ControlPlane::new(objects)),
            proxies: Mutex::new(proxies),
            // The first ones are taken, in a cluster with an API server.
            next_ip: AtomicU16::new(0x100),
            next_node_port: AtomicU16::new(30_000),
            next_vip: AtomicU8::new(1),
        }
    })
}

/// Where objects go and where proxies take them from: a directory, or with `LB_SOURCE=api` the
/// stand-in API server.
fn source(cluster: &Cluster) -> (Box<dyn Objects>, Source) {
    if std::env::var("LB_SOURCE").is_ok_and(|source| source == "api") {
        let (server, kubeconfig) = cluster.api_server(Options::default()).unwrap();
        return (Box::new(Api::new(server)), Source::Kubeconfig(kubeconfig));
    }
    let manifests = cluster.manifests().unwrap();
    let source = Source::Files(manifests.path().to_owned());
    (Box::new(manifests), source)
}

// === impl Suite ===

impl Suite {
    /// The objects. A test that failed while it held them has left them usable.
    pub(crate) fn control_plane(&self) -> MutexGuard<'_, ControlPlane> {
        self.control_plane
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// ClusterIPs no other Service of this run has.
    pub(crate) fn cluster_ips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.next_ip.fetch_add(1, Ordering::Relaxed);
        let [high, low] = n.to_be_bytes();
        (
            Ipv4Addr::new(10, 96, high, low),
            Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n),
        )
    }

    /// A node port no other Service of this run has.
    pub(crate) fn node_port(&self) -> u16 {
        self.next_node_port.fetch_add(1, Ordering::Relaxed)
    }

    /// Addresses for a load balancer that no other Service of this run has.
    pub(crate) fn vips(&self) -> [IpAddr; 2] {
        let n = self.next_vip.fetch_add(1, Ordering::Relaxed);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(n));
        [Ipv4Addr::new(192, 0, 2, n).into(), v6.into()]
    }

    /// Prints what helps to understand a failure: the proxies' last words and their tables.
    pub(crate) fn explain(&self, namespace: &str) {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, proxy) in self.cluster.nodes().iter().zip(proxies.iter()) {
            eprintln!("--- proxy of {}:\n{}", node.name(), proxy.recent_output(15));
            match lbctl(node, &["list", "--by-service", "--namespace", namespace]) {
                Ok(text) => eprintln!("--- lbctl list on {}:\n{text}", node.name()),
                Err(error) => eprintln!("--- no lbctl on {}: {error:#}", node.name()),
            }
        }
    }
}

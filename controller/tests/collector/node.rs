//! A pin directory and a cgroup of a test's own, with one Service of two ports.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use lb_controller::{
    conntrack::FlowSizes,
    datapath::{Network, Place, cleanup},
    devices::{Inventory, Options},
    kernel::{Features, check_bpffs, find_cgroup2},
    loader::Cgroup,
    maps::Maps,
    model::{
        Endpoint, EndpointSlice, Event, Family, Kind, NodeHint, ObjectName, Protocol as Model,
        Service, ServicePort, ServiceType, Settings, SlicePort, TrafficPolicy,
    },
    pins::Pins,
    plan::GoneBackend,
    reconcile::Reconciler,
};
use lb_ebpf::abi::{Addr, Lifetime, Protocol};

use crate::flows::Slot;

/// Everything is undone when this is dropped, also by a panic.
pub(crate) struct Node {
    /// Dropped before what it uses is removed.
    reconciler: Reconciler,
    undo: Undo,
}

struct Undo {
    cgroup: PathBuf,
    pins: PathBuf,
}

const PORTS: [(&str, Model); 2] = [("tcp", Model::Tcp), ("udp", Model::Udp)];

fn name() -> ObjectName {
    ObjectName {
        namespace: "test".into(),
        name: "web".into(),
    }
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with_room_for(4096)
    }

    pub(crate) fn with_room_for(entries: u32) -> Self {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let unique = format!("lb-collector-{}-{number}", process::id());
        let undo = Undo {
            cgroup: find_cgroup2().expect("a cgroup v2 hierarchy").join(&unique),
            pins: Path::new("/sys/fs/bpf").join(&unique),
        };
        check_bpffs(&undo.pins).expect("a BPF file system at /sys/fs/bpf: run as root");
        fs::create_dir(&undo.cgroup).expect("a new cgroup");
        let options = Options {
            lifetimes: [1; Lifetime::COUNT],
            ..Options::default()
        };
        let place = Place {
            pins: Pins::new(&undo.pins),
            cgroup: Cgroup::open(&undo.cgroup).expect("our cgroup"),
            features: Features::probe(),
            affinity_entries: 64,
            flow_sizes: FlowSizes {
                conntrack: entries,
                half_open: 4096,
                fragments: 64,
            },
            node_name: "collector".into(),
            source: "files",
            network: Network::new(options, Inventory::default()),
        };
        let mut node = Self {
            reconciler: Reconciler::start(place, Settings::default())
                .expect("nothing is programmed"),
            undo,
        };
        for kind in [Kind::Services, Kind::EndpointSlices] {
            node.observe(Event::Listing(kind));
            node.observe(Event::Listed(kind));
        }
        node.observe(Event::Service(name(), Some(service())));
        node.endpoints(&[]);
        node
    }

    fn observe(&mut self, event: Event) {
        self.reconciler.observe(event);
    }

    /// Programs these endpoints in place of the last ones; returns UDP backends that no
    /// longer serve.
    pub(crate) fn endpoints(&mut self, addrs: &[&str]) -> Vec<GoneBackend> {
        let slice = EndpointSlice {
            service: name(),
            family: Family::V4,
            ports: PORTS
                .map(|(name, protocol)| SlicePort {
                    name: name.into(),
                    protocol,
                    port: 8080,
                })
                .into(),
            endpoints: addrs.iter().map(|text| endpoint(text)).collect(),
        };
        self.observe(Event::EndpointSlice(name(), Some(slice)));
        let outcome = self.reconciler.reconcile();
        outcome.expect("writes succeed").gone
    }

    pub(crate) fn maps(&self) -> &Maps {
        self.reconciler.datapath().expect("a datapath").maps()
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.undo.pins)
    }

    /// The slot of a backend.
    pub(crate) fn slot(&self, addr: &str, protocol: Protocol) -> Slot {
        let addr = Addr::from(addr.parse::<IpAddr>().expect("an address"));
        let maps = self.maps();
        let is_wanted = |slot: &u32| {
            let backend = maps.backends.get(*slot);
            backend.addr == addr
                && backend.flags != 0
                && maps.service_info.get(backend.service_id).protocol == protocol as u8
        };
        let index = (0..maps.backends.len()).find(is_wanted).expect("a backend");
        let backend = maps.backends.get(index);
        Slot {
            index,
            generation: backend.generation,
            service_id: backend.service_id,
        }
    }
}

fn service() -> Service {
    let port = |(name, protocol): (&str, _)| ServicePort {
        name: name.into(),
        protocol,
        port: 80,
        node_port: 0,
    };
    Service {
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec!["10.96.0.1".parse().expect("an address")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        pinned_len: None,
        forwarding: None,
        health_check_node_port: 0,
        source_ranges: Box::default(),
        ports: PORTS.map(port).into(),
    }
}

fn endpoint(addr: &str) -> Endpoint {
    Endpoint {
        addr: addr.parse().expect("an address"),
        ready: true,
        serving: true,
        terminating: false,
        local: true,
        node_hint: NodeHint::None,
        zone: None,
        zone_hints: Box::default(),
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let undone = [
            cleanup(&Pins::new(&self.pins)).map_err(|error| error.to_string()),
            fs::remove_dir(&self.pins).map_err(|error| error.to_string()),
            fs::remove_dir(&self.cgroup).map_err(|error| error.to_string()),
        ];
        for error in undone.into_iter().filter_map(Result::err) {
            eprintln!("clean-up: {error}");
        }
    }
}

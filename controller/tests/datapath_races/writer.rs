//! The writer: changes the Services through the reconciler, without a pause.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lb_controller::{
    datapath::Place,
    model::{
        Endpoint, EndpointSlice, Event, Family, Kind, NodeHint, ObjectName, Protocol, Service,
        ServicePort, ServiceType, Settings, SlicePort, TrafficPolicy,
    },
    reconcile::Reconciler,
};

use crate::{
    clients::Gates,
    servers::{BACKEND_PORT, BACKENDS, VIP_PORT, Who},
};

/// Lengths between which tables change: each change moves a table.
const LENGTHS: [Option<u32>; 5] = [None, Some(7), Some(13), Some(31), Some(211)];
/// A table so long that two of them fill the smallest slab.
const LONG: u32 = 500_009;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) reconciliations: u64,
    pub(crate) writes: usize,
    pub(crate) deletions: u64,
    pub(crate) growths: u64,
}

impl Written {
    /// Whether everything happened often enough to prove something.
    pub(crate) fn is_enough(&self) -> bool {
        self.reconciliations > 200 && self.deletions > 20 && self.growths >= 2
    }
}

pub(crate) struct Writer {
    reconciler: Reconciler,
    gates: Arc<Gates>,
    random: u64,
    written: Written,
    capacity: u32,
}

fn name(text: &str) -> ObjectName {
    ObjectName {
        namespace: "races".into(),
        name: text.into(),
    }
}

fn named(who: Who) -> ObjectName {
    name(&format!("{who:?}").to_lowercase())
}

fn service(vip: std::net::IpAddr, pinned_len: Option<u32>) -> Service {
    let port = |protocol, text: &str| ServicePort {
        name: text.into(),
        protocol,
        port: VIP_PORT,
        node_port: 0,
    };
    Service {
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![vip],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Box::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        pinned_len,
        forwarding: None,
        health_check_node_port: 0,
        ports: vec![port(Protocol::Tcp, "tcp"), port(Protocol::Udp, "udp")],
    }
}

fn slice(service: ObjectName, addrs: impl Iterator<Item = std::net::IpAddr>) -> EndpointSlice {
    let port = |protocol, text: &str| SlicePort {
        name: text.into(),
        protocol,
        port: BACKEND_PORT,
    };
    let endpoint = |addr| Endpoint {
        addr,
        ready: true,
        serving: true,
        terminating: false,
        local: true,
        node_hint: NodeHint::None,
        zone: None,
        zone_hints: Box::default(),
    };
    EndpointSlice {
        service,
        family: Family::V4,
        ports: vec![port(Protocol::Tcp, "tcp"), port(Protocol::Udp, "udp")],
        endpoints: addrs.map(endpoint).collect(),
    }
}

impl Writer {
    /// Programs both Services and many frontends beside them, so that hash buckets are
    /// shared.
    pub(crate) fn new(place: Place) -> Self {
        let mut writer = Self {
            reconciler: Reconciler::start(place, Settings::default())
                .expect("nothing is programmed"),
            gates: Arc::default(),
            random: 0x9e37_79b9_7f4a_7c15,
            written: Written::default(),
            capacity: 0,
        };
        for kind in [Kind::Services, Kind::EndpointSlices] {
            writer.reconciler.observe(Event::Listing(kind));
            writer.reconciler.observe(Event::Listed(kind));
        }
        for who in Who::BOTH {
            writer.appear(who);
        }
        let mut crowd = service("127.96.1.1".parse().expect("an address"), None);
        crowd.external_ips = (0..=u16::MAX / 4)
            .map(|n| format!("127.97.{}.{}", n >> 8, n & 255))
            .map(|text| text.parse().expect("an address"))
            .collect();
        writer.observe("crowd", Some(crowd));
        writer.reconcile();
        writer.capacity = writer.slab();
        writer
    }

    pub(crate) fn gates(&self) -> &Arc<Gates> {
        &self.gates
    }

    /// Rewrites for `duration`, and for as long (up to `limit`) as a busy machine needs
    /// to do what makes the test worth anything.
    pub(crate) fn run(&mut self, duration: Duration, limit: Duration) -> Written {
        let start = Instant::now();
        let mut long = 0u32;
        while start.elapsed() < duration || (!self.written.is_enough() && start.elapsed() < limit) {
            for who in Who::BOTH {
                match self.below(8) {
                    0 => self.delete_and_make_again(who),
                    1 => self.empty_and_fill(who),
                    2 => self.rename(who),
                    _ => self.appear(who),
                }
                self.reconcile();
            }
            if self.below(4) == 0 {
                self.reconciler.idle();
            }
            // Six long tables: the slab grows for the third and for the fifth or sixth.
            let due = duration * long / 7;
            if long < 6 && start.elapsed() >= due {
                long += 1;
                self.add_long_table(long);
            }
        }
        self.written
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64, Marsaglia 2003: repeatable.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn observe(&mut self, text: &str, service: Option<Service>) {
        self.reconciler.observe(Event::Service(name(text), service));
    }

    fn slab(&self) -> u32 {
        let datapath = self.reconciler.datapath().expect("a datapath");
        datapath.maps().maglev.len()
    }

    fn reconcile(&mut self) {
        let outcome = self.reconciler.reconcile().expect("writes succeed");
        self.written.reconciliations += 1;
        self.written.writes += outcome.writes;
        let slab = self.slab();
        if self.capacity != 0 && slab != self.capacity {
            self.capacity = slab;
            self.written.growths += 1;
        }
    }

    fn set_endpoints(&mut self, who: Who, mask: u64) {
        let addrs = (0..BACKENDS)
            .filter(|number| mask & 1 << number != 0)
            .map(|number| who.backend(number));
        let slice = slice(named(who), addrs);
        self.reconciler
            .observe(Event::EndpointSlice(named(who), Some(slice)));
    }

    /// Some endpoints, and a table of some length.
    fn appear(&mut self, who: Who) {
        let mask = 1 + self.below((1 << BACKENDS) - 1);
        self.set_endpoints(who, mask);
        let len = LENGTHS[self.below(LENGTHS.len() as u64) as usize];
        let service = service(who.vip().ip(), len);
        self.reconciler
            .observe(Event::Service(named(who), Some(service)));
    }

    fn delete_and_make_again(&mut self, who: Who) {
        self.gates.step(who);
        self.reconciler.observe(Event::Service(named(who), None));
        self.reconcile();
        self.appear(who);
        self.reconcile();
        self.gates.step(who);
        self.written.deletions += 1;
    }

    fn empty_and_fill(&mut self, who: Who) {
        self.gates.step(who);
        self.set_endpoints(who, 0);
        self.reconcile();
        self.appear(who);
        self.reconcile();
        self.gates.step(who);
    }

    /// Both ports get new names: new service ids at the same addresses, without a gap.
    fn rename(&mut self, who: Who) {
        let suffix = self.below(100);
        let mask = 1 + self.below((1 << BACKENDS) - 1);
        let addrs = (0..BACKENDS)
            .filter(|number| mask & 1 << number != 0)
            .map(|number| who.backend(number));
        let mut slice = slice(named(who), addrs);
        let mut service = service(who.vip().ip(), None);
        for (port, target) in service.ports.iter_mut().zip(&mut slice.ports) {
            let new = format!("{}-{suffix}", port.name);
            port.name = new.as_str().into();
            target.name = new.as_str().into();
        }
        self.reconciler
            .observe(Event::EndpointSlice(named(who), Some(slice)));
        self.reconciler
            .observe(Event::Service(named(who), Some(service)));
    }

    fn add_long_table(&mut self, number: u32) {
        let text = format!("long-{number}");
        let vip = format!("127.96.2.{number}").parse().expect("an address");
        let mut wanted = service(vip, Some(LONG));
        wanted.ports.truncate(1);
        let endpoint = std::iter::once(Who::A.backend(0));
        self.reconciler.observe(Event::EndpointSlice(
            name(&text),
            Some(slice(name(&text), endpoint)),
        ));
        self.observe(&text, Some(wanted));
        self.reconcile();
    }
}

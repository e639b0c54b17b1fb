//! A fixed programmed state, numbered as one likes.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use lb_controller::{
    kernel::Features,
    lbctl::{DeviceFacts, Facts, LinkState, ProgramFact, snapshot::Snapshot},
    pins::{DevicePin, Mechanism},
};
use lb_ebpf::abi::{BackendFlags, FrontendFlags, FrontendKind, Protocol, Scope};

use crate::builder::{Builder, ServicePort, stats};

const READY: u32 = BackendFlags::READY | BackendFlags::SERVING;
const CLUSTER: u32 = BackendFlags::IN_CLUSTER_SET;
const LOCAL: u32 = BackendFlags::LOCAL;

/// The order in which things were programmed: what canonical dumps must not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub(crate) first_id: u32,
    pub(crate) id_step: u32,
    pub(crate) first_slot: u32,
    pub(crate) slot_step: u32,
    pub(crate) first_offset: u32,
    pub(crate) generation: u32,
}

pub(crate) const USUAL: Numbering = Numbering {
    first_id: 0,
    id_step: 1,
    first_slot: 0,
    slot_step: 1,
    first_offset: 0,
    generation: 1,
};

/// Everything elsewhere, in reverse order.
pub(crate) const OTHER: Numbering = Numbering {
    first_id: 40,
    id_step: u32::MAX,
    first_slot: 30,
    slot_step: u32::MAX,
    first_offset: 500,
    generation: 9,
};

/// Every state of backends, both families, both sets, refusal and drop.
pub(crate) fn cluster(numbering: Numbering) -> Snapshot {
    let mut builder = Builder::new(numbering);
    let cluster_ip = (Scope::Internal, FrontendKind::ClusterIp);
    let restricted = FrontendFlags::SOURCE_RANGES | FrontendFlags::DSR;
    let inside = restricted | FrontendFlags::EXTERNAL_DIFFERS;
    let outside = restricted | FrontendFlags::LOCAL_SET;
    builder.add(&ServicePort {
        name: ("shop", "web", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 10_800,
        pinned_len: 0,
        forwarding: 0,
        source_ranges: &[],
        frontends: &[("10.96.0.10", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[
            ("10.244.1.5", 8080, READY | CLUSTER | LOCAL, 1, (6102, 6092)),
            ("10.244.2.7", 8080, READY | CLUSTER, 2, (5998, 5996)),
            (
                "10.244.2.8",
                8080,
                BackendFlags::SERVING | BackendFlags::TERMINATING,
                2,
                (311, 308),
            ),
            ("10.244.3.1", 8080, 0, 0, (0, 0)),
            ("10.244.3.2", 8080, BackendFlags::TERMINATING, 0, (7, 7)),
        ],
        cluster_table: &[0, 1, 1, 0, 1, 0, 0],
        local_table: &[],
        stats: stats(12_418, 377, 0, 0),
    });
    builder.add(&ServicePort {
        name: ("shop", "web", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 10_800,
        pinned_len: 0,
        forwarding: 0,
        source_ranges: &[],
        frontends: &[("fd00:10:96::10", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[("fd00:10:244:1::7", 8080, READY | CLUSTER, 1, (44, 40))],
        cluster_table: &[0],
        local_table: &[],
        stats: stats(44, 2, 0, 0),
    });
    builder.add(&ServicePort {
        name: ("default", "empty", "http"),
        port: (80, Protocol::Tcp),
        service_type: 0,
        local_policies: 0,
        affinity_secs: 0,
        pinned_len: 0,
        forwarding: 0,
        source_ranges: &[],
        frontends: &[("10.96.0.11", cluster_ip.0, cluster_ip.1, 0)],
        backends: &[],
        cluster_table: &[],
        local_table: &[],
        stats: stats(0, 0, 19, 0),
    });
    builder.add(&ServicePort {
        name: ("kube-system", "node-cache", ""),
        port: (53, Protocol::Udp),
        service_type: 0,
        local_policies: 1,
        affinity_secs: 0,
        pinned_len: 0,
        forwarding: 0,
        source_ranges: &[],
        frontends: &[(
            "10.96.0.12",
            cluster_ip.0,
            cluster_ip.1,
            FrontendFlags::LOCAL_SET | FrontendFlags::DROP,
        )],
        backends: &[("10.244.3.9", 53, READY, 0, (0, 0))],
        cluster_table: &[],
        local_table: &[],
        stats: stats(0, 0, 0, 5),
    });
    builder.add(&ServicePort {
        name: ("shop", "api", "grpc"),
        port: (9000, Protocol::Tcp),
        service_type: 2,
        local_policies: 2,
        affinity_secs: 0,
        pinned_len: 11,
        forwarding: 1,
        source_ranges: &[("10.0.0.0", 8), ("192.0.2.40", 32)],
        frontends: &[
            (
                "0.0.0.0",
                Scope::Internal,
                FrontendKind::NodePort,
                FrontendFlags::DSR | FrontendFlags::EXTERNAL_DIFFERS,
            ),
            (
                "0.0.0.0",
                Scope::External,
                FrontendKind::NodePort,
                FrontendFlags::DSR | FrontendFlags::LOCAL_SET,
            ),
            ("10.96.0.13", cluster_ip.0, cluster_ip.1, 0),
            (
                "192.0.2.40",
                Scope::Internal,
                FrontendKind::LoadBalancer,
                inside,
            ),
            (
                "192.0.2.40",
                Scope::External,
                FrontendKind::LoadBalancer,
                outside,
            ),
        ],
        backends: &[
            (
                "10.244.1.9",
                9000,
                READY | CLUSTER | LOCAL | BackendFlags::IN_LOCAL_SET,
                1,
                (1000, 0),
            ),
            ("10.244.4.4", 9000, READY | CLUSTER, 2, (990, 990)),
        ],
        cluster_table: &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
        local_table: &[0],
        stats: stats(1990, 0, 0, 0),
    });
    builder.build()
}

/// What a kernel could say beside it.
pub(crate) fn facts() -> Facts {
    let attached = |name, id| ProgramFact {
        name,
        state: LinkState::Attached,
        id: Some(id),
        tag: Some("9d4f6f319f789cf1".into()),
        cgroup_id: Some(1),
        cgroup: Some(PathBuf::from("/sys/fs/cgroup")),
    };
    Facts {
        now_ns: 1_700_003_700_000_000_000,
        kernel: "6.1.0-21-amd64".into(),
        features: Features {
            coarse_clock: true,
            atomic_or: true,
            xdp_frags: true,
            set_retval: true,
            tcx: true,
        },
        pins: PathBuf::from("/sys/fs/bpf/lb/abi3"),
        controller: Some(4711),
        programs: vec![attached("lb_release", 51), attached("lb_connect4", 52)],
        memory: HashMap::from([
            ("SERVICES", 12_345),
            ("MAGLEV", 8 << 20),
            ("CONNECTED", 480),
        ]),
        filled: HashMap::from([
            ("CONNTRACK", (1234, 262_144)),
            ("HALF_OPEN", (56, 65_536)),
            ("FRAGMENTS", (0, 8192)),
        ]),
        devices: DeviceFacts {
            links: [
                (2, "lb_egress", Mechanism::Tcx),
                (2, "lb_ingress", Mechanism::Tcx),
                (2, "lb_xdp", Mechanism::XdpNative),
                (3, "lb_egress", Mechanism::Tcx),
                (3, "lb_ingress", Mechanism::Tcx),
                (7, "lb_pod_egress", Mechanism::Clsact),
                (7, "lb_pod_ingress", Mechanism::Clsact),
            ]
            .map(|(index, program, mechanism)| {
                let pin = DevicePin {
                    index,
                    program,
                    mechanism,
                };
                (pin, LinkState::Attached)
            })
            .into(),
            reasons: BTreeMap::from([(3, "a veth gets native XDP only on request".into())]),
        },
        host: vec!["net.ipv4.ip_forward is off".into()],
    }
}

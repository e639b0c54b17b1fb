//! Model ↔ ABI: the only place in userspace that names both.

use lb_ebpf::abi::{
    Addr, FrontendFlags, FrontendKey, Name, Port, Protocol, ServiceEntry, ServiceInfo,
    SourceRangeKey, TableRef,
};

use crate::{
    desired::{BackendSet, DesiredFrontend, DesiredService, Forwarding},
    model::{Family, IpNet, ObjectName, ServiceType, TrafficPolicy},
};

/// What `SERVICE_INFO` says of a service besides its identity and its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) port: u16,
    pub(crate) service_type: ServiceType,
    pub(crate) internal_policy: TrafficPolicy,
    pub(crate) external_policy: TrafficPolicy,
    pub(crate) affinity_secs: u32,
    pub(crate) pinned_len: u32,
    pub(crate) forwarding: Forwarding,
}

impl Attributes {
    pub(crate) fn of(desired: &DesiredService) -> Self {
        Self {
            port: desired.port,
            service_type: desired.service_type,
            internal_policy: desired.internal_policy,
            external_policy: desired.external_policy,
            affinity_secs: desired.affinity_secs,
            pinned_len: desired.pinned_len.unwrap_or(0),
            forwarding: desired.forwarding,
        }
    }

    pub(crate) fn from_info(info: &ServiceInfo) -> Self {
        let policy = |bit: u8| {
            if info.local_policies & bit == 0 {
                TrafficPolicy::Cluster
            } else {
                TrafficPolicy::Local
            }
        };
        Self {
            port: info.port.get(),
            service_type: service_type(info.service_type),
            internal_policy: policy(1),
            external_policy: policy(2),
            affinity_secs: info.affinity_secs,
            pinned_len: info.pinned_len,
            forwarding: forwarding(info.forwarding),
        }
    }
}

/// The type behind [`ServiceInfo::service_type`].
pub(crate) fn service_type(number: u8) -> ServiceType {
    match number {
        1 => ServiceType::NodePort,
        2 => ServiceType::LoadBalancer,
        _ => ServiceType::ClusterIp,
    }
}

/// The forwarding behind [`ServiceInfo::forwarding`].
pub(crate) fn forwarding(number: u8) -> Forwarding {
    if number == 1 {
        Forwarding::Dsr
    } else {
        Forwarding::Snat
    }
}

/// A source range as `SOURCE_RANGES` has it, without its service: addresses are
/// v4-mapped, which adds 96 bits to a prefix of IPv4.
pub(crate) fn prefix(range: &IpNet) -> ((u32, Addr), ()) {
    let mapping = match range {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    let whole_key_but_address = SourceRangeKey::FULL - 128;
    let len = whole_key_but_address + mapping + u32::from(range.prefix_len());
    ((len, Addr::from(range.network())), ())
}

/// The description of a service. `None` if a name is longer than a DNS label: such
/// objects cannot come from an API server.
pub(crate) fn info(
    name: &ObjectName,
    port_name: &str,
    protocol: Protocol,
    family: Family,
    attributes: &Attributes,
    tables: (TableRef, TableRef),
) -> Option<ServiceInfo> {
    let local = |policy, bit| {
        if policy == TrafficPolicy::Local {
            bit
        } else {
            0
        }
    };
    Some(ServiceInfo {
        namespace: Name::new(&name.namespace)?,
        name: Name::new(&name.name)?,
        port_name: Name::new(port_name)?,
        cluster_table: tables.0,
        local_table: tables.1,
        port: Port::new(attributes.port),
        protocol: protocol as u8,
        family: family.number(),
        service_type: match attributes.service_type {
            ServiceType::ClusterIp => 0,
            ServiceType::NodePort => 1,
            ServiceType::LoadBalancer => 2,
        },
        local_policies: local(attributes.internal_policy, 1) | local(attributes.external_policy, 2),
        forwarding: match attributes.forwarding {
            Forwarding::Snat => 0,
            Forwarding::Dsr => 1,
        },
        reserved: 0,
        affinity_secs: attributes.affinity_secs,
        pinned_len: attributes.pinned_len,
        reserved2: [0; 2],
    })
}

/// Key and value of a frontend.
pub(crate) fn frontend(
    frontend: &DesiredFrontend,
    protocol: Protocol,
    id: u32,
    affinity_secs: u32,
    tables: (TableRef, TableRef),
) -> (FrontendKey, ServiceEntry) {
    let key = FrontendKey {
        addr: Addr::from(frontend.addr),
        port: Port::new(frontend.port),
        protocol: protocol as u8,
        scope: frontend.scope as u8,
    };
    let (table, set_flag) = match frontend.set {
        BackendSet::Cluster => (tables.0, 0),
        BackendSet::Local => (tables.1, FrontendFlags::LOCAL_SET),
    };
    let drop_flag = if table.is_empty() && frontend.drop_when_empty {
        FrontendFlags::DROP
    } else {
        0
    };
    let entry = ServiceEntry {
        table,
        service_id: id,
        flags: frontend.kind as u32 | set_flag | drop_flag | frontend.flags,
        affinity_secs,
        seal: 0,
    };
    (key, entry.sealed(&key))
}

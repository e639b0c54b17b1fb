//! Frontend → backend: affinity first, then the Maglev table.
#![forbid(unsafe_code)]

use crate::{
    abi::{
        Addr, AffinityEntry, AffinityKey, BackendEntry, BackendFlags, FrontendFlags, FrontendKey,
        FrontendKind, NodeAddress, Scope, ServiceEntry, ServiceRangeFlags,
    },
    fault::{Fault, on},
    tables::{Environment, ServiceCounter, Tables},
};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A chosen backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its slot.
    pub slot: u32,
    /// What lies there.
    pub backend: BackendEntry,
}

/// `false` proves that `key` is neither a frontend nor a NodePort.
#[inline(always)]
pub fn may_be_dialled<T: Tables>(tables: &T, key: &FrontendKey) -> bool {
    tables.may_be_frontend(key) || tables.may_be_node_port(key)
}

/// Looks a frontend up: filter, hash, seal.
///
/// The kernel gives two reasons for a second lookup. A value whose seal does not fit was
/// reused while it was copied; and a reader that walks a bucket while one of its elements
/// is replaced can miss both the old one and the new one. If the second lookup fails
/// too, the key is absent (or rewritten faster than we read): it counts as absent, never
/// as another's.
#[inline(always)]
pub fn frontend<T: Tables>(tables: &T, key: &FrontendKey) -> Option<ServiceEntry> {
    if !tables.may_be_frontend(key) {
        return None;
    }
    sealed(tables, key)
}

#[inline(always)]
fn sealed<T: Tables>(tables: &T, key: &FrontendKey) -> Option<ServiceEntry> {
    if let Some(entry) = tables.service(key)
        && entry.belongs_to(key)
    {
        return Some(entry);
    }
    tables.service(key).filter(|again| again.belongs_to(key))
}

/// Which service `key` leads to, as far as its address and port go: a frontend of its own,
/// or a NodePort at an address of this node. `netns` is the cookie of the client's network
/// namespace if the client is a socket; loopback NodePorts are the host namespace's alone.
#[inline(always)]
pub fn lookup<T: Tables>(
    tables: &T,
    key: &FrontendKey,
    netns: impl Fn() -> Option<u64>,
) -> Option<ServiceEntry> {
    if let Some(entry) = frontend(tables, key) {
        let absent = on(Fault::VipMustBeLocal) && tables.node_address(&key.addr) == 0;
        return (!absent).then_some(entry);
    }
    if !tables.may_be_node_port(key) {
        return None;
    }
    let address = tables.node_address(&key.addr.loopback_as_one());
    let served = address & NodeAddress::NODE_PORTS != 0
        || address & NodeAddress::LOOPBACK != 0
            && (netns() == Some(tables.host_netns()) || on(Fault::LoopbackForAll))
        || on(Fault::NodePortAnywhere);
    if !served {
        return None;
    }
    sealed(tables, &key.node_port())
}

/// What becomes of whoever dials a virtual address where there is no frontend (rule E3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undefined {
    /// A ClusterIP, but none of its ports: refuse.
    Port,
    /// In a range for ClusterIPs, but no Service has it: drop, lest routing passes it around.
    Address,
}

/// Whether nobody but a Service can be at `addr`, where no frontend was found. An address
/// that is also something else (this node's, a load balancer's, an external IP) is left
/// alone. What is in no range for ClusterIPs costs a comparison.
#[inline(always)]
pub fn undefined<T: Tables>(tables: &T, addr: &Addr) -> Option<Undefined> {
    let range = tables.service_range(addr)?;
    let kinds = tables.vip(addr);
    if kinds & !FrontendKind::ClusterIp.bit() != 0
        || tables.node_address(addr) & NodeAddress::LOCAL != 0
    {
        None
    } else if kinds != 0 {
        Some(Undefined::Port)
    } else if range & ServiceRangeFlags::SERVICE_CIDR != 0 {
        Some(Undefined::Address)
    } else {
        None
    }
}

/// The NodePort of the port of `key`, whatever the address.
#[inline(always)]
pub fn node_port<T: Tables>(tables: &T, key: &FrontendKey) -> Option<ServiceEntry> {
    if !tables.may_be_node_port(key) {
        return None;
    }
    sealed(tables, &key.node_port())
}

/// The entry that a packet of `scope` obeys, given the internal one.
#[inline(always)]
pub fn in_scope<T: Tables>(
    tables: &T,
    key: &FrontendKey,
    scope: Scope,
    entry: ServiceEntry,
) -> Option<ServiceEntry> {
    let internal = scope == Scope::Internal || on(Fault::OutsideIsInside);
    if internal || entry.flags & FrontendFlags::EXTERNAL_DIFFERS == 0 {
        return Some(entry);
    }
    let kind = entry.flags & FrontendFlags::KIND_MASK;
    let key = if kind == FrontendKind::NodePort as u32 {
        key.node_port()
    } else {
        *key
    };
    sealed(tables, &key.in_scope(Scope::External))
}

/// Chooses a backend for a new connection; `None` if the table is empty.
///
/// `client` is what affinity remembers it under; `point` decides where no affinity does:
/// random at sockets, a hash of the tuple for packets, so that all nodes decide alike.
#[inline(always)]
pub fn backend<T: Tables>(
    tables: &T,
    service: &ServiceEntry,
    client: impl Fn() -> AffinityKey,
    point: impl Fn() -> u32,
    now_ns: impl Fn() -> u64,
) -> Option<Choice> {
    if service.affinity_secs == 0 || on(Fault::AffinityIgnored) {
        return at_point(tables, service, point());
    }
    let (key, now) = (client(), now_ns());
    let choice = match remembered(tables, &key, service, now) {
        Some(choice) => {
            tables.count_service(service.service_id, ServiceCounter::AffinityHit);
            if on(Fault::AffinityNotRenewed) {
                return Some(choice);
            }
            choice
        }
        None => at_point(tables, service, point())?,
    };
    // Each new connection restarts the timeout (rule H2).
    let entry = AffinityEntry {
        last_used_ns: now,
        slot: choice.slot,
        generation: choice.backend.generation,
    };
    tables.remember(&key, &entry);
    Some(choice)
}

/// Any backend of the table, uniformly at random (rule C15).
#[inline(always)]
pub fn any_backend<T: Tables, E: Environment>(
    tables: &T,
    env: &E,
    service: &ServiceEntry,
) -> Option<Choice> {
    at_point(tables, service, env.random())
}

/// The backend at a point of the Maglev table.
#[inline(always)]
pub fn at_point<T: Tables>(tables: &T, service: &ServiceEntry, point: u32) -> Option<Choice> {
    if service.table.is_empty() {
        return None;
    }
    let point = if on(Fault::OneBackend) { 0 } else { point };
    // `(point × length) >> 32` is below `length`: a modulo without a division.
    let index = (u64::from(point) * u64::from(service.table.len())) >> 32;
    let slot = tables.slot(service.table.offset() + index as u32)?;
    let backend = tables.backend(slot)?;
    Some(Choice { slot, backend })
}

/// The backend that affinity remembers, if the timeout has not passed (rule H3) and
/// it still belongs to the applicable set (rule H4): existing is not enough.
#[inline(always)]
fn remembered<T: Tables>(
    tables: &T,
    key: &AffinityKey,
    service: &ServiceEntry,
    now: u64,
) -> Option<Choice> {
    let entry = tables.affinity(key)?;
    let age = now.wrapping_sub(entry.last_used_ns);
    if age >= u64::from(service.affinity_secs) * NANOS_PER_SEC && !on(Fault::AffinityForever) {
        return None;
    }
    let backend = tables.backend(entry.slot)?;
    let set = if service.flags & FrontendFlags::LOCAL_SET == 0 {
        BackendFlags::IN_CLUSTER_SET
    } else {
        BackendFlags::IN_LOCAL_SET
    };
    let applies = backend.generation == entry.generation
        && backend.service_id == service.service_id
        && (backend.has(BackendFlags::USED | set) || on(Fault::AffinityOutOfSet));
    applies.then_some(Choice {
        slot: entry.slot,
        backend,
    })
}

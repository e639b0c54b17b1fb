//! What the datapath's own code reaches over maps in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use lb_ebpf::{
    abi::{
        Addr, AffinityEntry, AffinityKey, BackendEntry, BackendFlags, FrontendFlags, FrontendKey,
        NodeAddress, Port, Protocol, Scope, ServiceEntry,
    },
    select,
    tables::{BackendCounter, ServiceCounter, Tables},
};

use super::reference::{Answer, Dialled, Expected, Meets};
use crate::{
    desired::{BackendSet, DesiredService},
    model::Family,
    plan::tests::memory::Memory,
};

/// An address of the node, by family.
fn node_address(v6: bool) -> IpAddr {
    let text = if v6 { "2001:db8::10" } else { "192.0.2.10" };
    text.parse().expect("an address")
}

/// The datapath's view of the maps.
struct View<'a>(&'a Memory);

impl Tables for View<'_> {
    fn may_be_frontend(&self, key: &FrontendKey) -> bool {
        !key.addr.is_unspecified() && self.0.lets_in(&key.in_scope(Scope::Internal))
    }

    fn may_be_node_port(&self, key: &FrontendKey) -> bool {
        self.0.lets_in(&key.node_port())
    }

    fn node_address(&self, addr: &Addr) -> u32 {
        let ours = [false, true].map(|v6| Addr::from(node_address(v6)));
        if ours.contains(addr) {
            NodeAddress::LOCAL | NodeAddress::NODE_PORTS
        } else {
            0
        }
    }

    fn host_netns(&self) -> u64 {
        1
    }

    fn local_by_source(&self) -> bool {
        false
    }

    fn service_range(&self, _: &Addr) -> Option<u32> {
        None
    }

    fn vip(&self, addr: &Addr) -> u32 {
        self.0.vips.get(addr).copied().unwrap_or(0)
    }

    fn service(&self, key: &FrontendKey) -> Option<ServiceEntry> {
        self.0.services.get(key).copied()
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.0.maglev.get(index as usize).copied()
    }

    fn backend(&self, slot: u32) -> Option<BackendEntry> {
        self.0.backends.get(slot as usize).copied()
    }

    fn affinity(&self, _: &AffinityKey) -> Option<AffinityEntry> {
        None
    }

    fn remember(&self, _: &AffinityKey, _: &AffinityEntry) {}

    fn count_service(&self, _: u32, _: ServiceCounter) {}

    fn count_backend(&self, _: u32, _: BackendCounter) {}
}

fn key(dialled: &Dialled) -> FrontendKey {
    let (addr, v6, port, protocol) = dialled;
    let protocol = match protocol.as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("no protocol: {other}"),
    };
    let addr = addr.unwrap_or_else(|| node_address(*v6));
    FrontendKey::internal(Addr::from(addr), Port::new(*port), protocol)
}

/// All backends that connections to `key` from `scope` reach; `None` if nothing is there.
fn reached(view: &View<'_>, key: &FrontendKey, scope: Scope) -> Option<Answer> {
    let entry = select::lookup(view, key, || Some(7))?;
    let entry = select::in_scope(view, key, scope, entry)?;
    let client = || AffinityKey::netns(7, entry.service_id);
    let length = u64::from(entry.table.len());
    let mut found = BTreeSet::new();
    for index in 0..length {
        // The first point that leads to this index.
        let point = (index << 32).div_ceil(length) as u32;
        let choice = select::backend(view, &entry, client, || point, || 1)?;
        let (addr, port) = (choice.backend.addr.to_ip(), choice.backend.port.get());
        found.insert(SocketAddr::new(addr, port));
    }
    Some(if !found.is_empty() {
        Answer::Backends(found)
    } else if entry.flags & FrontendFlags::DROP == 0 {
        Answer::Reject
    } else {
        Answer::Drop
    })
}

/// The maps do what `expected` says, and nothing else is dialled there. Where two Services
/// claim one address, the one whose name sorts first has it.
pub(super) fn assert_reached(memory: &Memory, expected: &Expected) {
    let view = View(memory);
    let mut known = BTreeSet::new();
    for (service, frontends) in expected {
        for (dialled, meets) in frontends {
            if !known.insert(dialled.clone()) {
                continue;
            }
            let key = key(dialled);
            let found = [Scope::Internal, Scope::External].map(|s| reached(&view, &key, s));
            let promised = [&meets.inside, &meets.outside].map(|answer| Some(answer.clone()));
            assert_eq!(found, promised, "{service:?} at {dialled:?}");
        }
    }
    let internal = memory.services.keys();
    let internal = internal.filter(|key| key.scope == Scope::Internal as u8);
    assert_eq!(
        internal.count(),
        known.len(),
        "frontends that nothing asks for"
    );
}

/// The desired state does what `expected` says.
pub(super) fn assert_desired(desired: &[DesiredService], expected: &Expected) {
    let found: Expected = desired.iter().map(promised_by).collect();
    assert_eq!(&found, expected);
}

type Entry = ((String, String, String, bool), BTreeMap<Dialled, Meets>);

fn promised_by(service: &DesiredService) -> Entry {
    let v6 = service.key.family == Family::V6;
    let protocol = format!("{:?}", service.key.protocol).to_uppercase();
    let mut meets = BTreeMap::<Dialled, [Option<Answer>; 2]>::new();
    for frontend in &service.frontends {
        let flag = match frontend.set {
            BackendSet::Cluster => BackendFlags::IN_CLUSTER_SET,
            BackendSet::Local => BackendFlags::IN_LOCAL_SET,
        };
        let members = service.backends.iter().filter(|b| b.flags & flag != 0);
        let members: BTreeSet<_> = members.map(|b| SocketAddr::new(b.addr, b.port)).collect();
        let answer = if !members.is_empty() {
            Answer::Backends(members)
        } else if frontend.drop_when_empty {
            Answer::Drop
        } else {
            Answer::Reject
        };
        let addr = Some(frontend.addr).filter(|addr| !addr.is_unspecified());
        let dialled = (addr, v6, frontend.port, protocol.clone());
        let scopes = meets.entry(dialled).or_default();
        assert_eq!(scopes[frontend.scope as usize], None, "twice: {frontend:?}");
        scopes[frontend.scope as usize] = Some(answer);
    }
    let meets = meets.into_iter().map(|(dialled, [inside, outside])| {
        let inside = inside.expect("an internal entry");
        let outside = outside.unwrap_or_else(|| inside.clone());
        (dialled, Meets { inside, outside })
    });
    let key = (
        service.key.service.to_string(),
        service.key.port_name.to_string(),
        protocol,
        v6,
    );
    (key, meets.collect())
}

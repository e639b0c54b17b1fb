//! Records as programs would write them.

use std::net::IpAddr;

use lb_controller::{conntrack::Record, maps::HashTable};
use lb_ebpf::abi::{
    Addr, ConntrackEntry, ConntrackFlags, ConntrackKey, FrontendKey, NextHop, Port, Protocol, Scope,
};

pub(crate) type Table = HashTable<ConntrackKey, ConntrackEntry>;

/// A backend slot as a flow remembers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) service_id: u32,
}

/// A slot that nothing is known of.
pub(crate) const NO_SLOT: Slot = Slot {
    index: u32::MAX,
    generation: 1,
    service_id: u32::MAX,
};

/// Port 80 of an address.
pub(crate) fn frontend(addr: Addr, protocol: Protocol) -> FrontendKey {
    FrontendKey {
        addr,
        port: Port::new(80),
        protocol: protocol as u8,
        scope: Scope::External as u8,
    }
}

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().expect("an address of the test"))
}

fn v4(base: [u8; 4], number: u32) -> Addr {
    Addr::from_v4_word((u32::from_be_bytes(base) + number).to_be())
}

/// Both halves of the flow of a client of its own, initiator first.
pub(crate) fn flow(protocol: Protocol, number: u32, slot: Slot) -> [Record; 2] {
    let key = ConntrackKey {
        src: v4([198, 18, 0, 0], number),
        dst: addr("203.0.113.10"),
        src_port: Port::new(50_000),
        dst_port: Port::new(80),
        protocol: protocol as u8,
        reserved: [0; 3],
    };
    let entry = ConntrackEntry {
        src: addr("192.0.2.1"),
        dst: v4([10, 250, 0, 0], number / 30_000),
        src_port: Port::new(30_000 + (number % 30_000) as u16),
        dst_port: Port::new(8080),
        flags: ConntrackFlags::INITIATOR
            | ConntrackFlags::REDIRECT
            | ConntrackFlags::MATE_REDIRECT
            | ConntrackFlags::SNAT
            | ConntrackFlags::PORT_CHOSEN,
        state: 0,
        last_seen: 0,
        created: 0,
        service_id: slot.service_id,
        slot: slot.index,
        generation: slot.generation,
        proof: 0,
        proof_end: 0,
        seal: 0,
        hop: NextHop::UNKNOWN,
        mtu: 0,
    };
    let entry = entry.sealed(&key);
    [(key, entry), entry.mirror(&key)]
}

/// The same flow, last seen in `tick` in both directions.
pub(crate) fn seen(flow: &[Record; 2], tick: u32, state: u32) -> [Record; 2] {
    flow.map(|(key, entry)| {
        let entry = ConntrackEntry {
            last_seen: tick,
            state,
            ..entry
        };
        (key, entry)
    })
}

pub(crate) fn insert(table: &Table, flow: &[Record; 2]) {
    for (key, entry) in flow {
        table.insert_new(key, entry).expect("the map has room");
    }
}

pub(crate) fn is_there(table: &Table, (key, _): &Record) -> bool {
    table.get(key).expect("the map can be read").is_some()
}

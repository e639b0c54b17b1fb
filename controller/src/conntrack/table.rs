//! A table of flows: the seam between the collector and the kernel.

use lb_ebpf::abi::{ConntrackEntry, ConntrackFlags, ConntrackKey};

use crate::{
    maps::{HashTable, MapsError},
    sys::Scan,
};

/// One half of a flow, with its key.
pub type Record = (ConntrackKey, ConntrackEntry);

/// A hash of flows that programs change at any time.
pub trait FlowTable {
    /// Where a scan stands.
    type Scan;
    /// Elements that fit.
    fn capacity(&self) -> u64;
    /// A scan from the start.
    fn scan(&self) -> Self::Scan;
    /// Replaces the contents of `out` by the next elements; `false` at the end. Elements
    /// that change meanwhile may be missed or seen twice.
    fn next_batch(&self, scan: &mut Self::Scan, out: &mut Vec<Record>) -> Result<bool, MapsError>;
    /// The record under `key`.
    fn get(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError>;
    /// Removes and returns the record under `key`.
    fn take(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError>;
    /// Inserts a record unless `key` has one; whether it did.
    fn insert_new(&self, key: &ConntrackKey, entry: &ConntrackEntry) -> Result<bool, MapsError>;
}

impl FlowTable for HashTable<ConntrackKey, ConntrackEntry> {
    type Scan = Scan<ConntrackKey, ConntrackEntry>;

    fn capacity(&self) -> u64 {
        self.max_entries().into()
    }

    fn scan(&self) -> Self::Scan {
        Self::scan(self)
    }

    fn next_batch(&self, scan: &mut Self::Scan, out: &mut Vec<Record>) -> Result<bool, MapsError> {
        Self::next_batch(self, scan, out)
    }

    fn get(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError> {
        Self::get(self, key)
    }

    fn take(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError> {
        Self::take(self, key)
    }

    fn insert_new(&self, key: &ConntrackKey, entry: &ConntrackEntry) -> Result<bool, MapsError> {
        Self::insert_new(self, key, entry)
    }
}

/// Key of the initiator half of the flow that a half belongs to.
pub(crate) fn initiator_key(key: &ConntrackKey, half: &ConntrackEntry) -> ConntrackKey {
    if half.has(ConntrackFlags::INITIATOR) {
        *key
    } else {
        half.mirror_key(key)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, collections::BTreeMap, net::IpAddr};

    use lb_ebpf::abi::{Addr, NextHop, Port, Protocol};

    use super::*;

    pub(crate) const VIP: &str = "203.0.113.10";
    pub(crate) const VIP_PORT: u16 = 80;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    /// An initiator half that was made and seen in tick 0.
    pub(crate) fn half() -> ConntrackEntry {
        ConntrackEntry {
            src: addr("192.0.2.1"),
            dst: addr("10.244.0.5"),
            src_port: Port::new(40_000),
            dst_port: Port::new(8080),
            flags: ConntrackFlags::INITIATOR | ConntrackFlags::SNAT | ConntrackFlags::PORT_CHOSEN,
            state: 0,
            last_seen: 0,
            created: 0,
            service_id: 1,
            slot: 1,
            generation: 1,
            proof: 0,
            proof_end: 0,
            seal: 0,
            hop: NextHop::UNKNOWN,
            mtu: 0,
        }
    }

    /// Both halves of the TCP flow of a client of its own, initiator first.
    pub(crate) fn flow(number: u32) -> [Record; 2] {
        flow_of(Protocol::Tcp, number)
    }

    pub(crate) fn flow_of(protocol: Protocol, number: u32) -> [Record; 2] {
        let key = ConntrackKey {
            src: Addr::from_v4_word((0x0a01_0000 + number).to_be()),
            dst: addr(VIP),
            src_port: Port::new(50_000),
            dst_port: Port::new(VIP_PORT),
            protocol: protocol as u8,
            reserved: [0; 3],
        };
        let entry = ConntrackEntry {
            src_port: Port::new(30_000 + (number % 30_000) as u16),
            dst: Addr::from_v4_word((0x0af4_0000 + number / 30_000).to_be()),
            ..half()
        };
        let entry = entry.sealed(&key);
        [(key, entry), entry.mirror(&key)]
    }

    /// What another CPU does at a certain point.
    type Intrusion = Box<dyn FnOnce(&mut BTreeMap<ConntrackKey, ConntrackEntry>)>;

    /// A table in memory, with somebody who changes it between two steps.
    #[derive(Default)]
    pub(crate) struct FakeTable {
        pub(crate) records: RefCell<BTreeMap<ConntrackKey, ConntrackEntry>>,
        before_take: RefCell<Option<Intrusion>>,
        after_take: RefCell<Option<Intrusion>>,
    }

    impl FakeTable {
        pub(crate) fn of(records: impl IntoIterator<Item = Record>) -> Self {
            Self {
                records: RefCell::new(records.into_iter().collect()),
                ..Self::default()
            }
        }

        pub(crate) fn before_take(
            &self,
            change: impl FnOnce(&mut BTreeMap<ConntrackKey, ConntrackEntry>) + 'static,
        ) {
            *self.before_take.borrow_mut() = Some(Box::new(change));
        }

        pub(crate) fn after_take(
            &self,
            change: impl FnOnce(&mut BTreeMap<ConntrackKey, ConntrackEntry>) + 'static,
        ) {
            *self.after_take.borrow_mut() = Some(Box::new(change));
        }

        pub(crate) fn len(&self) -> usize {
            self.records.borrow().len()
        }
    }

    impl FlowTable for FakeTable {
        type Scan = Option<ConntrackKey>;

        fn capacity(&self) -> u64 {
            1000
        }

        fn scan(&self) -> Self::Scan {
            None
        }

        fn next_batch(
            &self,
            scan: &mut Self::Scan,
            out: &mut Vec<Record>,
        ) -> Result<bool, MapsError> {
            let records = self.records.borrow();
            let after = |key: &ConntrackKey| scan.is_none_or(|last| *key > last);
            out.clear();
            let rest = records.iter().filter(|(key, _)| after(key));
            out.extend(rest.take(3).map(|(key, entry)| (*key, *entry)));
            *scan = out.last().map(|(key, _)| *key).or(*scan);
            Ok(!out.is_empty())
        }

        fn get(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError> {
            Ok(self.records.borrow().get(key).copied())
        }

        fn take(&self, key: &ConntrackKey) -> Result<Option<ConntrackEntry>, MapsError> {
            let mut records = self.records.borrow_mut();
            if let Some(change) = self.before_take.borrow_mut().take() {
                change(&mut records);
            }
            let taken = records.remove(key);
            if let Some(change) = self.after_take.borrow_mut().take() {
                change(&mut records);
            }
            Ok(taken)
        }

        fn insert_new(
            &self,
            key: &ConntrackKey,
            entry: &ConntrackEntry,
        ) -> Result<bool, MapsError> {
            let mut records = self.records.borrow_mut();
            let absent = !records.contains_key(key);
            records.entry(*key).or_insert(*entry);
            Ok(absent)
        }
    }
}

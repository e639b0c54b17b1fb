//! Which addresses are virtual, and of what kinds: the mirror of `VIPS`, and where ClusterIPs
//! are, for `SERVICE_RANGES` (rule E3).
//!
//! Frontends are counted by address and kind. Ranges that were set aside for ClusterIPs are
//! told; ClusterIPs outside of them lie in one more range a family, which only grows: that
//! it is as narrow as can be saves time, not truth.

use std::collections::{BTreeMap, HashMap};

use lb_ebpf::abi::{
    Addr, AddressRange, FrontendKey, FrontendKind, SERVICE_RANGES, Scope, ServiceEntry,
    ServiceRange, ServiceRangeFlags,
};

use super::Batch;

/// Most told ranges of a family; one place is for ClusterIPs elsewhere.
const TOLD: usize = SERVICE_RANGES - 1;

/// Frontends of an address, by number of their kind.
type Counts = [u32; 4];

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Vips {
    counts: HashMap<Addr, Counts>,
    told: Vec<AddressRange>,
    /// ClusterIPs elsewhere, IPv4 and IPv6.
    elsewhere: [Option<AddressRange>; 2],
}

/// Address and kind of a frontend that counts: node ports have no address, and both scopes
/// are one frontend.
fn vip(key: &FrontendKey, entry: &ServiceEntry) -> Option<(Addr, usize)> {
    let counts = key.scope == Scope::Internal as u8 && !key.addr.is_unspecified();
    let kind = FrontendKind::from_flags(entry.flags)?;
    counts.then_some((key.addr, kind as usize))
}

fn kinds(counts: &Counts) -> u32 {
    let bit = |(kind, count): (usize, &u32)| u32::from(*count != 0) << kind;
    counts
        .iter()
        .enumerate()
        .map(bit)
        .fold(0, |all, bit| all | bit)
}

/// The narrowest range with both.
fn hull(range: Option<AddressRange>, addr: Addr) -> AddressRange {
    let Some(range) = range else {
        return AddressRange::new(addr, 128);
    };
    let number = |addr: Addr| u128::from_be_bytes(addr.octets());
    let common = (number(range.net) ^ number(addr)).leading_zeros();
    AddressRange::new(addr, common.min(range.bits()))
}

impl Vips {
    /// The kinds of an address.
    pub(super) fn kinds(&self, addr: &Addr) -> u32 {
        self.counts.get(addr).map_or(0, kinds)
    }

    /// Frontends `old` become `new`; writes what that changes.
    pub(super) fn change<'a>(
        &mut self,
        old: impl IntoIterator<Item = &'a (FrontendKey, ServiceEntry)>,
        new: impl IntoIterator<Item = &'a (FrontendKey, ServiceEntry)>,
        batch: &mut Batch,
    ) {
        let mut before = BTreeMap::new();
        let new = new.into_iter().filter_map(|(key, entry)| vip(key, entry));
        for (addr, kind) in new {
            before.entry(addr).or_insert_with(|| self.kinds(&addr));
            if let Some(count) = self.counts.entry(addr).or_default().get_mut(kind) {
                *count += 1;
            }
        }
        let old = old.into_iter().filter_map(|(key, entry)| vip(key, entry));
        for (addr, kind) in old {
            before.entry(addr).or_insert_with(|| self.kinds(&addr));
            if let Some(count) = self.counts.get_mut(&addr).and_then(|c| c.get_mut(kind)) {
                *count = count.saturating_sub(1);
            }
        }
        for (addr, before) in before {
            let after = self.kinds(&addr);
            if after == 0 {
                self.counts.remove(&addr);
            }
            if after & !before & FrontendKind::ClusterIp.bit() != 0 {
                self.cover(addr);
            }
            if after != before {
                batch.vips.insert(addr, after);
            }
        }
    }

    /// What makes a map with `found` as it should be.
    pub(super) fn repair(&self, found: Vec<(Addr, u32)>, batch: &mut Batch) {
        let found: HashMap<_, _> = found.into_iter().collect();
        let gone = found.keys().filter(|addr| !self.counts.contains_key(addr));
        batch.vips.extend(gone.map(|addr| (*addr, 0)));
        for (addr, counts) in &self.counts {
            let kinds = kinds(counts);
            if found.get(addr) != Some(&kinds) {
                batch.vips.insert(*addr, kinds);
            }
        }
    }

    fn cover(&mut self, addr: Addr) {
        if !self.told.iter().any(|range| range.contains(&addr)) {
            let [v4, v6] = &mut self.elsewhere;
            let range = if addr.is_v4() { v4 } else { v6 };
            *range = Some(hull(*range, addr));
        }
    }

    /// Says which ranges were set aside for ClusterIPs; false if some are one too many.
    pub(super) fn set_told(&mut self, mut ranges: Vec<AddressRange>) -> bool {
        ranges.sort_by_key(|range| (range.bits(), range.net));
        ranges.dedup();
        let mut room = [TOLD; 2];
        let all = ranges.len();
        ranges.retain(|range| {
            let room = &mut room[usize::from(!range.net.is_v4())];
            let fits = *room > 0;
            *room -= usize::from(fits);
            fits
        });
        let fits = ranges.len() == all;
        if ranges != self.told {
            self.told = ranges;
            self.elsewhere = [None; 2];
            let is_cluster_ip =
                |counts: &Counts| kinds(counts) & FrontendKind::ClusterIp.bit() != 0;
            let cluster_ips = self
                .counts
                .iter()
                .filter(|(_, counts)| is_cluster_ip(counts));
            let cluster_ips: Vec<_> = cluster_ips.map(|(addr, _)| *addr).collect();
            for addr in cluster_ips {
                self.cover(addr);
            }
        }
        fits
    }

    /// The places of `SERVICE_RANGES` to fill.
    pub(super) fn ranges(&self) -> Vec<ServiceRange> {
        let place = |range, flags| ServiceRange {
            range,
            flags,
            reserved: 0,
        };
        let told = self.told.iter();
        let told = told.map(|range| place(*range, ServiceRangeFlags::SERVICE_CIDR));
        let elsewhere = self.elsewhere.iter().flatten();
        told.chain(elsewhere.map(|range| place(*range, 0)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lb_ebpf::abi::{Port, Protocol, TableRef};

    use super::*;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    fn net(text: &str, bits: u32) -> AddressRange {
        AddressRange::new(addr(text), bits)
    }

    fn frontend(ip: &str, port: u16, kind: FrontendKind) -> (FrontendKey, ServiceEntry) {
        let key = FrontendKey::internal(addr(ip), Port::new(port), Protocol::Tcp);
        let entry = ServiceEntry {
            table: TableRef::EMPTY,
            service_id: 0,
            flags: kind as u32,
            affinity_secs: 0,
            seal: 0,
        };
        (key, entry)
    }

    fn writes(
        vips: &mut Vips,
        old: &[(FrontendKey, ServiceEntry)],
        new: &[(FrontendKey, ServiceEntry)],
    ) -> Vec<(Addr, u32)> {
        let mut batch = Batch::default();
        vips.change(old, new, &mut batch);
        batch.vips.into_iter().collect()
    }

    #[test]
    fn an_address_is_written_when_its_kinds_change_and_no_more_often() {
        let mut vips = Vips::default();
        let ip = "10.96.0.1";
        let [http, https] = [80, 443].map(|port| frontend(ip, port, FrontendKind::ClusterIp));
        let external = frontend(ip, 80, FrontendKind::ExternalIp);
        assert_eq!(writes(&mut vips, &[], &[http]), [(addr(ip), 1)]);
        assert_eq!(writes(&mut vips, &[], &[https]), []);
        assert_eq!(writes(&mut vips, &[http], &[external]), [(addr(ip), 5)]);
        assert_eq!(writes(&mut vips, &[https], &[]), [(addr(ip), 4)]);
        assert_eq!(writes(&mut vips, &[external], &[]), [(addr(ip), 0)]);
        assert!(vips.counts.is_empty());
    }

    #[test]
    fn node_ports_and_external_entries_are_no_addresses() {
        let mut vips = Vips::default();
        let node_port = frontend("0.0.0.0", 30_080, FrontendKind::NodePort);
        let mut outside = frontend("203.0.113.1", 80, FrontendKind::LoadBalancer);
        outside.0 = outside.0.in_scope(Scope::External);
        assert_eq!(writes(&mut vips, &[], &[node_port, outside]), []);
    }

    #[test]
    fn cluster_ips_outside_of_told_ranges_have_one_range_a_family() {
        let mut vips = Vips::default();
        let ips = [
            "10.96.0.1",
            "10.96.0.9",
            "10.200.3.4",
            "fd00:96::1",
            "fd00:96::2",
        ];
        let cluster_ips = ips.map(|ip| frontend(ip, 80, FrontendKind::ClusterIp));
        writes(&mut vips, &[], &cluster_ips);
        let ranges = |vips: &Vips| {
            vips.ranges()
                .iter()
                .map(|r| (r.range, r.flags))
                .collect::<Vec<_>>()
        };
        // The bits that 10.96.x and 10.200.x have in common.
        assert_eq!(
            ranges(&vips),
            [(net("10.0.0.0", 96 + 8), 0), (net("fd00:96::", 126), 0)]
        );
        assert!(vips.set_told(vec![net("10.96.0.0", 96 + 12), net("fd00:96::", 112)]));
        assert_eq!(
            ranges(&vips),
            [
                (net("10.96.0.0", 96 + 12), 1),
                (net("fd00:96::", 112), 1),
                (net("10.200.3.4", 128), 0),
            ]
        );
    }

    #[test]
    fn ranges_beyond_the_places_are_left_out_the_widest_first_kept() {
        let mut vips = Vips::default();
        let many = (0..9).map(|third| net(&format!("10.{third}.0.0"), 96 + 24));
        let wide = net("172.16.0.0", 96 + 12);
        assert!(!vips.set_told(many.chain([wide]).collect()));
        assert_eq!(vips.ranges().len(), SERVICE_RANGES - 1);
        assert_eq!(vips.ranges()[0].range, wide);
    }

    #[test]
    fn a_map_found_after_a_crash_is_repaired() {
        let mut vips = Vips::default();
        writes(
            &mut vips,
            &[],
            &[frontend("10.96.0.1", 80, FrontendKind::ClusterIp)],
        );
        let mut batch = Batch::default();
        vips.repair(vec![(addr("10.96.0.7"), 1)], &mut batch);
        let writes: Vec<_> = batch.vips.into_iter().collect();
        assert_eq!(writes, [(addr("10.96.0.1"), 1), (addr("10.96.0.7"), 0)]);
    }
}

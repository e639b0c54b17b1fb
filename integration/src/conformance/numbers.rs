//! Addresses and ports that a site gives to Services, each of them once.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU8, AtomicU16, Ordering},
};

use crate::apiserver::Cidr;

/// What no other Service of the run has.
#[derive(Debug)]
pub struct Numbers {
    cluster_ips: (Cidr, Cidr),
    next_ip: AtomicU16,
    next_node_port: AtomicU16,
    next_vip: AtomicU8,
}

// === impl Numbers ===

impl Numbers {
    /// ClusterIPs out of these ranges, IPv4's first, from this place on; node ports from this one.
    pub fn new(cluster_ips: (Cidr, Cidr), first_ip: u16, first_node_port: u16) -> Self {
        Self {
            cluster_ips,
            next_ip: AtomicU16::new(first_ip),
            next_node_port: AtomicU16::new(first_node_port),
            next_vip: AtomicU8::new(1),
        }
    }

    /// ClusterIPs; both, whatever the families of the site are.
    pub fn cluster_ips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = u128::from(self.next_ip.fetch_add(1, Ordering::Relaxed));
        let (v4, v6) = self.cluster_ips;
        match (v4.nth(n), v6.nth(n)) {
            (IpAddr::V4(v4), IpAddr::V6(v6)) => (v4, v6),
            other => unreachable!("ranges of the wrong families: {other:?}"),
        }
    }

    /// A node port, or a health-check node port.
    pub fn node_port(&self) -> u16 {
        self.next_node_port.fetch_add(1, Ordering::Relaxed)
    }

    /// Addresses for a load balancer; both, whatever the families are. Nothing routes them yet.
    pub fn vips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.next_vip.fetch_add(1, Ordering::Relaxed);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(n));
        (Ipv4Addr::new(192, 0, 2, n), v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_out_of_their_ranges() {
        let ranges = ("10.96.0.0/16", "fd00:96::/112");
        let ranges = (ranges.0.parse().unwrap(), ranges.1.parse().unwrap());
        let numbers = Numbers::new(ranges, 0x1000, 30_100);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (v4, v6) = numbers.cluster_ips();
        assert_eq!(IpAddr::from(v4), address("10.96.16.0"));
        assert_eq!(IpAddr::from(v6), address("fd00:96::1000"));
        assert_ne!(numbers.cluster_ips(), (v4, v6));
        assert_eq!([numbers.node_port(), numbers.node_port()], [30_100, 30_101]);
        assert_ne!(numbers.vips(), numbers.vips());
    }
}

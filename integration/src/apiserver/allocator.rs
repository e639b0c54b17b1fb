//! Cluster IPs and node ports in use, and the choice of free ones.
//!
//! Invariant: the maps mirror the stored Services exactly; only
//! [`Allocator::replace`], called at commit, changes them. Choosing does not
//! reserve, so dry runs leave no trace.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde_json::Value;

use super::object::Key;

/// Default `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Automatic choices start here, above the band kept for addresses chosen by hand (KEP-3070).
const STATIC_BAND: u128 = 256;

/// An address range, `base/prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// A string that is not `address/prefix length`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(error)?;
        let base: IpAddr = base.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        if prefix > width {
            return Err(error());
        }
        Ok(Self { base, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Cidr {
    /// Number of addresses; saturates for /0 of IPv6.
    fn size(self) -> u128 {
        let width = if self.base.is_ipv4() { 32 } else { 128 };
        1_u128
            .checked_shl(u32::from(width - self.prefix))
            .unwrap_or(u128::MAX)
    }

    /// The `offset`th address.
    pub fn nth(self, offset: u128) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(offset as u32)).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(offset)).into(),
        }
    }

    /// Whether it is a range of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.base.is_ipv4()
    }
}

/// Which Service owns which address and port.
#[derive(Debug)]
pub(crate) struct Allocator {
    cidrs: Vec<Cidr>,
    /// Next offset to try, per entry of `cidrs`. Addresses just released are
    /// not handed out again at once, as a real server's random choice avoids.
    next: Vec<u128>,
    next_port: u16,
    addresses: BTreeMap<IpAddr, Key>,
    ports: BTreeMap<u16, Key>,
}

impl Allocator {
    pub(crate) fn new(cidrs: &[Cidr]) -> Self {
        let next = cidrs
            .iter()
            .map(|c| STATIC_BAND.min(c.size() / 16).max(1))
            .collect();
        Self {
            cidrs: cidrs.to_vec(),
            next,
            next_port: *NODE_PORTS.start(),
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    /// Records what a Service holds after a commit instead of before it.
    pub(crate) fn replace(&mut self, key: &Key, before: Option<&Value>, after: Option<&Value>) {
        if let Some(service) = before {
            addresses_of(service).for_each(|ip| drop(self.addresses.remove(&ip)));
            ports_of(service).for_each(|port| drop(self.ports.remove(&port)));
        }
        if let Some(service) = after {
            self.addresses
                .extend(addresses_of(service).map(|ip| (ip, key.clone())));
            self.ports
                .extend(ports_of(service).map(|port| (port, key.clone())));
        }
    }

    /// True when `owner` may hold the address.
    pub(crate) fn address_is_free(&self, ip: IpAddr, owner: &Key) -> bool {
        self.addresses
            .get(&ip)
            .is_none_or(|held_by| held_by == owner)
    }

    /// True when `owner` may hold the node port.
    pub(crate) fn port_is_free(&self, port: u16, owner: &Key) -> bool {
        NODE_PORTS.contains(&port) && self.ports.get(&port).is_none_or(|held_by| held_by == owner)
    }

    /// A free address of the family; none when the range is full or not configured.
    pub(crate) fn choose_address(&mut self, ipv4: bool) -> Option<IpAddr> {
        let index = self.cidrs.iter().position(|cidr| cidr.is_ipv4() == ipv4)?;
        let cidr = self.cidrs[index];
        // Offset 0 is the network address; 1 belongs to the API server's own Service.
        let usable = cidr.size().saturating_sub(if ipv4 { 3 } else { 2 });
        for _ in 0..usable.min(1 << 20) {
            let offset = self.next[index];
            self.next[index] = if offset > usable { 2 } else { offset + 1 };
            let ip = cidr.nth(offset);
            if offset >= 2 && !self.addresses.contains_key(&ip) {
                return Some(ip);
            }
        }
        None
    }

    /// A free node port not in `taken` (ports chosen earlier for the same Service).
    pub(crate) fn choose_port(&mut self, taken: &[u16]) -> Option<u16> {
        for _ in NODE_PORTS {
            let port = self.next_port;
            self.next_port = if port == *NODE_PORTS.end() {
                *NODE_PORTS.start()
            } else {
                port + 1
            };
            if !self.ports.contains_key(&port) && !taken.contains(&port) {
                return Some(port);
            }
        }
        None
    }
}

fn addresses_of(service: &Value) -> impl Iterator<Item = IpAddr> {
    service["spec"]["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.as_str()?.parse().ok())
}

fn ports_of(service: &Value) -> impl Iterator<Item = u16> {
    let spec = &service["spec"];
    let of_ports = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| &port["nodePort"]);
    of_ports
        .chain([&spec["healthCheckNodePort"]])
        .filter_map(|port| u16::try_from(port.as_u64()?).ok().filter(|port| *port != 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn full_range_yields_nothing_and_released_address_returns() {
        let mut allocator = Allocator::new(&["10.0.0.0/29".parse().unwrap()]);
        let key = |n: usize| Key::new("default", n.to_string());
        let mut held = Vec::new();
        while let Some(ip) = allocator.choose_address(true) {
            let service = json!({"spec": {"clusterIPs": [ip.to_string()]}});
            allocator.replace(&key(held.len()), None, Some(&service));
            held.push(service);
            assert!(held.len() < 8, "never more than the range holds");
        }
        assert_eq!(
            held.len(),
            5,
            "8 addresses less network, API server and broadcast"
        );
        allocator.replace(&key(0), Some(&held[0]), None);
        let ip = allocator.choose_address(true).unwrap();
        assert_eq!(held[0]["spec"]["clusterIPs"][0], ip.to_string());
    }

    #[test]
    fn cidr_text_is_checked() {
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("10.0.0.0".parse::<Cidr>().is_err());
        let cidr: Cidr = "fd00:96::/112".parse().unwrap();
        assert_eq!(cidr.nth(1), "fd00:96::1".parse::<IpAddr>().unwrap());
        assert_eq!(cidr.to_string(), "fd00:96::/112");
    }
}

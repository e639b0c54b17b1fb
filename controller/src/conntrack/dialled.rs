//! Frontends that are no longer wanted but may still have flows.

use std::collections::{HashMap, HashSet};

use lb_ebpf::abi::{Addr, ConntrackKey, Port};

use crate::plan::Retired;

/// What a client dials, of both scopes.
type Dialled = (Addr, Port, u8);

/// Retired frontends, and which of them flows were seen to use.
#[derive(Clone, Debug, Default)]
pub struct RetiredFrontends {
    frontends: HashMap<Dialled, Vec<Retired>>,
    used: HashSet<Dialled>,
}

impl RetiredFrontends {
    /// Nothing was seen yet. A frontend with the unspecified address is a NodePort: it is
    /// used by flows to its port at whatever address.
    pub fn new(retired: impl IntoIterator<Item = Retired>) -> Self {
        let mut out = Self::default();
        for retired in retired {
            let key = retired.key;
            let dialled = (key.addr, key.port, key.protocol);
            out.frontends.entry(dialled).or_default().push(retired);
        }
        out
    }

    /// A flow with this initiator key was seen.
    pub fn saw(&mut self, initiator: &ConntrackKey) {
        if self.frontends.is_empty() {
            return;
        }
        for addr in [initiator.dst, initiator.dst.unspecified()] {
            let dialled = (addr, initiator.dst_port, initiator.protocol);
            if self.frontends.contains_key(&dialled) {
                self.used.insert(dialled);
            }
        }
    }

    /// Those that no flow was seen to use, in no order.
    pub fn unused(self) -> Vec<Retired> {
        let used = self.used;
        let unused = self.frontends.into_iter();
        let unused = unused.filter(|(dialled, _)| !used.contains(dialled));
        unused.flat_map(|(_, retired)| retired).collect()
    }
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::{FrontendKey, Protocol, Scope};

    use super::*;
    use crate::conntrack::table::tests::{VIP, VIP_PORT, flow};

    fn frontend(addr: &str, port: u16, protocol: Protocol, scope: Scope) -> Retired {
        let key = FrontendKey {
            addr: Addr::from(addr.parse::<std::net::IpAddr>().unwrap()),
            port: Port::new(port),
            protocol: protocol as u8,
            scope: scope as u8,
        };
        Retired { key, since: 7 }
    }

    #[test]
    fn frontends_and_node_ports_are_used_by_flows_that_dial_them() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let (internal, external) = (Scope::Internal, Scope::External);
        let used = [
            frontend(VIP, VIP_PORT, tcp, internal),
            frontend(VIP, VIP_PORT, tcp, external),
            frontend("0.0.0.0", VIP_PORT, tcp, external),
        ];
        let unused = [
            frontend("::", VIP_PORT, tcp, external),
            frontend(VIP, VIP_PORT, udp, external),
            frontend(VIP, VIP_PORT + 1, tcp, external),
            frontend("10.0.0.99", VIP_PORT, tcp, external),
        ];
        let mut retired = RetiredFrontends::new(used.into_iter().chain(unused));
        retired.saw(&flow(0)[0].0);
        let left = retired.unused();
        assert_eq!(left.len(), unused.len());
        assert!(unused.iter().all(|retired| left.contains(retired)));
    }
}

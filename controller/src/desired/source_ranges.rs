//! Which sources may use the load-balancer VIPs of a Service (rules E26–E29).
#![forbid(unsafe_code)]

use super::frontends::Reach;
use crate::model::{Family, IpNet, NodeInfo};

impl Reach<'_> {
    /// The admitted sources of the family, sorted; empty if every source is admitted.
    pub(super) fn source_ranges(&self, node: &NodeInfo) -> Box<[IpNet]> {
        let given = self.service.source_ranges.iter().copied();
        let mut ranges: Vec<_> = given
            .filter(|range| Family::of(range.addr()) == self.family)
            .collect();
        // Rule E28; without a VIP there is nothing to restrict.
        let unrestricted = ranges.is_empty()
            || ranges.iter().any(|range| range.prefix_len() == 0)
            || self.load_balancer_ips().next().is_none();
        if unrestricted {
            return Box::default();
        }
        // Rule E29: a process of this node may have the VIP as its source.
        let node = node.primary(self.family);
        if node.is_some_and(|node| ranges.iter().any(|range| range.contains(&node))) {
            ranges.extend(self.load_balancer_ips().map(IpNet::from));
        }
        ranges.sort_unstable();
        ranges.dedup();
        ranges.into_boxed_slice()
    }
}

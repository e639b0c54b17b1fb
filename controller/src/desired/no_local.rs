//! Service ports that serve elsewhere, but not on this node, because of a policy Local
//! (rule J24).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use lb_ebpf::abi::{BackendFlags, Scope};

use super::DesiredService;
use crate::model::{Family, ObjectName, TrafficPolicy};

/// Numbers of Service ports by family, as in [`Family::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocal {
    /// Because of the internal policy.
    pub internal: [u32; 2],
    /// Because of the external policy.
    pub external: [u32; 2],
}

impl NoLocal {
    /// Of one Service.
    pub fn of(ports: &[DesiredService]) -> Self {
        let mut found = Self::default();
        for port in ports {
            let in_local_set = |flags: u32| flags & BackendFlags::IN_LOCAL_SET != 0;
            let local = port.backends.iter().any(|b| in_local_set(b.flags));
            // Rule C9.
            let anywhere = port.frontends.iter().any(|f| f.drop_when_empty);
            if local || !anywhere {
                continue;
            }
            let family = usize::from(port.key.family == Family::V6);
            let exposed = port.frontends.iter().any(|f| f.scope == Scope::External);
            found.internal[family] += u32::from(port.internal_policy == TrafficPolicy::Local);
            found.external[family] +=
                u32::from(exposed && port.external_policy == TrafficPolicy::Local);
        }
        found
    }

    fn add(&mut self, other: Self, sign: i32) {
        let pairs = (self.internal.iter_mut().zip(other.internal))
            .chain(self.external.iter_mut().zip(other.external));
        for (number, more) in pairs {
            *number = number.wrapping_add_signed(sign * more as i32);
        }
    }
}

/// The same over all Services, kept up change by change.
#[derive(Debug, Default)]
pub struct NoLocalTotal {
    by_service: BTreeMap<ObjectName, NoLocal>,
    total: NoLocal,
}

impl NoLocalTotal {
    /// Takes in what is true of one Service now.
    pub fn set(&mut self, service: &ObjectName, now: NoLocal) {
        let before = if now == NoLocal::default() {
            self.by_service.remove(service)
        } else {
            self.by_service.insert(service.clone(), now)
        };
        self.total.add(before.unwrap_or_default(), -1);
        self.total.add(now, 1);
    }

    /// The sum.
    pub fn total(&self) -> NoLocal {
        self.total
    }
}

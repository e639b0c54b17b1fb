//! A conformance case as a value, and the macro by which a file of cases lists its own.

use std::fmt;

use super::{Scenario, Site};

/// One case of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Unique; the name of its function.
    pub name: &'static str,
    /// The rows of upstream's tests that it restates (`S8`); none for a case of our own.
    pub rows: &'static [&'static str],
    /// For a case of our own: what it asks that upstream never does.
    pub own: &'static str,
    /// The rules that it proves (`E6`).
    pub rules: &'static [&'static str],
    /// What it cannot do without.
    pub needs: &'static [Needs],
    /// Runs it; panics if a promise is broken.
    pub run: fn(&Scenario),
}

/// What a site may lack. All sites have at least three nodes, pods, host-network pods and clients
/// in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Raw access to the namespaces of pods and clients: packets made by hand, kernel counters,
    /// narrow paths.
    Namespaces,
    /// A client outside the cluster.
    Outside,
    /// Addresses (of load balancers, external IPs, ClusterIPs) that clients outside find routed to
    /// a node that the case chooses.
    Routes,
    /// ClusterIPs out of any range.
    AnyClusterIp,
    /// A zone for each of the first three nodes.
    Zones,
    /// Two nodes in each of three zones: nodes n and n + 3 are in one.
    SixNodes,
    /// Proxies that can be restarted.
    ProxyRestarts,
    /// Proxies that can be given other settings.
    ProxySettings,
    /// An API server that can be restarted.
    ApiRestarts,
    /// Nodes that the control plane can be about to delete.
    NodeChanges,
    /// IPv4.
    V4,
    /// IPv6; with `V4`, dual stack.
    V6,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "raw access to network namespaces",
            Self::Outside => "a client outside the cluster",
            Self::Routes => "virtual addresses routed to a chosen node",
            Self::AnyClusterIp => "ClusterIPs out of any range",
            Self::Zones => "three zones",
            Self::SixNodes => "two nodes in each of three zones",
            Self::ProxyRestarts => "proxies that can be restarted",
            Self::ProxySettings => "proxies that can be given other settings",
            Self::ApiRestarts => "API server that can be restarted",
            Self::NodeChanges => "nodes that the control plane can be about to delete",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

// === impl Needs ===

impl Needs {
    /// Whether a case that uses this would disturb others that run at the same time.
    fn disturbs(self) -> bool {
        matches!(
            self,
            Self::ProxyRestarts | Self::ProxySettings | Self::ApiRestarts | Self::NodeChanges
        )
    }
}

// === impl Case ===

impl Case {
    /// Whether it must run by itself, when no other case does.
    pub fn is_alone(&self) -> bool {
        self.needs.iter().any(|need| need.disturbs())
    }

    /// Why this site cannot run the case, if it cannot.
    pub fn unmet_at(&self, site: &dyn Site) -> Option<String> {
        self.unmet(|need| site.offers(need), site.name())
    }

    /// The same for a site that is yet to be built.
    pub fn unmet(&self, offers: impl Fn(Needs) -> bool, site: &str) -> Option<String> {
        let unmet = self.needs.iter().find(|&&need| !offers(need))?;
        Some(format!("the site {site} has no {unmet}"))
    }
}

/// The table of a file's cases: each function with the upstream rows it restates, or what only we
/// ask, the rules it proves, and what it needs.
macro_rules! cases {
    ($(
        $name:ident: $(rows [$($row:ident)+])? $(own $own:literal)?,
        rules [$($rule:ident)+] $(, needs [$($need:ident)+])?;
    )+) => {
        /// The cases of this file.
        pub(super) static CASES: &[$crate::conformance::Case] = &[$($crate::conformance::Case {
            name: stringify!($name),
            rows: &[$($(stringify!($row)),+)?],
            own: concat!($($own)?),
            rules: &[$(stringify!($rule)),+],
            needs: &[$($($crate::conformance::Needs::$need),+)?],
            run: $name,
        }),+];
    };
}
pub(super) use cases;

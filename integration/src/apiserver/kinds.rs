//! The table of kinds the server knows.
//!
//! Everything else (routing, discovery, storage, watch) is generic over one row
//! of this table. Adding a kind is adding a row; only defaulting is per kind.

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// One row: how a kind is named in URLs, objects and on the command line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// Lower-case plural: the URL segment.
    pub plural: &'static str,
    pub singular: &'static str,
    /// CamelCase name in objects.
    pub kind: &'static str,
    pub short_names: &'static [&'static str],
    pub scope: Scope,
    /// Whether `/status` exists; writes to the main resource then leave status alone.
    pub status: bool,
}

/// Kinds are rows of a static table, so a reference identifies one.
pub type KindRef = &'static Kind;

impl Kind {
    /// `v1` or `group/version`, as objects carry it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `services`, `deployments.apps`: how error messages name the resource.
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

const fn row(
    api: (&'static str, &'static str),
    names: (&'static str, &'static str, &'static str),
    short_names: &'static [&'static str],
    scope: Scope,
    status: bool,
) -> Kind {
    Kind {
        group: api.0,
        version: api.1,
        plural: names.0,
        singular: names.1,
        kind: names.2,
        short_names,
        scope,
        status,
    }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");
const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const DISCOVERY: (&str, &str) = ("discovery.k8s.io", "v1");
const EVENTS: (&str, &str) = ("events.k8s.io", "v1");
const NS: Scope = Scope::Namespaced;
const CLUSTER: Scope = Scope::Cluster;

/// Core rows come first: a bare name such as `events` means the core kind, as in kubectl.
#[rustfmt::skip]
pub(crate) static KINDS: &[Kind] = &[
    row(CORE, ("namespaces", "namespace", "Namespace"), &["ns"], CLUSTER, true),
    row(CORE, ("services", "service", "Service"), &["svc"], NS, true),
    row(CORE, ("endpoints", "endpoints", "Endpoints"), &["ep"], NS, false),
    row(CORE, ("nodes", "node", "Node"), &["no"], CLUSTER, true),
    row(CORE, ("pods", "pod", "Pod"), &["po"], NS, true),
    row(CORE, ("configmaps", "configmap", "ConfigMap"), &["cm"], NS, false),
    row(CORE, ("secrets", "secret", "Secret"), &[], NS, false),
    row(CORE, ("serviceaccounts", "serviceaccount", "ServiceAccount"), &["sa"], NS, false),
    row(CORE, ("events", "event", "Event"), &["ev"], NS, false),
    row(APPS, ("daemonsets", "daemonset", "DaemonSet"), &["ds"], NS, true),
    row(APPS, ("deployments", "deployment", "Deployment"), &["deploy"], NS, true),
    row(COORDINATION, ("leases", "lease", "Lease"), &[], NS, false),
    row(DISCOVERY, ("endpointslices", "endpointslice", "EndpointSlice"), &[], NS, false),
    row(EVENTS, ("events", "event", "Event"), &["ev"], NS, false),
    row(NETWORKING, ("servicecidrs", "servicecidr", "ServiceCIDR"), &[], CLUSTER, true),
    row(NETWORKING, ("ipaddresses", "ipaddress", "IPAddress"), &["ip"], CLUSTER, false),
    row(RBAC, ("clusterroles", "clusterrole", "ClusterRole"), &[], CLUSTER, false),
    row(RBAC, ("clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding"), &[], CLUSTER, false),
];
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

/// The row for a URL, e.g. `("discovery.k8s.io", "v1", "endpointslices")`.
pub(crate) fn by_url(group: &str, version: &str, plural: &str) -> Option<KindRef> {
    KINDS
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The row for an object's `apiVersion` and `kind`.
pub(crate) fn by_object(api_version: &str, kind: &str) -> Option<KindRef> {
    KINDS
        .iter()
        .find(|k| k.kind == kind && k.api_version() == api_version)
}

/// The row for what a person would type: plural, singular, kind or short name,
/// or `plural.group`. The core group wins when two groups share a name.
pub fn by_name(name: &str) -> Option<KindRef> {
    KINDS.iter().find(|k| {
        k.plural == name
            || k.singular == name
            || k.kind == name
            || k.short_names.contains(&name)
            || k.resource() == name
    })
}

/// Distinct `(group, version)` pairs of the named groups (the core group excluded).
pub(crate) fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = KINDS
        .iter()
        .filter(|k| !k.group.is_empty())
        .map(|k| (k.group, k.version))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_like_kubectl() {
        assert_eq!(by_name("svc").map(|k| k.kind), Some("Service"));
        assert_eq!(by_name("events").map(|k| k.group), Some(""));
        assert_eq!(
            by_name("events.events.k8s.io").map(|k| k.group),
            Some("events.k8s.io")
        );
        assert_eq!(
            by_object("discovery.k8s.io/v1", "EndpointSlice").map(|k| k.plural),
            Some("endpointslices")
        );
        assert_eq!(by_object("v1", "EndpointSlice"), None);
    }
}

//! The compact model: what a service proxy needs to know, and nothing else.
//!
//! Converters make these records from Kubernetes objects at once and drop the
//! objects, so that memory follows the number of endpoints, not their size. Nothing
//! here names a Kubernetes type or a map.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

pub use ipnet::IpNet;
pub use lb_ebpf::abi::Protocol;

/// namespace/name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Address family of a service; each is programmed independently (rule M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are programmed.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `ip`.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The unspecified address: as a frontend, every address of the node.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// 4 or 6.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// `spec.type` of a Service that has frontends (ExternalName has none, rule A5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIp,
    /// Also at a port of every node.
    NodePort,
    /// Also at addresses of a load balancer.
    LoadBalancer,
}

/// Internal or external traffic policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of this node only.
    Local,
}

/// How packets from outside reach a backend on another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForwardingMode {
    /// With an address of this node as source: replies come back through it.
    #[default]
    Snat,
    /// Encapsulated, so that the backend's node answers the client directly.
    Dsr,
    /// DSR for TCP, SNAT for UDP.
    Hybrid,
}

impl FromStr for ForwardingMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "snat" => Ok(Self::Snat),
            "dsr" => Ok(Self::Dsr),
            "hybrid" => Ok(Self::Hybrid),
            _ => Err(UnknownMode),
        }
    }
}

/// A text that names no [`ForwardingMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected snat, dsr or hybrid")]
pub struct UnknownMode;

/// What the operator of this node has chosen, as far as it decides what is programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For Services that do not choose themselves.
    pub forwarding: ForwardingMode,
    /// Whether `spec.externalIPs` count (rule A13).
    pub external_ips: bool,
    /// Whether rule E3 holds.
    pub reject_undefined_ports: bool,
    /// Whether all clients of ClusterIPs are masqueraded (rule G4).
    pub masquerade_all: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            forwarding: ForwardingMode::Snat,
            external_ips: true,
            reject_undefined_ports: true,
            masquerade_all: false,
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty for the only port of a Service.
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `nodePort`; 0 is none (rule A10).
    pub node_port: u16,
}

/// A Service that the proxy handles (rules A1, A3, A5: others never become a record).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `spec.type`.
    pub service_type: ServiceType,
    /// ClusterIP by family, at most one each (rule A7). A family without one does not
    /// exist for this Service, whatever its other addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`, parsed (rule A8).
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP (rule E18).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, parsed, of both families (rule E28).
    pub source_ranges: Box<[IpNet]>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// Session-affinity timeout in seconds; `None` without affinity (rule H1).
    pub affinity_secs: Option<u32>,
    /// Maglev table length that an annotation asks for.
    pub pinned_len: Option<u32>,
    /// Forwarding mode that an annotation asks for.
    pub forwarding: Option<ForwardingMode>,
    /// `spec.healthCheckNodePort`; 0 is none (rule J1).
    pub health_check_node_port: u16,
    /// `spec.ports`, in their order.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// The ClusterIP of `family`.
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family)
    }
}

/// One port of an EndpointSlice (rules B6, B7: without name or number it is no record).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// `name`, matched with the Service port's (rule B6).
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`: where the endpoints listen.
    pub port: u16,
}

/// One endpoint of an EndpointSlice; only its first address counts (rule B8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the conditions are independent of each other"
)]
pub struct Endpoint {
    /// `addresses[0]`.
    pub addr: IpAddr,
    /// Condition `ready`, default true (rule B9).
    pub ready: bool,
    /// Condition `serving`, default true (rule B9).
    pub serving: bool,
    /// Condition `terminating`, default false (rule B9).
    pub terminating: bool,
    /// `nodeName` is this node (rule B10).
    pub local: bool,
    /// Has hints for nodes, and whether this node is among them (rule D2).
    pub node_hint: NodeHint,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// `hints.forZones[].name` (rule D1).
    pub zone_hints: Box<[Arc<str>]>,
}

/// What `hints.forNodes` says about this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeHint {
    /// No node is named.
    #[default]
    None,
    /// Other nodes are named.
    Other,
    /// This node is named.
    This,
}

/// An EndpointSlice that the proxy handles (rules B1, B2, B4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service it belongs to: its namespace and its label (rule B1).
    pub service: ObjectName,
    /// `addressType`.
    pub family: Family,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
}

/// What matters of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Label `topology.kubernetes.io/zone`; `None` if absent or empty (rule D4).
    pub zone: Option<Arc<str>>,
    /// Its primary IPv4 address (rule L2).
    pub primary_v4: Option<Ipv4Addr>,
    /// Its primary IPv6 address (rule L2).
    pub primary_v6: Option<Ipv6Addr>,
    /// Whether load balancers should choose this node.
    pub standing: Standing,
    /// `spec.podCIDRs` (rule F9).
    pub pod_cidrs: Box<[IpNet]>,
}

/// What the Node object says to load balancers outside (rule J12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There is no Node object, or it has not been seen yet.
    #[default]
    Unknown,
    /// The node stays.
    Staying,
    /// The node is being deleted, or an autoscaler is about to delete it.
    Leaving,
}

impl NodeInfo {
    /// The primary address of `family`.
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.primary_v4.map(IpAddr::V4),
            Family::V6 => self.primary_v6.map(IpAddr::V6),
        }
    }

    /// Whether Services are programmed alike: only load balancers ask for the standing.
    pub fn programs_like(&self, other: &Self) -> bool {
        let standing = other.standing;
        *other
            == Self {
                standing,
                ..self.clone()
            }
    }
}

/// Kinds of objects that a source lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
    /// ServiceCIDRs. Nothing waits for their list.
    ServiceCidrs,
}

/// What a source says. Order between objects does not matter (rule B16); order of
/// events of one object does.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A list of this kind begins: objects not named before [`Event::Listed`] are gone.
    Listing(Kind),
    /// The list is complete. Nothing is programmed before both kinds have been listed
    /// once (rule K1).
    Listed(Kind),
    /// A Service is now so, or is not (any more) one that the proxy handles.
    Service(ObjectName, Option<Service>),
    /// An EndpointSlice is now so, or is not (any more) one that the proxy handles.
    EndpointSlice(ObjectName, Option<EndpointSlice>),
    /// What the next event of this EndpointSlice says began at this time, in nanoseconds
    /// since the Unix epoch (rule J21).
    Triggered(ObjectName, u64),
    /// This node is now so.
    Node(NodeInfo),
    /// A ServiceCIDR has these networks, or is gone.
    ServiceCidr(ObjectName, Option<Box<[IpNet]>>),
}

//! Faults that tests switch on: each takes one rule away, and some test must notice.
//!
//! Only with the feature `faults`, which no program that is shipped has, and only on the host;
//! elsewhere [`on`] is a constant and nothing is left of it. `LB_FAULT=NAME` in the environment
//! chooses one. `cargo xtask mutants --only faults` goes through all of them.
#![forbid(unsafe_code)]

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A rule that does not hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Fault {
            /// All of them: name and what goes wrong.
            pub const ALL: &'static [(&'static str, Self, &'static str)] =
                &[$((stringify!($name), Self::$name, concat!($($doc),+)),)*];
        }
    };
}

faults! {
    /// Rule C11: what has no endpoint is dropped instead of refused.
    SilentRefusal,
    /// Rule C12: what the policy leaves no endpoint is refused instead of dropped.
    LoudDrop,
    /// Rule C15: every connection meets the first entry of the table.
    OneBackend,
    /// Rule C16: a TCP flow ends when its backend no longer serves.
    FlowsMove,
    /// Rule E6: a NodePort is served at every address, the node's or not.
    NodePortAnywhere,
    /// Rule E11: a loopback NodePort is served to every network namespace.
    LoopbackForAll,
    /// Rules E12, E23: source ranges restrict every frontend of the service.
    RangesEverywhere,
    /// Rule E13: packets of pods open no flow.
    PodsNotServed,
    /// Rule E20: a VIP is served only where it is an address of the node.
    VipMustBeLocal,
    /// Rule E26: sources out of range are admitted.
    RangesIgnored,
    /// Rule E27: clients on this node are not held to source ranges.
    RangesForOthers,
    /// Rule E30: sockets choose a backend where source ranges would have to be looked at.
    SocketsSkipRanges,
    /// Rules F1, C14: packets of local pods obey the external policy.
    PodsAreOutside,
    /// Rules F2, C14: packets of this host obey the external policy.
    HostIsOutside,
    /// Rule F3: packets from outside obey the internal policy.
    OutsideIsInside,
    /// Rule F5: packets to a backend on another node keep their source.
    NoMasquerade,
    /// Rule G1: packets of pods get an address of this node as source.
    PodsMasqueraded,
    /// Rule G2: a pod that reaches itself keeps its source.
    NoHairpin,
    /// Rule G3: the client's own port is used towards a remote backend.
    OwnPortKept,
    /// Rule G4: a frontend that masquerades all its clients keeps the source of some.
    MasqueradeAllIgnored,
    /// Rule G5: packets that are only passing through open flows.
    TransitTranslated,
    /// Rule G6: packets of backends are sent on as they are.
    AnswersUntranslated,
    /// Rule G6: connected sockets see the backend as their peer.
    PeerShowsBackend,
    /// Rule G6: unconnected sockets see the backend as sender.
    SenderShowsBackend,
    /// Rule G8: what an ICMP error embeds is not translated.
    EmbeddedUntranslated,
    /// Rule G8: packets too large for the next hop are sent on.
    TooBigUnanswered,
    /// Rule G9: fragments are left alone.
    FragmentsIgnored,
    /// Rule G10: a reset, which may be forged, ends a flow at once.
    ResetEnds,
    /// Rule H1: the client's port is part of whom affinity remembers.
    AffinityByPort,
    /// Rules H1, H5: affinity is ignored.
    AffinityIgnored,
    /// Rule H2: a connection that affinity decides does not restart the time-out.
    AffinityNotRenewed,
    /// Rule H3: affinity never times out.
    AffinityForever,
    /// Rule H4: affinity leads to backends that have left the set.
    AffinityOutOfSet,
    /// Rule H9: UDP has no affinity.
    AffinityWithoutUdp,
    /// Rule I1: UDP flows stay with a backend that does not serve.
    UdpStays,
    /// Rule I2: UDP flows leave a backend that serves on outside the set.
    UdpLeavesEarly,
    /// Rule I3: UDP flows end where no endpoint is left.
    UdpEndsWithLast,
    /// Rule I5: UDP flows stay with a slot that has become another backend.
    SlotIsIdentity,
    /// Rule I7: datagrams of a socket go on to a backend that does not serve.
    SocketFlowsStay,
    /// Rule M3: SCTP is not served.
    NoSctp,
    /// Rule M5: a v4-mapped address in an IPv6 packet passes for the IPv4 one.
    MappedOnWire,
    /// A proven flow's port is given to another flow.
    ProvenPortTaken,
    /// Any acknowledgement proves a connection, as one with a spoofed source could send.
    BlindAckProves,
    /// Flows never expire.
    FlowsForever,
    /// Packets with no hops left are sent on.
    HopLimitIgnored,
    /// Transport checksums stay as they were.
    ChecksumKept,
    /// Tunnelled packets are trusted whomever they are for.
    TunnelsTrusted,
}

/// Whether `fault` is switched on.
#[cfg(not(all(feature = "faults", not(target_arch = "bpf"))))]
#[inline(always)]
pub(crate) const fn on(_fault: Fault) -> bool {
    false
}

/// Whether `fault` is switched on.
#[cfg(all(feature = "faults", not(target_arch = "bpf")))]
pub(crate) fn on(fault: Fault) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<Fault>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("LB_FAULT").ok()?;
        let found = Fault::ALL.iter().find(|(known, ..)| *known == name);
        Some(found.expect("LB_FAULT names a fault").1)
    });
    *CHOSEN == Some(fault)
}

//! The reference proxy: the same desired state as ours, in a datapath that shares nothing with it.
//!
//! Objects become [`DesiredService`]s by `lb-controller`'s library. [`iptables`] and [`nftables`]
//! render them as rules in kube-proxy's layout, under kube-proxy's names; [`runner`] is the loop
//! that applies them. A conformance test that fails here is wrong, or asks for what netfilter
//! does not have ([`lacks`]); `docs/0001-a-reference-proxy.md` says what that has shown.
//!
//! Rendering is pure: the same Services and the same [`NodeFacts`] give the same text.

pub mod conntrack;
pub mod facts;
mod health;
pub mod iptables;
pub mod lacks;
mod names;
pub mod nftables;
pub mod runner;
mod service;
#[cfg(test)]
mod tests;

use std::str::FromStr;

pub use facts::{LocalDetector, NodeFacts};
use lb_controller::desired::DesiredService;

/// Which of the two datapaths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// `nft`.
    Nftables,
}

/// A text that names no [`Mode`].
#[derive(Debug, thiserror::Error)]
#[error("expected iptables or nftables")]
pub struct UnknownMode;

impl Mode {
    /// What `/proxyMode` says.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Iptables, Self::Nftables]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or(UnknownMode)
    }
}

/// All rules for these Services on this node, both families.
pub fn render(mode: Mode, services: &[DesiredService], facts: &NodeFacts) -> String {
    match mode {
        Mode::Iptables => iptables::render(services, facts),
        Mode::Nftables => nftables::render(services, facts),
    }
}

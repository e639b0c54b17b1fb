//! The synthetic cluster as kube-proxy's rules, by the reference proxy.

use anyhow::{Context, Result};
use clap::ValueEnum;
use lb_controller::{desired::DesiredService, model::Family, store::Store};
use lb_integration::{
    netns::Netns,
    reference::{LocalDetector, NodeFacts, iptables, nftables, runner},
};

use crate::cluster::{self, Size};

/// kube-proxy's mode, and which program puts its rules into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// iptables mode, by `iptables-legacy-restore`
    IptablesLegacy,
    /// iptables mode, by `iptables-nft-restore`
    IptablesNft,
    /// nftables mode, by `nft`
    Nftables,
}

impl Mode {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nftables => "nftables",
        }
    }

    /// The program and its arguments.
    const fn command(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::IptablesLegacy => ("iptables-legacy-restore", &["--noflush"]),
            Self::IptablesNft => ("iptables-nft-restore", &["--noflush"]),
            Self::Nftables => ("nft", &["-f", "-"]),
        }
    }
}

/// Loads the rules for `size` into a namespace without rules.
pub fn load(netns: &Netns, mode: Mode, size: Size) -> Result<()> {
    let (program, arguments) = mode.command();
    netns.tool_with(program, arguments, &rules(mode, size)?)
}

/// What the program reads.
fn rules(mode: Mode, size: Size) -> Result<String> {
    let facts = NodeFacts {
        // Clients here are pods.
        local: LocalDetector::ClusterCidr(vec!["10.96.0.0/11".parse().context("a range")?]),
        ..NodeFacts::default()
    };
    let services = services(size);
    Ok(match mode {
        Mode::IptablesLegacy | Mode::IptablesNft => iptables::script(&services, &facts, Family::V4),
        Mode::Nftables => nftables::render(&services, &facts),
    })
}

fn services(size: Size) -> Vec<DesiredService> {
    let mut store = Store::new();
    for event in cluster::events(size, false) {
        store.apply(event);
    }
    runner::services(&store)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        services: 3,
        endpoints: 2,
    };

    #[test]
    fn iptables_has_a_rule_a_service_and_a_target_an_endpoint() {
        let rules = rules(Mode::IptablesLegacy, SIZE).expect("rules");
        assert_eq!(rules.matches("--to-destination").count(), 6);
        assert_eq!(rules.matches("--probability 0.5").count(), 3);
        for service in 0..3 {
            let ip = cluster::cluster_ip(service);
            assert!(rules.contains(&format!(" -d {ip} ")), "{rules}");
        }
    }

    #[test]
    fn nftables_has_a_map_entry_a_service_and_a_target_an_endpoint() {
        let rules = rules(Mode::Nftables, SIZE).expect("rules");
        assert_eq!(rules.matches("dnat to").count(), 6, "{rules}");
        for service in 0..3 {
            let ip = cluster::cluster_ip(service);
            assert!(rules.contains(&format!("{ip} . tcp . 80")), "{rules}");
        }
    }
}

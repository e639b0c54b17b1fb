//! The synthetic cluster as iptables rules, in the layout of kube-proxy's iptables mode.
//!
//! Chains and their order are kube-proxy's: OUTPUT → KUBE-SERVICES → KUBE-SVC-* →
//! KUBE-SEP-* → DNAT, marking and masquerading beside them. Names hold numbers where
//! kube-proxy's hold hashes; they have the same length.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cluster::{PORTS, Size, cluster_ip, endpoint_ip};

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// `iptables-legacy-restore`.
    Legacy,
    /// `iptables-nft-restore`.
    Nft,
}

impl Backend {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy",
            Self::Nft => "iptables-nft",
        }
    }
}

/// Loads the rules for `size` in a namespace.
pub fn load(netns: &Path, backend: Backend, size: Size) -> Result<()> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .arg(format!("{}-restore", backend.name()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}-restore", backend.name()))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let written = stdin.write_all(rules(size).as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}-restore: {}", backend.name(), error.trim());
    }
    Ok(written?)
}

/// What `iptables-restore` reads.
pub fn rules(size: Size) -> String {
    let mut nat = String::from(
        "*filter\n:KUBE-FIREWALL - [0:0]\n:KUBE-SERVICES - [0:0]\n\
         :KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES\n\
         -A INPUT -j KUBE-FIREWALL\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A FORWARD -j KUBE-FORWARD\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-FIREWALL\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n",
    );
    let endpoints = |service: usize| service * size.endpoints..(service + 1) * size.endpoints;
    for service in 0..size.services {
        let _ = writeln!(nat, ":KUBE-SVC-{service:016} - [0:0]");
        for endpoint in endpoints(service) {
            let _ = writeln!(nat, ":KUBE-SEP-{endpoint:016} - [0:0]");
        }
    }
    nat.push_str(
        "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n\
         -A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n",
    );
    for service in 0..size.services {
        let (ip, port) = (cluster_ip(service), PORTS.0);
        let _ = writeln!(
            nat,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp -m tcp --dport {port} -j KUBE-SVC-{service:016}"
        );
        // Clients outside the cluster's range of pods are masqueraded; ours are inside.
        let _ = writeln!(
            nat,
            "-A KUBE-SVC-{service:016} ! -s 10.96.0.0/11 -d {ip}/32 -p tcp -m tcp --dport {port} \
             -j KUBE-MARK-MASQ"
        );
        for (position, endpoint) in endpoints(service).enumerate() {
            one_endpoint(&mut nat, service, endpoint, size.endpoints - position);
        }
    }
    nat.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n");
    nat
}

/// `left`: endpoints that have not been passed over, with this one.
fn one_endpoint(nat: &mut String, service: usize, endpoint: usize, left: usize) {
    let chance = match left {
        1 => String::new(),
        left => format!(
            "-m statistic --mode random --probability {:.10} ",
            1.0 / left as f64
        ),
    };
    let (ip, port) = (endpoint_ip(endpoint), PORTS.1);
    let _ = writeln!(
        nat,
        "-A KUBE-SVC-{service:016} {chance}-j KUBE-SEP-{endpoint:016}"
    );
    let _ = writeln!(
        nat,
        "-A KUBE-SEP-{endpoint:016} -s {ip}/32 -j KUBE-MARK-MASQ"
    );
    let _ = writeln!(
        nat,
        "-A KUBE-SEP-{endpoint:016} -p tcp -m tcp -j DNAT --to-destination {ip}:{port}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_its_chain_and_the_last_one_no_chance() {
        let rules = rules(Size {
            services: 3,
            endpoints: 2,
        });
        assert_eq!(rules.matches("--to-destination").count(), 6);
        assert_eq!(rules.matches("--probability 0.5000000000").count(), 3);
        assert_eq!(rules.matches("-A KUBE-SERVICES -d ").count(), 3);
    }
}

//! The command line of `lb-controller`.

mod conntrack;
mod effective;
mod network;

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::model::{ForwardingMode, Settings};

pub use conntrack::ConntrackArgs;
pub use effective::effective;

pub use self::network::NetworkArgs;

/// Balances Kubernetes Services on this node with eBPF, in place of kube-proxy.
///
/// The datapath lives in the kernel and is pinned: it goes on forwarding while this
/// process is stopped, killed or replaced, and a new one takes it over as it is.
#[derive(Debug, Parser)]
#[command(
    name = "lb-controller",
    version,
    after_long_help = "\
EXIT CODES
   1  unexpected failure          7  another controller runs on this node
   2  wrong usage                 8  too few privileges
   3  manifests malformed         9  kernel too old
   4  kubeconfig unusable        10  the kernel refuses programs or maps
   5  no BPF file system         11  a listening address is taken (hard fail)
   6  no cgroup v2

EXAMPLES
  On a node, from the API server:  lb-controller run --kubeconfig /etc/kubernetes/kubeconfig
  Without Kubernetes, from files:  lb-controller run --source-files ./services/
  Remove every trace:              lb-controller cleanup"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How logs are written, to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "LB_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or filters such as
    /// `info,lb_controller::plan=debug`. By default, the API client's own complaints are
    /// left out: the controller says once what is wrong.
    #[arg(
        long,
        global = true,
        default_value = "info,kube_client=off,kube_runtime=error",
        env = "LB_LOG"
    )]
    pub log: String,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch Services and EndpointSlices and keep the datapath in step with them.
    Run(Box<Run>),
    /// Mount the BPF file system and reserve the ports of SNAT, for a `run` with fewer
    /// privileges: an init container's work. What is there already stays as it is.
    Prepare(Prepare),
    /// Detach all programs and remove everything pinned on this node.
    Cleanup(Pinned),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where state is pinned.
#[derive(Debug, Clone, Args)]
pub struct Pinned {
    /// Directory on a BPF file system for maps and attachments.
    #[arg(long, value_name = "DIR", default_value = crate::datapath::DEFAULT_PIN_ROOT, env = "LB_BPFFS")]
    pub bpffs: PathBuf,
}

/// Options of `prepare`.
#[derive(Debug, Clone, Args)]
pub struct Prepare {
    /// Where a BPF file system must be mounted.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpf_mount: PathBuf,
    /// The ports that `run` has as --snat-ports.
    #[arg(long, value_name = "FIRST-LAST", default_value = network::SNAT_PORTS,
        value_parser = network::ports)]
    pub snat_ports: RangeInclusive<u16>,
}

/// Options of `run`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Run {
    /// Where Services and EndpointSlices come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Name of this node, as in Node.metadata.name and EndpointSlices; by default the
    /// host name, trimmed and in lower case.
    #[arg(
        long,
        value_name = "NAME",
        env = "NODE_NAME",
        alias = "hostname-override"
    )]
    pub node_name: Option<String>,
    /// cgroup v2 directory whose sockets are translated; by default the root of the
    /// mounted hierarchy, that is every process of this node.
    #[arg(long, value_name = "DIR", env = "LB_CGROUP")]
    pub cgroup: Option<PathBuf>,
    /// Where state is pinned.
    #[command(flatten)]
    pub pinned: Pinned,
    /// Address of /healthz and /livez for load balancers and the kubelet; empty disables them.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Address of /metrics, /proxyMode and /configz; empty disables them.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// End with exit code 11 if one of these addresses is taken, instead of trying again
    /// every 5 s.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub bind_address_hard_fail: bool,
    /// How long to gather further events after one, so that an update that comes in
    /// several objects (a rebalanced EndpointSlice) is applied as one.
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = duration)]
    pub batch_window: Duration,
    /// /healthz turns bad when a change stays unwritten for twice this time; a write that
    /// failed is repeated every second, or every period if that is shorter. Each period,
    /// attachments and pins that others have removed are put back.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub sync_period: Duration,
    /// Clients that session affinity remembers; the least recently used is forgotten.
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub affinity_entries: u32,
    /// How packets from outside reach backends on other nodes: `snat` (replies come back
    /// through this node), `dsr` (the backend's node answers directly) or `hybrid` (dsr
    /// for TCP, snat for UDP). The annotation lb/forwarding-mode of a Service overrides it.
    #[arg(long, value_name = "MODE", default_value = "snat")]
    pub forwarding_mode: ForwardingMode,
    /// Whether external IPs of Services are served; without, they are treated as absent.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub external_ips: bool,
    /// Refuse connections to ports that a ClusterIP does not have, and drop packets to
    /// addresses of ServiceCIDRs that no Service has, as kube-proxy's nftables mode does;
    /// otherwise they are left to routing. ICMP is left to routing in any case.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub reject_undefined_ports: bool,
    /// Give all connections to ClusterIPs an address of this node as source, as kube-proxy's
    /// masqueradeAll does: for pod networks that do not bring replies back by themselves. Those
    /// of pods are then translated packet by packet instead of once at their sockets.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub masquerade_all: bool,
    /// Do not enter network namespaces to destroy UDP sockets of gone backends; send
    /// them an ICMP port-unreachable instead.
    #[arg(long)]
    pub no_netns_walk: bool,
    /// Connection tracking: sizes, lifetimes, garbage collection.
    #[command(flatten)]
    pub conntrack: ConntrackArgs,
    /// Devices, addresses and packets.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// Where Services and EndpointSlices come from: the API server by default.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
pub struct SourceArgs {
    /// A file or directory of Kubernetes objects (YAML or JSON, as kubectl prints them),
    /// watched for changes.
    #[arg(long, value_name = "PATH", alias = "manifests")]
    pub source_files: Option<PathBuf>,
    /// The kubeconfig of the API server; by default that of the pod this runs in, then
    /// KUBECONFIG.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Formats of logs.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Run {
    /// The address of the health server.
    pub fn healthz(&self) -> Result<Option<SocketAddr>, String> {
        address(&self.healthz_bind_address, 10256)
    }

    /// The address of the metrics server.
    pub fn metrics(&self) -> Result<Option<SocketAddr>, String> {
        address(&self.metrics_bind_address, 10249)
    }

    /// What decides about what is programmed.
    pub fn settings(&self) -> Settings {
        Settings {
            forwarding: self.forwarding_mode,
            external_ips: self.external_ips,
            reject_undefined_ports: self.reject_undefined_ports,
            masquerade_all: self.masquerade_all,
        }
    }

    /// The name of this node (rule L1).
    pub fn node_name(&self) -> String {
        let name = self.node_name.clone().unwrap_or_else(|| {
            nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        });
        name.trim().to_lowercase()
    }
}

/// `IP:PORT`, or `IP` with the default port; empty is none (rule J10).
fn address(text: &str, default_port: u16) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(address) = text.parse() {
        return Ok(Some(address));
    }
    let ip = text.trim_start_matches('[').trim_end_matches(']');
    match ip.parse() {
        Ok(ip) => Ok(Some(SocketAddr::new(ip, default_port))),
        Err(_) => Err(format!(
            "{text:?} is not an address: expected IP:PORT, such as 0.0.0.0:10256"
        )),
    }
}

/// A number with a unit: `5ms`, `30s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number with a unit, such as 5ms")?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a unit: ms, s, m or h".into()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(|| "too long".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn missing_port_gets_the_default_and_empty_disables() {
        assert_eq!(address("", 1), Ok(None));
        assert_eq!(
            address("0.0.0.0", 7),
            Ok(Some("0.0.0.0:7".parse().unwrap()))
        );
        assert_eq!(address("[::]", 7), Ok(Some("[::]:7".parse().unwrap())));
        assert_eq!(address("[::1]:9", 7), Ok(Some("[::1]:9".parse().unwrap())));
        assert!(address("localhost", 7).is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("5").is_err());
        assert!(duration("ms").is_err());
    }
}

//! The command line of `lbctl`.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};

use super::{
    Filter, affinity::AffinityVerb, conntrack::ConntrackVerb, maglev::MaglevVerb, nat::NatVerb,
};

/// Shows what lb has programmed on this node and what becomes of its traffic: Services,
/// frontends, backends, flows, drops.
///
/// It reads the pinned maps and asks no daemon, so it answers the same while the
/// controller is stopped, crashed or being replaced. Only `flush` changes anything.
#[derive(Debug, Parser)]
#[command(
    name = "lbctl",
    version,
    after_long_help = "\
EXAMPLES
  Everything about one Service:        lbctl list --by-service -n shop --name cart
  Whose address is this?               lbctl list --address 10.96.0.10
  Which Services use this pod?         lbctl backends --address 10.244.1.7
  Backends that are not ready:         lbctl backends -o json | jq '.backends[]|select(.ready|not)'
  Is this node healthy?                lbctl status
  Which connections has this client?   lbctl conntrack list --client 192.0.2.7
  Why are packets dropped?             lbctl drops
  Is the load spread evenly?           lbctl maglev show shop/web
  Do two nodes hold the same state?    diff <(ssh a lbctl dump) <(ssh b lbctl dump)
  Another pin directory:               lbctl --bpffs /sys/fs/bpf/node2 status

FILTERS
  Options that are given together must all match; an option given twice matches either
  value. Namespaces and names are compared exactly. Without a match the output is empty
  (an empty list as JSON or YAML), a note goes to standard error and the exit code is 0.

COLOUR
  Only on a terminal, and never when NO_COLOR is set and not empty.

EXIT CODES
   0  done, also when nothing matches    8  too few privileges
   1  unexpected failure                10  the maps belong to another version
   2  wrong usage                       12  nothing is programmed on this node"
)]
pub struct Cli {
    /// What to show.
    #[command(subcommand)]
    pub command: Command,
    /// Directory on a BPF file system where lb-controller pins its state.
    #[arg(long, global = true, value_name = "DIR", env = "LB_BPFFS",
        default_value = crate::datapath::DEFAULT_PIN_ROOT)]
    pub bpffs: PathBuf,
    /// How to write the answer; field names of json and yaml are stable.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
}

/// Formats of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns for people (the default, but for dump).
    Table,
    /// The same with more columns: ids, slots, table lengths, all counters.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List frontends: the addresses that clients dial.
    ///
    /// One row a frontend, with how many backends of its service port are ready, of how
    /// many. A frontend without a backend to choose says what clients get: `refused`
    /// (no endpoint anywhere) or `dropped` (endpoints exist, but the policy Local
    /// excludes them here).
    ///
    /// With --address, a row is kept if the frontend has this address, or if a backend
    /// of its service port has it.
    #[command(after_long_help = "\
EXAMPLES
  lbctl list
  lbctl list -n kube-system -o wide
  lbctl list --by-service --name web
  lbctl list --address fd00:10:96::a")]
    List {
        /// Group by Service: its ports, their frontends, their backends with state, zone,
        /// share of the Maglev table and connections.
        ///
        /// Lines marked with `!` want a look: a frontend without a backend to choose, a port
        /// without a ready one, a backend that is not ready although it is not terminating.
        /// `local` marks backends of this node. TABLE is how many entries
        /// of the Maglev table lead to a backend, `-` that it takes no new connections; LOCAL, where a port has two
        /// tables, its share of the one for the policy Local.
        /// ACTIVE is opened minus closed. With --address, the ports (of one family) are
        /// kept of which a frontend or a backend has the address, as a whole.
        #[arg(long)]
        by_service: bool,
        /// What to keep.
        #[command(flatten)]
        filter: Filter,
    },
    /// List backends: where connections go, one row a backend of a service port.
    ///
    /// A pod that serves two Services, or two ports, has a row and counters for each.
    /// With --address, a row is kept if the backend has this address, or if a frontend
    /// of its service port has it.
    #[command(after_long_help = "\
EXAMPLES
  lbctl backends -n shop
  lbctl backends --address 10.244.1.7 -o wide")]
    Backends {
        /// What to keep.
        #[command(flatten)]
        filter: Filter,
    },
    /// Show the health of the datapath on this node.
    ///
    /// Versions, the controller and its last sync, the programs and the cgroup where
    /// they are attached, what this kernel cannot do, how full the maps are, and the
    /// sums of all counters.
    Status,
    /// Show or forget tracked connections.
    #[command(
        subcommand,
        after_long_help = "\
EXAMPLES
  lbctl conntrack list --service shop/web --state established
  lbctl conntrack list --client 192.0.2.7 -o wide
  lbctl conntrack flush --backend 10.244.1.7:8080"
    )]
    Conntrack(ConntrackVerb),
    /// Show connections whose source address or port is translated.
    #[command(
        subcommand,
        after_long_help = "\
EXAMPLES
  lbctl nat list --backend 10.244.1.7"
    )]
    Nat(NatVerb),
    /// Show or forget clients that session affinity remembers.
    #[command(
        subcommand,
        after_long_help = "\
EXAMPLES
  lbctl affinity list --service shop/web
  lbctl affinity flush --client 192.0.2.7"
    )]
    Affinity(AffinityVerb),
    /// Show how evenly new connections are spread.
    #[command(
        subcommand,
        after_long_help = "\
EXAMPLES
  lbctl maglev show shop/web
  lbctl maglev show shop/web:http -o json"
    )]
    Maglev(MaglevVerb),
    /// Show dropped and refused packets by reason and device.
    ///
    /// Counted since the maps were made, most frequent first. A device that is gone is
    /// shown by its number.
    Drops {
        /// Show also what is counted beside delivery, and what is left to the kernel.
        #[arg(long)]
        all: bool,
    },
    /// Dump everything that is programmed, to compare it.
    ///
    /// With --address, service ports are kept of which a frontend or a backend has the
    /// address. With any filter, orphans (what belongs to no service) are left out.
    #[command(
        group = ArgGroup::new("form").required(false).multiple(false),
        after_long_help = "\
EXAMPLES
  lbctl dump --canonical > before.yaml
  lbctl dump --canonical -n shop -o json
  lbctl dump --raw | sha256sum"
    )]
    Dump {
        /// Normalised: slots, offsets, ids and generations are left out, everything is
        /// sorted, tables are digests of the addresses in them. Equal states give equal
        /// output on every node and in every run. This is the default.
        #[arg(long, group = "form")]
        canonical: bool,
        /// As it lies in the maps: slots, offsets, ids, generations; without counters
        /// and status. Two controllers that started empty on the same objects agree.
        #[arg(long, group = "form")]
        raw: bool,
        /// What to keep.
        #[command(flatten)]
        filter: Filter,
    },
    /// Print a completion script for a shell.
    #[command(after_long_help = "\
EXAMPLES
  lbctl completion bash > /etc/bash_completion.d/lbctl
  source <(lbctl completion zsh)")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
    fn canonical_and_raw_exclude_each_other() {
        assert!(Cli::try_parse_from(["lbctl", "dump", "--canonical", "--raw"]).is_err());
        assert!(Cli::try_parse_from(["lbctl", "dump"]).is_ok());
    }
}

//! Options of connection tracking.

use std::time::Duration;

use clap::Args;

use super::duration;

/// Most connections that fit in a map.
const MOST: i64 = 1 << 28;

/// Sizes of the tables, lifetimes of flows, and how often garbage is collected. Names and
/// defaults are kube-proxy's where it has the option.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection tracking")]
pub struct ConntrackArgs {
    /// Proven connections that are tracked at most (each takes two entries of the map);
    /// by default --conntrack-max-per-core for each CPU, at least --conntrack-min, at most
    /// 1048576, and no more than fit in 2 % of memory.
    #[arg(long = "conntrack-entries", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=MOST))]
    pub entries: Option<u32>,
    /// Proven connections for each CPU, where --conntrack-entries is not given.
    #[arg(long = "conntrack-max-per-core", value_name = "N", default_value_t = 32_768,
        value_parser = clap::value_parser!(u32).range(0..=MOST))]
    pub max_per_core: u32,
    /// The least for all CPUs together, where --conntrack-entries is not given.
    #[arg(long = "conntrack-min", value_name = "N", default_value_t = 131_072,
        value_parser = clap::value_parser!(u32).range(0..=MOST))]
    pub min: u32,
    /// Connections that are not proven yet, and one-way ones (DSR): the least recently
    /// used is forgotten; by default a quarter of the proven ones, and no more than fit in
    /// half a percent of memory.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    pub half_open_entries: Option<u32>,
    /// Fragmented datagrams whose ports are remembered.
    #[arg(long, value_name = "N", default_value_t = 8192,
        value_parser = clap::value_parser!(u32).range(1..=MOST))]
    pub fragment_entries: u32,
    /// How long an idle TCP connection is remembered.
    #[arg(long = "conntrack-tcp-timeout-established", value_name = "DURATION",
        default_value = "24h", value_parser = duration)]
    pub tcp_timeout_established: Duration,
    /// The same once one end has closed it.
    #[arg(long = "conntrack-tcp-timeout-close-wait", value_name = "DURATION",
        default_value = "1h", value_parser = duration)]
    pub tcp_timeout_close_wait: Duration,
    /// The same before its handshake is complete.
    #[arg(long = "conntrack-tcp-timeout-half-open", value_name = "DURATION",
        default_value = "60s", value_parser = duration)]
    pub tcp_timeout_half_open: Duration,
    /// How long a UDP flow without an answer is remembered.
    #[arg(long = "conntrack-udp-timeout", value_name = "DURATION",
        default_value = "30s", value_parser = duration)]
    pub udp_timeout: Duration,
    /// The same once there was an answer.
    #[arg(long = "conntrack-udp-timeout-stream", value_name = "DURATION",
        default_value = "180s", value_parser = duration)]
    pub udp_timeout_stream: Duration,
    /// Time between two collections of flows that are over; by default 5 s to 60 s, by how
    /// full the table is and how fast it fills.
    #[arg(long = "conntrack-gc-interval", value_name = "DURATION", value_parser = duration)]
    pub gc_interval: Option<Duration>,
}

impl Default for ConntrackArgs {
    fn default() -> Self {
        Self {
            entries: None,
            max_per_core: 32_768,
            min: 131_072,
            half_open_entries: None,
            fragment_entries: 8192,
            tcp_timeout_established: Duration::from_secs(24 * 3600),
            tcp_timeout_close_wait: Duration::from_secs(3600),
            tcp_timeout_half_open: Duration::from_secs(60),
            udp_timeout: Duration::from_secs(30),
            udp_timeout_stream: Duration::from_secs(180),
            gc_interval: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        conntrack: ConntrackArgs,
    }

    #[test]
    fn a_command_line_without_options_gives_the_defaults() {
        let line = Line::try_parse_from(["test"]).unwrap();
        let defaults = ConntrackArgs::default();
        assert_eq!(format!("{:?}", line.conntrack), format!("{defaults:?}"));
    }

    #[test]
    fn a_table_for_no_connection_is_refused() {
        assert!(Line::try_parse_from(["test", "--conntrack-entries", "0"]).is_err());
        assert!(Line::try_parse_from(["test", "--half-open-entries", "0"]).is_err());
    }
}

//! The command line of `lb-conformance`.

mod kind;

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, thread};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use regex::Regex;

pub use self::kind::KindArgs;
use super::{
    Site,
    netns::{Delivery, NetnsOptions, NetnsSite},
    selection::Selection,
};
use crate::{cluster::Families, proxy::Kind};

/// Runs a service proxy through what upstream's end-to-end tests ask of one, and through what
/// they never ask. Needs root for clusters of network namespaces; nothing outside them is touched.
///
/// The last line on standard output is `N passed, N failed, N skipped` (with `-o json`, on
/// standard error). integration/CONFORMANCE.md explains reports, sites and limits.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "lb-conformance",
    version,
    after_help = "\
Exit codes:
  0  every case passed or was skipped
  1  a case failed
  2  wrong usage
  3  the suite could not be run
  4  the machine lacks something that the site needs; the message says what"
)]
pub struct Options {
    /// Where the cases run
    #[arg(long, value_enum, default_value_t)]
    pub site: SiteKind,
    /// The address families of the cluster
    #[arg(long, value_enum, default_value_t)]
    pub families: Families,
    /// How objects reach the proxies: a directory of manifests, or a stand-in API server
    #[arg(long, value_enum, default_value_t)]
    pub source: Delivery,
    /// The API server of this kubeconfig takes the objects, and its controllers make the
    /// EndpointSlices
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    pub kubeconfig: Option<PathBuf>,
    /// What the proxies use instead of --kubeconfig, with credentials of their own
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    pub proxy_kubeconfig: Option<PathBuf>,
    /// Take what upstream's own tests did, a JUnit file of Ginkgo's, into the report; with
    /// --upstream, nothing is run
    #[arg(long, value_name = "FILE")]
    pub upstream_junit: Option<PathBuf>,
    /// Only cases whose name, row or title matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub focus: Vec<Regex>,
    /// No cases whose name, row or title matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub skip: Vec<Regex>,
    /// Print the cases that would run, and what would be skipped, and end
    #[arg(long)]
    pub list: bool,
    /// The proxy of a node, as a shell command in which {kubeconfig}, {files}, {node}, {cgroup},
    /// {bpffs} and {config} (a KubeProxyConfiguration) are replaced; by default lb-controller
    #[arg(long, value_name = "CMD")]
    pub proxy_command: Option<String>,
    /// Rules that the proxy does not claim to follow; cases that prove one of them are skipped
    #[arg(long, value_name = "RULE,…", value_delimiter = ',', value_parser = rule)]
    pub proxy_lacks: Vec<String>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report_json: Option<PathBuf>,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub report_junit: Option<PathBuf>,
    /// What is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// How many cases run at once; by default as many as there are processors
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Also print the names of cases and the rules they prove
    #[arg(long)]
    pub verbose: bool,
    /// The site `kind`.
    #[command(flatten)]
    pub kind: KindArgs,
}

/// Kinds of sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SiteKind {
    /// Nodes and pods are network namespaces of this machine.
    #[default]
    Netns,
    /// Nodes and pods are containers, made by kind.
    Kind,
}

/// Forms of the printed report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table by section.
    #[default]
    Text,
    /// What `--report-json` writes.
    Json,
}

fn rule(text: &str) -> Result<String, String> {
    let mut letters = text.chars();
    let letter = letters
        .next()
        .is_some_and(|first| first.is_ascii_uppercase());
    let number = letters.as_str();
    if letter && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("a rule is a capital letter and a number, such as E3; see integration/RULES.md".to_owned())
}

// === impl Options ===

impl Options {
    /// Which cases are asked for.
    pub fn selection(&self) -> Selection {
        Selection {
            focus: self.focus.clone(),
            skip: self.skip.clone(),
            lacks: self.proxy_lacks.iter().cloned().collect(),
        }
    }

    /// How many cases run at once.
    pub fn jobs(&self) -> NonZeroUsize {
        let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.jobs.unwrap_or_else(processors)
    }

    /// How objects reach the proxies, for reports.
    pub fn source(&self) -> String {
        if self.kind.upstream || self.site == SiteKind::Kind {
            return word(&Delivery::Api);
        }
        match &self.kubeconfig {
            Some(_) => "kubeconfig".to_owned(),
            None => word(&self.source),
        }
    }

    /// The proxy, for reports.
    pub fn proxy(&self) -> &str {
        self.proxy_command.as_deref().unwrap_or("lb-controller")
    }

    /// Where the run takes place, for reports: upstream's own tests have one place.
    pub fn place(&self) -> String {
        let kind = if self.kind.upstream {
            SiteKind::Kind
        } else {
            self.site
        };
        word(&kind)
    }

    /// Builds the site and starts the proxies.
    pub fn build_site(&self) -> Result<Arc<dyn Site>> {
        match self.site {
            SiteKind::Netns => Ok(Arc::new(NetnsSite::build(&self.netns())?)),
            SiteKind::Kind => {
                ensure!(
                    self.proxy_command.is_none(),
                    "the proxies of a kind cluster are those that run in it"
                );
                Ok(Arc::new(self.kind.site(self.families)?))
            }
        }
    }

    fn netns(&self) -> NetnsOptions {
        NetnsOptions {
            families: self.families,
            delivery: self.source,
            kubeconfig: self.kubeconfig.clone(),
            proxy_kubeconfig: self.proxy_kubeconfig.clone(),
            proxy: self.proxy_command.clone().map_or(Kind::Ours, Kind::Custom),
        }
    }
}

/// The name of a value as the command line has it.
pub fn word<T: ValueEnum>(value: &T) -> String {
    let known = value.to_possible_value();
    known.map_or_else(String::new, |known| known.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(
            ["lb-conformance"]
                .into_iter()
                .chain(line.split_whitespace()),
        )
    }

    #[test]
    fn a_bare_run_is_ours_on_namespaces_with_files() {
        let options = parse("").unwrap();
        assert_eq!(options.site, SiteKind::Netns);
        assert_eq!(word(&options.families), "dual");
        assert_eq!(word(&options.source), "files");
        assert_eq!(options.proxy(), "lb-controller");
        assert_eq!(options.netns().proxy, Kind::Ours);
    }

    #[test]
    fn filters_repeat_and_rules_are_separated_by_commas() {
        let options = parse("--focus ^s8_ --focus LB1 --skip udp --proxy-lacks E3,J1").unwrap();
        assert_eq!(options.focus.len(), 2);
        let selection = options.selection();
        assert_eq!(selection.lacks, ["E3".to_owned(), "J1".to_owned()].into());
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "--focus [",
            "--families v5",
            "--proxy-lacks e3",
            "--proxy-lacks E",
            "--jobs 0",
            "--site cloud",
            "--source files --kubeconfig admin.conf",
            "--proxy-kubeconfig proxy.conf",
            "s8",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn other_proxies_are_given_by_their_command() {
        let options = Options::parse_from([
            "lb-conformance",
            "--proxy-command",
            "kube-proxy --config={config}",
        ]);
        assert_eq!(options.proxy(), "kube-proxy --config={config}");
        let kind = Kind::Custom("kube-proxy --config={config}".to_owned());
        assert_eq!(options.netns().proxy, kind);
    }

    #[test]
    fn proxies_of_a_kind_cluster_are_not_given_by_a_command() {
        let options = parse("--site kind --proxy-command x").unwrap();
        let error = options.build_site().err().unwrap();
        assert!(error.to_string().contains("that run in it"));
    }
}

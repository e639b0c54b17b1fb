//! Kubernetes' own tests against the cluster: the command that runs its conformance image.

use std::path::Path;

use super::{commands::NETWORK, runner::Invocation};
use crate::conformance::{rows::ROWS, upstream::focus};

/// The image, of the release that the rows are from.
pub const IMAGE: &str = "registry.k8s.io/conformance:v1.36.2";
/// What a kind cluster has not: SCTP is no part of lb, iperf is no check, and nobody hands out
/// load balancers.
pub const SKIP: &str = r"\[Feature:(SCTPConnectivity|Networking-Performance|LoadBalancer)\]";
/// The file that Ginkgo writes.
pub const JUNIT: &str = "junit_01.xml";

/// How the image is run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The image.
    pub image: &'a str,
    /// Which tests; by default all rows.
    pub focus: Option<&'a str>,
    /// Which of them not.
    pub skip: &'a str,
    /// Where results go; the file `kubeconfig` in it leads to the cluster from within docker.
    pub results: &'a Path,
}

// === impl Run ===

impl Run<'_> {
    /// The command. It takes hours for all rows; tests run one after another.
    pub fn invocation(&self) -> Invocation {
        let focus = self.focus.map_or_else(|| focus(&ROWS), str::to_owned);
        let mut words: Vec<String> = ["run", "--rm", "--network", NETWORK]
            .map(str::to_owned)
            .to_vec();
        words.push("--volume".to_owned());
        words.push(format!("{}:/tmp/results", self.results.display()));
        let variables = [
            ("KUBECONFIG", "/tmp/results/kubeconfig"),
            ("RESULTS_DIR", "/tmp/results"),
            ("E2E_PROVIDER", "skeleton"),
            ("E2E_FOCUS", &focus),
            ("E2E_SKIP", self.skip),
        ];
        for (name, value) in variables {
            words.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        words.push(self.image.to_owned());
        Invocation::new("docker", words)
    }
}

//! Options of the site `kind`.

use std::{env, path::PathBuf, process, sync::Arc};

use anyhow::Result;
use clap::Args;

use crate::{
    cluster::Families,
    kind::{KindCluster, KindSite, Runner, System, commands, tools, upstream},
};

/// What means something in a kind cluster.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "In a kind cluster")]
pub struct KindArgs {
    /// The kind cluster, which `lb-kind up` has made
    #[arg(long, value_name = "NAME", default_value = "lb")]
    pub cluster: String,
    /// The archive with the agent's image, for the client outside
    #[arg(long, value_name = "FILE", default_value = "target/image.tar")]
    pub archive: PathBuf,
    /// Instead of our cases, run Kubernetes' own tests of our rows (its conformance image)
    #[arg(long)]
    pub upstream: bool,
    /// Which of them, as an expression for Ginkgo [default: all rows]
    #[arg(
        long = "upstream-focus",
        id = "upstream_focus",
        value_name = "REGEX",
        requires = "upstream"
    )]
    pub focus: Option<String>,
    /// Which of them not
    #[arg(long = "upstream-skip", id = "upstream_skip", value_name = "REGEX", default_value = upstream::SKIP)]
    pub skip: String,
    /// Their image
    #[arg(long = "upstream-image", id = "upstream_image", value_name = "IMAGE", default_value = upstream::IMAGE)]
    pub image: String,
    /// Directory for their results
    #[arg(
        long = "upstream-results",
        id = "upstream_results",
        value_name = "DIR",
        default_value = "target/upstream"
    )]
    pub results: PathBuf,
    /// With --upstream: print the commands instead of running them
    #[arg(long, requires = "upstream")]
    pub dry_run: bool,
}

// === impl KindArgs ===

impl KindArgs {
    /// The site out of the cluster, if the machine has what that takes.
    pub fn site(&self, families: Families) -> Result<KindSite> {
        tools::check()?;
        let logs = env::temp_dir().join(format!("lb-kind-{}", process::id()));
        let runner: Arc<dyn Runner> = Arc::new(System { logs });
        // The client outside is docker's; nodes have the images already.
        runner.output(&commands::docker_load(&self.archive))?;
        let cluster = KindCluster::existing(runner, &self.cluster);
        let image = concat!("lb-conformance-agent:", env!("CARGO_PKG_VERSION"));
        KindSite::new(cluster, families, image)
    }
}

//! The conformance suite on one shared cluster of network namespaces, as a test program.
//!
//! Takes the options and prints the summary of Rust's own test programs; `lb-conformance` is the
//! same suite with reports.
//!
//! `LB_SOURCE=api` feeds the proxies from the stand-in API server instead of a directory of
//! manifests. `LB_PROXY_COMMAND` runs the suite against another proxy (see
//! `lb_integration::proxy`). `LB_FAMILIES=v4` or `v6` leaves a family out.

use std::{
    env,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use lb_integration::{
    cluster::Families,
    conformance::{
        self, Case, Outcome, Site,
        netns::{Delivery, NetnsOptions, NetnsSite},
    },
    proxy::Kind,
};
use libtest_mimic::{Arguments, Failed, Trial};

/// What the environment says, if it says anything.
fn chosen<T: ValueEnum + Default>(variable: &str) -> Result<T> {
    match env::var(variable) {
        Ok(text) => T::from_str(&text, true).map_err(|error| anyhow!("{variable}: {error}")),
        Err(_) => Ok(T::default()),
    }
}

/// The cluster, built for the first case that asks. It lives in a static, so nothing drops it;
/// the harness removes it when the process ends.
fn site(options: &NetnsOptions) -> Result<Arc<dyn Site>, String> {
    static SITE: OnceLock<Result<Arc<dyn Site>, String>> = OnceLock::new();
    let build = || {
        let site = NetnsSite::build(options).map_err(|error| format!("no site: {error:#}"))?;
        Ok(Arc::new(site) as Arc<dyn Site>)
    };
    SITE.get_or_init(build).clone()
}

fn trial(case: &'static Case, options: &NetnsOptions) -> Trial {
    let unmet = case.unmet(|need| options.would_offer(need), "netns");
    let options = options.clone();
    let run = move || match conformance::run(case, &site(&options)?).0 {
        Outcome::Passed | Outcome::Skipped(_) => Ok(()),
        Outcome::Failed {
            message,
            explanation,
        } => Err(Failed::from(format!("{message}\n{explanation}"))),
    };
    Trial::test(case.name, run).with_ignored_flag(unmet.is_some())
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let options = NetnsOptions {
        families: chosen::<Families>("LB_FAMILIES").context("which families")?,
        delivery: chosen::<Delivery>("LB_SOURCE").context("which source")?,
        kubeconfig: None,
        proxy_kubeconfig: None,
        proxy: Kind::from_environment(),
    };
    let mut cases: Vec<_> = conformance::all().collect();
    cases.sort_by_key(|case| case.is_alone());
    let trials = cases.into_iter().map(|case| trial(case, &options));
    libtest_mimic::run(&arguments, trials.collect()).exit()
}

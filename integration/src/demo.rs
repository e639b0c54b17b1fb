//! `cargo xtask demo`: the first thing a newcomer sees.
//!
//! Input: the manifests of `manifests/demo`. Output: nine steps on standard output, from two
//! empty nodes to Services that pods and a client outside reach, and whose traffic survives a dead
//! backend and a killed controller. Every step checks what it shows; [`run`] says whether all of them held.
//!
//! [`interrupt`] makes sure that Ctrl-C leaves nothing behind, [`keep`] prints how to play with a
//! cluster that was left up.

pub mod interrupt;
pub mod keep;
mod machine;
mod manifests;
mod scene;
mod screen;
mod steps;
mod traffic;

use std::{fmt, path::PathBuf, time::Instant};

use anyhow::Result;
pub use machine::{MachineError, check};
use screen::{Screen, time};

/// How the demo is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the objects to load.
    pub manifests: PathBuf,
    /// How nodes take packets from their uplinks.
    pub xdp: Xdp,
    /// Leave the cluster up at the end.
    pub keep: bool,
}

/// Where XDP programs run. The nodes' uplinks are virtual, where no driver's support can be told
/// from the outside, so that XDP runs there only on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Xdp {
    /// In the kernel's generic hook, which every device has.
    Generic,
    /// In the driver.
    Native,
}

impl fmt::Display for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::Native => "native",
        })
    }
}

/// Runs the demo. `Ok(true)` if everything was as expected; everything is removed in any case,
/// unless it is to be kept.
pub fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    let mut screen = Screen::new();
    let mut scene = steps::topology(&mut screen, options)?;
    for step in [
        steps::objects,
        steps::controllers,
        steps::traffic,
        steps::outside,
        steps::failover,
        steps::restart,
        steps::tools,
    ] {
        if let Err(error) = step(&mut screen, &mut scene) {
            screen.broken(&error);
            break;
        }
    }
    let prefix = scene.cluster.prefix().clone();
    if options.keep {
        steps::keep(&mut screen, scene)?;
    } else {
        steps::clean_up(&mut screen, scene, &prefix);
    }
    screen.summary(&time(started.elapsed()));
    Ok(screen.failed() == 0)
}

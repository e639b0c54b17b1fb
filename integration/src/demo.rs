//! `cargo xtask demo`: the first thing a newcomer sees.
//!
//! Input: the manifests of `manifests/demo`. Output: eight steps on standard output, from two
//! empty nodes to Services whose traffic survives a dead backend and a killed controller. Every
//! step checks what it shows; [`run`] says whether all of them held.
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

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
pub use machine::{MachineError, check};
use screen::{Screen, time};

/// How the demo is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the objects to load.
    pub manifests: PathBuf,
    /// Leave the cluster up at the end.
    pub keep: bool,
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

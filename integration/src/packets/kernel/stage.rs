//! Where the kernel's half of the rows happens: a namespace that is removed afterwards.

use anyhow::{Context as _, Result};

use super::{Kernel, node};
use crate::{netns::Netns, prefix::Prefix, teardown};

/// A namespace built like the [`topology`](super::super::topology); dropping it removes it.
#[derive(Debug)]
pub struct Stage {
    prefix: Prefix,
}

impl Stage {
    /// A namespace without anything in it.
    pub fn new() -> Result<Self> {
        teardown::sweep()?;
        let prefix = Prefix::new()?;
        teardown::register(&prefix);
        Ok(Self { prefix })
    }

    /// Builds the node, loads the object there and does `work` with it.
    pub fn run<T: Send>(
        &self,
        object: &[u8],
        work: impl FnOnce(&mut Kernel) -> Result<T> + Send,
    ) -> Result<T> {
        let names = [format!("{}-rows", self.prefix)];
        let netns = Netns::create_all(&names)?.pop();
        let netns = netns.context("no namespace was created")?;
        node::build(&netns)?;
        netns.run(|| work(&mut Kernel::load(object)?))?
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = teardown::remove(&self.prefix) {
            eprintln!("teardown of {}: {error:#}", self.prefix);
        }
    }
}

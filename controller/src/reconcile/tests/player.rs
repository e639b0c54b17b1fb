//! Who goes through a scenario: a controller over maps of some kind.

use super::cluster::Cluster;
use crate::{
    convert::Converter,
    model::{Event, Settings},
};

/// What is seen after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What is wanted.
    pub(super) desired: String,
    /// What is programmed.
    pub(super) maps: String,
}

/// See the module's documentation.
pub(super) trait Player {
    fn settings(&mut self) -> &mut Settings;
    fn converter(&mut self) -> &mut Converter;
    /// An event of a source.
    fn observe(&mut self, event: Event);
    /// The process ends and another begins: it finds the maps, and nothing else.
    fn restart(&mut self, cluster: &Cluster);
    /// Reconciles until nothing fails; a restart on the way finds `cluster`.
    fn reconcile(&mut self, cluster: &Cluster);
    /// Time passes: indices may be used again, and no flow needs a removed frontend.
    fn idle(&mut self);
    fn seen(&self) -> Seen;

    /// Everything is listed again.
    fn relist(&mut self, cluster: &Cluster) {
        for event in cluster.list(self.converter()) {
            self.observe(event);
        }
    }
}

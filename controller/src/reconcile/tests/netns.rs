//! Scenarios in the kernel: the reconciler itself, real maps, real programs.
//!
//! Needs root; `cargo xtask test --no-netns` leaves out what has this in its path.

use super::{
    super::Reconciler,
    cluster::{Cluster, NODE},
    controller::desired_by,
    dump,
    player::{Player, Seen},
    sandbox::Sandbox,
    scenario::Scenario,
    scenarios,
};
use crate::{
    convert::Converter,
    lbctl::snapshot,
    model::{Event, Settings},
};

/// A reconciler with a cgroup and a pin directory of its own.
struct Node {
    // Dropped first: what it holds lives in the sandbox.
    reconciler: Option<Reconciler>,
    converter: Converter,
    sandbox: Sandbox,
}

impl Node {
    fn new() -> Self {
        let mut node = Self {
            reconciler: None,
            converter: Converter::new(NODE),
            sandbox: Sandbox::new("scenarios"),
        };
        node.start(Settings::default());
        node
    }

    fn start(&mut self, settings: Settings) {
        self.reconciler = None;
        self.converter = Converter::new(NODE);
        let started = Reconciler::start(self.sandbox.place(), settings);
        self.reconciler = Some(started.expect("a datapath"));
    }

    fn reconciler(&mut self) -> &mut Reconciler {
        self.reconciler.as_mut().expect("started")
    }
}

impl Player for Node {
    fn settings(&mut self) -> &mut Settings {
        &mut self.reconciler().settings
    }

    fn converter(&mut self) -> &mut Converter {
        &mut self.converter
    }

    fn observe(&mut self, event: Event) {
        self.reconciler().observe(event);
    }

    fn restart(&mut self, cluster: &Cluster) {
        let settings = *self.settings();
        self.start(settings);
        self.relist(cluster);
    }

    fn reconcile(&mut self, _: &Cluster) {
        self.reconciler().reconcile().expect("nothing fails here");
    }

    fn idle(&mut self) {
        let reconciler = self.reconciler();
        reconciler.idle();
        let retired = reconciler.retired();
        reconciler
            .retire_done(&retired)
            .expect("nothing fails here");
    }

    fn seen(&self) -> Seen {
        let reconciler = self.reconciler.as_ref().expect("started");
        let kernel = snapshot::read(&self.sandbox.pins).expect("programmed maps");
        Seen {
            desired: dump::desired(&desired_by(&reconciler.store, reconciler.settings)),
            maps: dump::maps(&kernel),
        }
    }
}

/// One node goes through them all: each begins by removing what the one before has left.
#[test]
fn the_kernel_holds_what_scenarios_say() {
    let mut node = Node::new();
    for name in scenarios::NAMES {
        let scenario = Scenario::load(name);
        *node.settings() = Settings::default();
        let mut seen = Vec::new();
        scenario.play(&mut node, &mut |node, _| seen.push(node.seen()));
        scenario.assert_says(&seen);
    }
}

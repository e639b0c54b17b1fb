//! What holds for any history of objects, with relists, restarts and failures in it.

mod objects;

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use self::objects::{node, service, slice};
use super::{
    cluster::{Cluster, Of},
    controller::{Controller, Then},
    dump,
    player::Player,
    reach::{assert_desired, assert_reached},
    target::{Faults, TINY},
};

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Put(Of, Value),
    Delete(Of, &'static str),
    /// The controller hears nothing until the next list.
    Outage,
    Relist,
    Restart,
    Reconcile,
    /// Indices and bits that nothing needs are given back.
    Idle,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => service().prop_map(|object| Event::Put(Of::Service, object)),
        6 => slice().prop_map(|object| Event::Put(Of::EndpointSlice, object)),
        1 => node().prop_map(|object| Event::Put(Of::Node, object)),
        1 => prop::sample::select(objects::SERVICES.to_vec())
            .prop_map(|name| Event::Delete(Of::Service, name)),
        2 => prop::sample::select(objects::SLICES.to_vec())
            .prop_map(|name| Event::Delete(Of::EndpointSlice, name)),
        1 => Just(Event::Outage),
        1 => Just(Event::Relist),
        1 => Just(Event::Restart),
        5 => Just(Event::Reconcile),
        2 => Just(Event::Idle),
    ]
}

fn faults() -> impl Strategy<Value = (Faults, Then)> {
    let faults = prop_oneof![
        Just(Faults::Never),
        (0..400u32).prop_map(Faults::After),
        (any::<u32>(), 1..300u32).prop_map(|(seed, odds)| Faults::Random(seed, odds, 20)),
    ];
    (faults, prop_oneof![Just(Then::Retry), Just(Then::Restart)])
}

/// A controller that hears of what happens to a cluster.
struct History {
    cluster: Cluster,
    controller: Controller,
    online: bool,
}

impl History {
    fn new((faults, then): (Faults, Then)) -> Self {
        let cluster = Cluster::default();
        let mut controller = Controller::new(TINY, faults, then);
        controller.relist(&cluster);
        Self {
            cluster,
            controller,
            online: true,
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Put(kind, object) => {
                self.cluster.put(kind, object.clone());
                self.hear(kind, &object, false);
            }
            Event::Delete(kind, name) => {
                let object = json!({"metadata": {"namespace": "default", "name": name}});
                if self
                    .cluster
                    .delete(kind, &format!("default/{name}"))
                    .is_some()
                {
                    self.hear(kind, &object, true);
                }
            }
            Event::Outage => self.online = false,
            Event::Relist => self.relist(),
            Event::Restart => {
                self.controller.restart(&self.cluster);
                self.online = true;
            }
            Event::Reconcile => {
                // One that restarts after a failure has missed nothing.
                if !self.online {
                    self.relist();
                }
                self.controller.reconcile(&self.cluster);
                self.check();
            }
            Event::Idle => self.controller.idle(),
        }
    }

    fn hear(&mut self, kind: Of, object: &Value, deleted: bool) {
        let event = kind.event(self.controller.converter(), object, deleted);
        if let Some(event) = event.filter(|_| self.online) {
            self.controller.observe(event);
        }
    }

    fn relist(&mut self) {
        self.controller.relist(&self.cluster);
        self.online = true;
    }

    /// The rules hold.
    fn check(&self) {
        let expected = self.cluster.expected(true);
        assert_desired(&self.controller.desired(), &expected);
        assert_reached(self.controller.memory(), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// The way to a state leaves no trace: events one by one, missed events, lists, restarts,
    /// refused writes and maps that grow end in what programming the last state from nothing
    /// gives. On the way every state is valid, and each complete one is what the rules say.
    #[test]
    fn any_history_ends_as_if_its_end_had_been_programmed_at_once(
        events in vec(event(), 1..40),
        faults in faults(),
    ) {
        let mut history = History::new(faults);
        for event in events {
            history.happens(event);
        }
        history.happens(Event::Reconcile);
        history.controller.idle();
        let scratch = Controller::from_scratch(&history.cluster, history.controller.settings);
        let (ours, fresh) = (history.controller.memory(), scratch.memory());
        prop_assert_eq!(dump::of(ours), dump::of(fresh));
        if !history.controller.restarted() {
            // A restart forgets which bits nobody needs any more.
            prop_assert_eq!(&ours.filter, &fresh.filter);
            prop_assert_eq!(&ours.node_ports, &fresh.node_ports);
        }
        prop_assert!(!history.controller.has_work());

        // Hearing all of it again changes nothing.
        let written = history.controller.maps().written;
        history.relist();
        history.controller.reconcile(&history.cluster);
        prop_assert_eq!(history.controller.maps().written, written);
    }

    /// A cluster that is listed once: what is wanted, and what the datapath reaches in the
    /// maps, is what a naive reading of the rules says.
    #[test]
    fn every_frontend_has_the_backends_and_the_verdict_of_the_rules(
        services in vec(service(), 1..4),
        slices in vec(slice(), 0..9),
        node in node(),
        external_ips in prop::bool::weighted(0.8),
    ) {
        let mut cluster = Cluster::default();
        cluster.put(Of::Node, node);
        for (kind, objects) in [(Of::Service, services), (Of::EndpointSlice, slices)] {
            for object in objects {
                cluster.put(kind, object);
            }
        }
        let settings = crate::model::Settings {
            external_ips,
            ..crate::model::Settings::default()
        };
        let controller = Controller::from_scratch(&cluster, settings);
        let expected = cluster.expected(external_ips);
        assert_desired(&controller.desired(), &expected);
        assert_reached(controller.memory(), &expected);
    }
}

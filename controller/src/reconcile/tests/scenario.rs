//! Scenarios: what happens to Kubernetes objects, and what must be programmed then.
//!
//! A scenario is a text of sections, each after a line `-- NAME --`:
//!
//! ```text
//! # What it shows.
//! -- apply --      objects, as YAML
//! -- delete --     lines KIND NAMESPACE/NAME (of a Node: its name)
//! -- offline --    nothing is heard from here on: an outage, or events that were missed
//! -- relist --     everything is listed again
//! -- restart --    the controller ends and another begins
//! -- settings --   external-ips=false, forwarding=dsr
//! -- desired --    what is wanted then: ends a step
//! -- maps --       what is programmed then
//! ```
//!
//! All events of a step come before anything is programmed. `LB_BLESS=1` writes the last two
//! sections; read the difference before you commit it.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::model::Settings;

use super::{
    cluster::{Cluster, Of},
    controller::{Controller, Then},
    dump,
    player::{Player, Seen},
    reach::{assert_desired, assert_reached},
    target::{Faults, TINY},
};

/// A section: its name and its text.
type Section = (String, String);

/// See the module's documentation.
pub(super) struct Scenario {
    path: PathBuf,
    preamble: String,
    sections: Vec<Section>,
}

impl Scenario {
    pub(super) fn load(name: &str) -> Self {
        let path = super::scenarios::directory()
            .join(name)
            .with_extension("txt");
        let text = fs::read_to_string(&path).expect("the scenario is readable");
        let mut preamble = String::new();
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            let marker = line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --"));
            match (marker, sections.last_mut()) {
                (Some(name), _) => sections.push((name.to_owned(), String::new())),
                (None, Some((_, text))) => text.extend([line, "\n"]),
                (None, None) => preamble.extend([line, "\n"]),
            }
        }
        Self {
            path,
            preamble,
            sections,
        }
    }

    /// Goes through the scenario; `look` sees the controller after each step.
    pub(super) fn play<P: Player>(&self, controller: &mut P, look: &mut dyn FnMut(&P, &Cluster)) {
        let mut cluster = Cluster::default();
        let mut online = true;
        controller.relist(&cluster);
        for (name, text) in &self.sections {
            match name.as_str() {
                "apply" | "delete" => {
                    let changes = if name == "apply" {
                        applied(text)
                    } else {
                        deleted(text)
                    };
                    for (kind, object, gone) in changes {
                        if gone {
                            let name = super::reference::name_of(&object);
                            cluster
                                .delete(kind, &name)
                                .expect("what is deleted was there");
                        } else {
                            cluster.put(kind, object.clone());
                        }
                        let event = kind.event(controller.converter(), &object, gone);
                        if let Some(event) = event.filter(|_| online) {
                            controller.observe(event);
                        }
                    }
                }
                "offline" => online = false,
                "relist" => {
                    online = true;
                    controller.relist(&cluster);
                }
                "restart" => {
                    online = true;
                    controller.restart(&cluster);
                }
                "settings" => set(controller.settings(), text),
                "desired" => {
                    controller.reconcile(&cluster);
                    look(controller, &cluster);
                    controller.idle();
                }
                "maps" => {}
                other => panic!("no section of a scenario: {other}"),
            }
        }
    }

    /// What is seen after each step without any failure; what is seen agrees with the rules,
    /// and with what programming the same objects from nothing gives.
    pub(super) fn observe(&self) -> Vec<Seen> {
        let mut controller = Controller::new(TINY, Faults::Never, Then::Retry);
        let mut all = Vec::new();
        self.play(&mut controller, &mut |controller, cluster| {
            all.push(controller.seen());
            if self.is_online_at(all.len()) {
                let expected = cluster.expected(controller.settings.external_ips);
                assert_desired(&controller.desired(), &expected);
                assert_reached(controller.memory(), &expected);
                let scratch = Controller::from_scratch(cluster, controller.settings);
                assert_eq!(dump::of(controller.memory()), dump::of(scratch.memory()));
            }
            assert!(!controller.has_work());
        });
        all
    }

    /// Whether the controller has heard of everything when it is looked at for the `n`th time.
    fn is_online_at(&self, n: usize) -> bool {
        let mut looks = 0;
        let mut online = true;
        for (name, _) in &self.sections {
            match name.as_str() {
                "offline" => online = false,
                "relist" | "restart" => online = true,
                "desired" => {
                    looks += 1;
                    if looks == n {
                        return online;
                    }
                }
                _ => {}
            }
        }
        unreachable!("as many looks as sections")
    }

    /// What is seen, compared with what the file says; blesses it if asked to.
    pub(super) fn check(&self) {
        let seen = self.observe();
        if std::env::var_os("LB_BLESS").is_some() {
            fs::write(&self.path, self.with(&seen)).expect("the scenario is writable");
        }
        self.assert_says(&seen);
        self.check_faults(&seen);
    }

    /// The file says exactly what was seen.
    pub(super) fn assert_says(&self, seen: &[Seen]) {
        let text = self.with(seen);
        let file = fs::read_to_string(&self.path).expect("the scenario is readable");
        assert!(
            file == text,
            "{} differs; it is:\n{text}",
            self.path.display()
        );
    }

    /// Whatever fails: the same is seen. (Each write checks the state that it leaves.)
    fn check_faults(&self, seen: &[Seen]) {
        let mut counted = Controller::new(TINY, Faults::Never, Then::Retry);
        self.play(&mut counted, &mut |_, _| {});
        let written = counted.maps().written as u32;
        let once = (0..written)
            .step_by((written / 10).max(1) as usize)
            .map(Faults::After);
        for faults in once.chain((0..2).map(|seed| Faults::Random(seed, 3, 20))) {
            for then in [Then::Retry, Then::Restart] {
                let restarts_know_more = then == Then::Restart;
                if restarts_know_more && self.sections.iter().any(|(name, _)| name == "offline") {
                    continue;
                }
                let mut controller = Controller::new(TINY, faults, then);
                let mut all = Vec::new();
                self.play(&mut controller, &mut |controller, _| {
                    all.push(controller.seen());
                });
                assert_eq!(all, seen, "{faults:?}, then {then:?}");
            }
        }
    }

    /// The file with these dumps in place of the ones that it has.
    fn with(&self, seen: &[Seen]) -> String {
        let mut out = self.preamble.clone();
        let mut seen = seen.iter();
        for (name, text) in &self.sections {
            match name.as_str() {
                "maps" => {}
                "desired" => {
                    let seen = seen.next().expect("something is seen after each step");
                    let _ = write!(
                        out,
                        "-- desired --\n{}-- maps --\n{}",
                        seen.desired, seen.maps
                    );
                }
                _ => {
                    let _ = write!(out, "-- {name} --\n{text}");
                }
            }
        }
        out
    }
}

type Change = (Of, Value, bool);

fn applied(text: &str) -> Vec<Change> {
    let documents = serde_norway::Deserializer::from_str(text);
    documents
        .map(|document| {
            let object = Value::deserialize(document).expect("YAML");
            let kind = Of::named(object["kind"].as_str().expect("a kind"));
            (kind, object, false)
        })
        .collect()
}

fn deleted(text: &str) -> Vec<Change> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (kind, name) = line.split_once(' ').expect("a kind and a name");
            let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
            let metadata = serde_json::json!({"namespace": namespace, "name": name});
            let object = serde_json::json!({"kind": kind, "metadata": metadata});
            (Of::named(kind), object, true)
        })
        .collect()
}

fn set(settings: &mut Settings, text: &str) {
    for line in text.lines() {
        match line.split_once('=') {
            Some(("external-ips", value)) => {
                settings.external_ips = value.parse().expect("true or false");
            }
            Some(("forwarding", value)) => {
                settings.forwarding = value.parse().expect("a mode");
            }
            _ => panic!("no setting: {line}"),
        }
    }
}

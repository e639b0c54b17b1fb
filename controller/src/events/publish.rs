//! Writes Events, as many as the API server should have to take.
#![forbid(unsafe_code)]

use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    Letter, Note,
    describe::{node_reference, service_reference},
};
use crate::{exit::sentence, model::ObjectName};

const CONTROLLER: &str = "lb-controller";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An API server that is away is tried again this often, as other components do it.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Events in a row, and how long it takes until there may be one more.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(12);

/// Writes notes until nobody can tell any more.
pub(super) async fn run(client: Client, node_name: String, mut letters: mpsc::Receiver<Letter>) {
    let reporter = Reporter {
        controller: CONTROLLER.into(),
        instance: Some(node_name.clone()),
    };
    let mut publisher = Publisher {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        node_name,
        budget: Budget::new(Instant::now()),
        told_of_failure: false,
    };
    while let Some((note, done)) = letters.recv().await {
        if publisher.budget.take(Instant::now()) {
            publisher.publish(&note).await;
        } else {
            debug!(?note, "too many events: one is left out");
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

struct Publisher {
    recorder: Recorder,
    client: Client,
    node_name: String,
    budget: Budget,
    told_of_failure: bool,
}

impl Publisher {
    async fn publish(&mut self, note: &Note) {
        for attempt in 1..=TRIES {
            let problem = match timeout(PATIENCE, self.publish_once(note)).await {
                Ok(Ok(())) => {
                    self.told_of_failure = false;
                    return;
                }
                Ok(Err(kube::Error::Api(refusal))) => {
                    self.tell(&format!("the API server refuses: {}", refusal.message));
                    return;
                }
                Ok(Err(error)) => sentence(&error),
                Err(_) => "the API server does not answer".into(),
            };
            self.tell(&problem);
            if attempt < TRIES {
                sleep(PAUSE).await;
            }
        }
    }

    async fn publish_once(&self, note: &Note) -> Result<(), kube::Error> {
        let regarding = match note.service() {
            Some(service) => self.reference(service).await,
            None => node_reference(&self.node_name),
        };
        self.recorder.publish(&note.event(), &regarding).await
    }

    /// `kubectl describe` shows what has the UID of the Service. We may not get Services by
    /// name, but list them.
    async fn reference(&self, service: &ObjectName) -> ObjectReference {
        let services = Api::<Service>::namespaced(self.client.clone(), &service.namespace);
        let this = ListParams::default().fields(&format!("metadata.name={}", service.name));
        let found = services.list(&this).await.ok();
        let found = found.and_then(|list| list.items.into_iter().next());
        service_reference(service, found.and_then(|service| service.metadata.uid))
    }

    /// Says once that Events cannot be written.
    fn tell(&mut self, problem: &str) {
        if self.told_of_failure {
            debug!(problem, "still no events");
        } else {
            warn!(problem, "cannot write Events; the log has them all");
        }
        self.told_of_failure = true;
    }
}

/// How many events may still be written.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    /// Whether there may be one more.
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.since).as_secs() / REFILL.as_secs();
        self.since += REFILL * earned as u32;
        self.left = BURST.min(self.left.saturating_add(earned as u32));
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_one_event_a_refill() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken = |budget: &mut Budget, at| (0..100).filter(|_| budget.take(at)).count();
        assert_eq!(taken(&mut budget, start), BURST as usize);
        assert_eq!(taken(&mut budget, start + REFILL), 1);
        assert_eq!(taken(&mut budget, start + REFILL * 4), 3);
        assert_eq!(taken(&mut budget, start + REFILL * 400), BURST as usize);
    }
}

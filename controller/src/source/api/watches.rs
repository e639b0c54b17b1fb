//! The watches as streams of changes.
#![forbid(unsafe_code)]

use std::{fmt::Debug, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, future::ready, stream};
use k8s_openapi::{
    api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
        networking::v1::ServiceCIDR,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        utils::{Backoff, StreamBackoff},
        watcher::{self, DefaultBackoff, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{super::SourceError, connect::chain};
use crate::{
    convert::{HEADLESS_LABEL, PROXY_NAME_LABEL},
    model::Kind,
};

/// The one kind that a server may do without.
pub(super) const SERVICE_CIDRS: &str = "ServiceCIDRs";

/// What a watch says.
pub(super) enum Change {
    /// Listed, added or changed.
    Service(Box<Service>),
    /// Deleted, or hidden by the selector.
    ServiceDeleted(Box<ObjectMeta>),
    /// Listed, added or changed.
    EndpointSlice(Box<EndpointSlice>),
    /// Deleted, or hidden by the selector.
    EndpointSliceDeleted(Box<ObjectMeta>),
    /// Listed, added or changed.
    Node(Box<Node>),
    /// Deleted.
    NodeDeleted(Box<ObjectMeta>),
    /// Listed, added or changed.
    ServiceCidr(Box<ServiceCIDR>),
    /// Deleted.
    ServiceCidrDeleted(Box<ObjectMeta>),
    /// A list begins.
    Listing(Kind),
    /// A list is complete.
    Listed(Kind),
    /// The Node is known, or known not to exist.
    NodeListed,
    /// The watch failed and will try again.
    Failed {
        /// What is watched.
        what: &'static str,
        /// Why, in one sentence.
        error: String,
    },
}

type Occurrence<K> = Result<watcher::Event<K>, watcher::Error>;
type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// The watches; nothing is requested before they are polled.
pub(super) struct Watches {
    pub(super) node: Changes,
    services: Changes,
    slices: Changes,
    cidrs: Changes,
}

impl Watches {
    /// `connect` makes a client to watch something with.
    pub(super) fn new(
        node_name: &str,
        connect: impl Fn(&'static str) -> Result<Client, SourceError>,
    ) -> Result<Self, SourceError> {
        let absent = |label: &str| watcher::Config::default().labels(&format!("!{label}"));
        let this_node = watcher::Config::default().fields(&format!("metadata.name={node_name}"));
        Ok(Self {
            services: changes::<Service>(&connect, absent(PROXY_NAME_LABEL))?,
            slices: changes::<EndpointSlice>(&connect, absent(HEADLESS_LABEL))?,
            node: changes::<Node>(&connect, this_node)?,
            cidrs: changes::<ServiceCIDR>(&connect, watcher::Config::default())?,
        })
    }

    /// All of them as one.
    pub(super) fn all(self) -> impl Stream<Item = Change> {
        stream::select_all([self.services, self.slices, self.node, self.cidrs])
    }
}

/// A kind of object that is watched.
trait Watched: Resource + DeserializeOwned + Clone + Debug + Send + 'static {
    const WHAT: &'static str;
    /// Whether a server may do without: then it is asked less often, and nothing waits.
    const OPTIONAL: bool = false;
    fn applied(self) -> Change;
    fn deleted(self) -> Change;
    fn listing() -> Option<Change>;
    fn listed() -> Change;
}

fn changes<K: Watched<DynamicType = ()>>(
    connect: impl Fn(&'static str) -> Result<Client, SourceError>,
    config: watcher::Config,
) -> Result<Changes, SourceError> {
    let client = connect(K::WHAT)?;
    let watch = move || Box::pin(watcher(Api::<K>::all(client.clone()), config.clone()));
    let events = begun_anew_when_gone(watch).flat_map(late_init());
    let backoff: Box<dyn Backoff> = if K::OPTIONAL {
        Box::new(Slow::default())
    } else {
        Box::new(DefaultBackoff::default())
    };
    let events = paced(events, backoff);
    let changes = events.filter_map(async |event| match event {
        Ok(watcher::Event::Init) => K::listing(),
        Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
            Some(object.applied())
        }
        Ok(watcher::Event::InitDone) => Some(K::listed()),
        Ok(watcher::Event::Delete(object)) => Some(object.deleted()),
        // A new list follows at once.
        Err(error) if is_gone(&error) => None,
        Err(error) => Some(Change::Failed {
            what: K::WHAT,
            error: chain(&error),
        }),
    });
    Ok(Box::pin(changes))
}

/// Begins a new watch, with a new list, when 410 comes as an HTTP status. kube's watcher
/// lists anew only when it comes as an event, and else asks for the same version for ever.
fn begun_anew_when_gone<K, S>(watch: impl Fn() -> S) -> impl Stream<Item = Occurrence<K>>
where
    S: Stream<Item = Occurrence<K>> + Unpin,
{
    stream::unfold((watch(), watch), async |(mut events, watch)| {
        let event = events.next().await?;
        if matches!(&event, Err(error @ watcher::Error::WatchStartFailed(_)) if is_gone(error)) {
            events = watch();
        }
        Some((event, (events, watch)))
    })
}

/// Whether the server has forgotten where we were.
fn is_gone(error: &watcher::Error) -> bool {
    use watcher::Error::{WatchError, WatchStartFailed};
    matches!(error,
        WatchError(status) | WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Waits after failures, ever longer. That the server has forgotten where we were is none: what
/// happened meanwhile is known only from the list that follows, so it follows at once. Only a
/// server that forgets what it has just listed is waited for.
fn paced<K>(
    events: impl Stream<Item = Occurrence<K>>,
    backoff: Box<dyn Backoff>,
) -> impl Stream<Item = Occurrence<K>> {
    let mut just_listed = false;
    let events = events.filter_map(move |event| {
        let at_once = !just_listed && matches!(&event, Err(error) if is_gone(error));
        just_listed = matches!(event, Ok(watcher::Event::InitDone));
        ready((!at_once).then_some(event))
    });
    StreamBackoff::new(events, backoff)
}

/// Holds `Init` back until the server has answered. The watcher says it before it asks,
/// which looks like success and would start the backoff anew at every attempt.
fn late_init<K>() -> impl FnMut(Occurrence<K>) -> stream::Iter<std::vec::IntoIter<Occurrence<K>>> {
    let mut held = false;
    move |event| {
        let events = match event {
            Ok(watcher::Event::Init) => {
                held = true;
                vec![]
            }
            Ok(event) if std::mem::take(&mut held) => vec![Ok(watcher::Event::Init), Ok(event)],
            other => vec![other],
        };
        stream::iter(events)
    }
}

/// How often an optional kind is asked for: soon after a failure, then every few minutes.
#[derive(Default)]
struct Slow {
    failures: u32,
}

impl Iterator for Slow {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let seconds = 1u64 << (2 * self.failures.min(4));
        Some(Duration::from_secs(seconds))
    }
}

impl Backoff for Slow {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

impl Watched for Service {
    const WHAT: &'static str = "Services";

    fn applied(self) -> Change {
        Change::Service(Box::new(self))
    }

    fn deleted(self) -> Change {
        Change::ServiceDeleted(Box::new(self.metadata))
    }

    fn listing() -> Option<Change> {
        Some(Change::Listing(Kind::Services))
    }

    fn listed() -> Change {
        Change::Listed(Kind::Services)
    }
}

impl Watched for EndpointSlice {
    const WHAT: &'static str = "EndpointSlices";

    fn applied(self) -> Change {
        Change::EndpointSlice(Box::new(self))
    }

    fn deleted(self) -> Change {
        Change::EndpointSliceDeleted(Box::new(self.metadata))
    }

    fn listing() -> Option<Change> {
        Some(Change::Listing(Kind::EndpointSlices))
    }

    fn listed() -> Change {
        Change::Listed(Kind::EndpointSlices)
    }
}

impl Watched for Node {
    const WHAT: &'static str = "this Node";

    fn applied(self) -> Change {
        Change::Node(Box::new(self))
    }

    fn deleted(self) -> Change {
        Change::NodeDeleted(Box::new(self.metadata))
    }

    fn listing() -> Option<Change> {
        None
    }

    fn listed() -> Change {
        Change::NodeListed
    }
}

impl Watched for ServiceCIDR {
    const WHAT: &'static str = SERVICE_CIDRS;
    // Older servers have no such kind, and roles may not allow it.
    const OPTIONAL: bool = true;

    fn applied(self) -> Change {
        Change::ServiceCidr(Box::new(self))
    }

    fn deleted(self) -> Change {
        Change::ServiceCidrDeleted(Box::new(self.metadata))
    }

    fn listing() -> Option<Change> {
        Some(Change::Listing(Kind::ServiceCidrs))
    }

    fn listed() -> Change {
        Change::Listed(Kind::ServiceCidrs)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use kube::core::Status;
    use watcher::{
        Error::{NoResourceVersion, WatchError},
        Event::InitDone,
    };

    use super::*;

    /// Counts the pauses, which take no time.
    #[derive(Default)]
    struct Counting(Arc<AtomicU32>);

    impl Iterator for Counting {
        type Item = Duration;

        fn next(&mut self) -> Option<Duration> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Some(Duration::ZERO)
        }
    }

    impl Backoff for Counting {
        fn reset(&mut self) {}
    }

    async fn pauses(events: impl IntoIterator<Item = Occurrence<Node>>) -> u32 {
        let backoff = Counting::default();
        let counted = Arc::clone(&backoff.0);
        let events: Vec<_> = events.into_iter().collect();
        let paced = paced(stream::iter(events), Box::new(backoff));
        paced.for_each(|_| ready(())).await;
        counted.load(Ordering::Relaxed)
    }

    fn gone() -> Occurrence<Node> {
        let status = Status::failure("too old resource version", "Expired").with_code(410);
        Err(WatchError(Box::new(status)))
    }

    #[tokio::test]
    async fn new_list_follows_at_once_when_the_server_has_forgotten() {
        let away = || Err(NoResourceVersion);
        assert_eq!(pauses([Ok(InitDone), away(), away()]).await, 2);
        assert_eq!(pauses([Ok(InitDone), away(), away(), gone()]).await, 2);
    }

    #[tokio::test]
    async fn server_that_forgets_what_it_has_just_listed_is_waited_for() {
        let events = [Ok(InitDone), gone(), Ok(InitDone), gone()];
        assert_eq!(pauses(events).await, 2);
    }
}

//! The loop: events → store → desired → rules → conntrack clean-up.
//!
//! Everything is rendered anew for every batch of changes, and applied where it differs. Rules
//! stay when the process ends; [`cleanup`] removes them.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use lb_controller::{
    desired::{DesiredService, desired},
    model::{Event, Family, Settings},
    source::{ApiSource, FilesSource, Source, SourceState},
    store::Store,
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Mode, NodeFacts, conntrack, health::Servers, iptables, nftables};

/// How long a change waits for others.
const BATCH_WINDOW: Duration = Duration::from_millis(50);

/// When to try again what the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// Where objects come from, and for which node.
#[derive(Clone, Debug)]
pub struct Origin {
    /// A file or directory of manifests; without it, an API server.
    pub files: Option<PathBuf>,
    /// How to reach the API server.
    pub kubeconfig: Option<PathBuf>,
    /// This node's name.
    pub node_name: String,
}

/// Runs until the source ends or `stop`.
pub async fn run(
    mode: Mode,
    origin: &Origin,
    facts: NodeFacts,
    stop: CancellationToken,
) -> Result<()> {
    let servers = Servers::start(mode.name(), origin.files.is_none()).await?;
    if mode == Mode::Iptables && facts.localhost_node_ports {
        route_localnet(true)?;
    }
    let mut follower = Follower {
        store: Store::new(),
        facts,
        datapath: Some(Datapath::new(mode)),
        servers,
    };
    let (events, received) = mpsc::channel(64);
    let (state, _states) = watch::channel(SourceState::default());
    let source = source(origin).await?.run(events, state, stop.clone());
    tokio::select! {
        result = source => result.context("the source of objects"),
        result = follower.follow(received) => result,
        () = stop.cancelled() => Ok(()),
    }
}

/// What the rules would be, from the first complete lists.
pub async fn snapshot(
    origin: &Origin,
    facts: NodeFacts,
) -> Result<(Vec<DesiredService>, NodeFacts)> {
    let (events, mut received) = mpsc::channel(64);
    let (state, _states) = watch::channel(SourceState::default());
    let stop = CancellationToken::new();
    let source = source(origin).await?.run(events, state, stop.clone());
    let collect = async {
        let mut store = Store::new();
        while !store.synced() {
            let batch = received.recv().await.context("the source ended early")?;
            for event in batch {
                store.apply(event);
            }
        }
        anyhow::Ok(store)
    };
    let store = tokio::select! {
        result = source => {
            result.context("the source of objects")?;
            anyhow::bail!("the source ended early")
        }
        store = collect => store?,
    };
    let services = services(&store);
    Ok((services, facts.with(&store)))
}

/// Removes every rule of either mode.
pub fn cleanup() -> Result<()> {
    iptables::cleanup()?;
    nftables::cleanup()?;
    route_localnet(false)
}

/// Lets packets with loopback addresses through DNAT (rule E11).
fn route_localnet(on: bool) -> Result<()> {
    let path = "/proc/sys/net/ipv4/conf/all/route_localnet";
    fs::write(path, if on { "1" } else { "0" }).with_context(|| format!("writing {path}"))
}

async fn source(origin: &Origin) -> Result<Source> {
    if let Some(path) = &origin.files {
        return Ok(Source::Files(FilesSource::new(path, &origin.node_name)?));
    }
    let kubeconfig = origin.kubeconfig.as_deref();
    Ok(Source::Api(
        ApiSource::new(kubeconfig, &origin.node_name).await?,
    ))
}

/// Everything that should be programmed, in the order of the Services' names.
pub fn services(store: &Store) -> Vec<DesiredService> {
    let sorted: BTreeMap<_, _> = store.services().collect();
    let of = |(name, service)| {
        let slices = store.slices_of(name);
        desired(name, service, &slices, store.node(), Settings::default())
    };
    sorted.into_iter().flat_map(of).collect()
}

struct Follower {
    store: Store,
    facts: NodeFacts,
    /// Absent while it is at work.
    datapath: Option<Datapath>,
    servers: Servers,
}

// === impl Follower ===

impl Follower {
    async fn follow(&mut self, mut received: mpsc::Receiver<Vec<Event>>) -> Result<()> {
        let mut pending = false;
        loop {
            let until = Instant::now()
                + if pending {
                    RETRY
                } else {
                    Duration::from_secs(3600)
                };
            match timeout_at(until, received.recv()).await {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => self.gather(batch, &mut received).await,
                Err(_) => {}
            }
            // Rule K1.
            if self.store.synced() {
                pending = !self.program().await?;
            }
        }
    }

    /// Takes in a batch, and what follows soon.
    async fn gather(&mut self, batch: Vec<Event>, received: &mut mpsc::Receiver<Vec<Event>>) {
        let until = Instant::now() + BATCH_WINDOW;
        let mut next = Some(batch);
        self.servers.health.queued();
        while let Some(batch) = next {
            for event in batch {
                if let Event::Node(node) = &event {
                    self.servers.health.stands(node.standing);
                }
                self.store.apply(event);
            }
            next = timeout_at(until, received.recv()).await.unwrap_or_default();
        }
    }

    /// Whether everything is programmed.
    async fn program(&mut self) -> Result<bool> {
        let begin = Instant::now();
        let facts = self.facts.clone().with(&self.store);
        let services = services(&self.store);
        let mut datapath = self.datapath.take().context("the datapath is gone")?;
        let work = move || {
            let result = datapath.program(&services, &facts);
            (datapath, result)
        };
        let (datapath, result) = spawn_blocking(work).await.context("programming")?;
        self.datapath = Some(datapath);
        match &result {
            Ok(()) => {
                self.servers.follow(&self.store).await;
                tracing::debug!(took = ?begin.elapsed(), "in step");
            }
            Err(error) => tracing::error!("cannot program everything: {error:#}"),
        }
        Ok(result.is_ok())
    }
}

/// The kernel's rules of this namespace, one part a family.
struct Datapath {
    rules: Rules,
    udp: conntrack::UdpServices,
}

enum Rules {
    Iptables([iptables::Applied; 2]),
    Nftables([nftables::Applied; 2]),
}

// === impl Datapath ===

impl Datapath {
    fn new(mode: Mode) -> Self {
        let rules = match mode {
            Mode::Iptables => Rules::Iptables(Family::ALL.map(iptables::Applied::new)),
            Mode::Nftables => Rules::Nftables(Family::ALL.map(nftables::Applied::new)),
        };
        Self {
            rules,
            udp: conntrack::UdpServices::default(),
        }
    }

    fn program(&mut self, services: &[DesiredService], facts: &NodeFacts) -> Result<()> {
        match &mut self.rules {
            Rules::Iptables(families) => families
                .iter_mut()
                .try_for_each(|family| family.apply(services, facts))?,
            Rules::Nftables(families) => families
                .iter_mut()
                .try_for_each(|family| family.apply(services, facts))?,
        }
        let udp = conntrack::UdpServices::of(services);
        // Rules I4 and I6.
        if udp != self.udp {
            let deleted = conntrack::clean(&udp)?;
            tracing::debug!(deleted, "stale UDP flows");
            self.udp = udp;
        }
        Ok(())
    }
}

//! What load balancers, the kubelet and operators are told over HTTP, by `lb-controller`'s
//! servers: health is no matter of the datapath (rules J1 to J17; there are no metrics).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, routing::get};
use lb_controller::{
    desired::health_check,
    health::{Health, HealthChecks, health_routes},
    store::Store,
};
use tokio::net::TcpListener;

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// How long a change may wait (rule J13).
const STALE_AFTER: Duration = Duration::from_secs(60);

/// All servers of this node.
pub(super) struct Servers {
    pub(super) health: Arc<Health>,
    checks: HealthChecks,
}

// === impl Servers ===

impl Servers {
    /// Serves until the process ends; `has_control_plane` as [`Health::new`] wants to know it.
    pub(super) async fn start(mode: &'static str, has_control_plane: bool) -> Result<Self> {
        let health = Arc::new(Health::new(STALE_AFTER, !has_control_plane));
        // Of both families: a socket at :: takes IPv4 too.
        let healthz = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), HEALTHZ_PORT);
        let operators = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT);
        let for_operators = Router::new()
            .route("/proxyMode", get(move || async move { mode }))
            .route("/healthz", get(|| async { "ok" }));
        for (address, routes) in [
            (healthz, health_routes(Arc::clone(&health))),
            (operators, for_operators),
        ] {
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen at {address}"))?;
            tokio::spawn(async move { axum::serve(listener, routes).await });
        }
        Ok(Self {
            checks: HealthChecks::new(Arc::clone(&health)),
            health,
        })
    }

    /// Everything that has arrived is programmed: answers at the health-check node ports follow.
    pub(super) async fn follow(&mut self, store: &Store) {
        self.health.updated();
        let wanted: BTreeMap<_, _> = store
            .services()
            .filter_map(|(name, service)| {
                let check = health_check(service, &store.slices_of(name))?;
                Some((name.clone(), check))
            })
            .collect();
        let everywhere = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        // What cannot listen is logged there, and tried again with the next change.
        self.checks.sync(&wanted, &everywhere).await;
    }
}

//! What load balancers, the kubelet and operators are told: health-check node ports, `/healthz`,
//! `/livez`, Events, metrics; and a datapath that others have damaged. Rules J, K5, K6.
//!
//! Requests come from pods, hosts and outside, through real proxies.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "health/ask.rs"]
mod ask;
#[path = "health/events.rs"]
mod events;
#[path = "health/metrics.rs"]
mod metrics;
#[path = "health/node.rs"]
mod node;
#[path = "health/repair.rs"]
mod repair;
#[path = "health/services.rs"]
mod services;
#[path = "health/stage.rs"]
mod stage;

//! The per-node controller: Kubernetes objects → model → desired → plan → maps.
//!
//! Nothing flows back: [`model`] knows no Kubernetes type, [`desired`] does no IO,
//! [`plan`] does no IO, [`apply`] is the only writer of maps.

// Tests share modules with those in `tests`, which know the crate by its name.
#[cfg(test)]
extern crate self as lb_controller;

pub mod apply;
pub mod config;
pub mod conntrack;
pub mod convert;
pub mod daemon;
pub mod datapath;
pub mod desired;
pub mod devices;
pub mod events;
pub mod exit;
pub mod health;
pub mod kernel;
pub mod lbctl;
pub mod loader;
pub mod maps;
pub mod metrics;
pub mod model;
pub mod pins;
pub mod plan;
pub mod prepare;
pub mod reaper;
pub mod reconcile;
pub mod source;
pub mod store;
pub mod synthetic;
pub mod sys;

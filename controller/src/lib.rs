//! The per-node controller: Kubernetes objects → model → desired → plan → maps.
//!
//! Nothing flows back: [`model`] knows no Kubernetes type, [`desired`] does no IO.

pub mod apply;
pub mod convert;
pub mod desired;
pub mod kernel;
pub mod loader;
pub mod maps;
pub mod model;
pub mod pins;
pub mod plan;
pub mod store;
pub mod sys;

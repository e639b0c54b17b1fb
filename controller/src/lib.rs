//! The per-node controller: Kubernetes objects → model → desired → plan → maps.
//!
//! Nothing flows back: [`model`] knows no Kubernetes type, [`desired`] does no IO.

pub mod convert;
pub mod desired;
pub mod maps;
pub mod model;
pub mod source;
pub mod store;
pub mod synthetic;
pub mod sys;

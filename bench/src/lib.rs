//! What the two measuring programs share; `README.md` says how to run them and what each
//! figure means.
//!
//! `lb-scale` measures the controller at the size of large clusters, `lb-connect-bench`
//! what a client pays for a connection through a ClusterIP. Both create what they need
//! under names of their own (one [`arena::Arena`] each) and remove it again.
#![forbid(unsafe_code)]

pub mod arena;
pub mod cluster;
pub mod connect;
pub mod controller;
pub mod kernel;
pub mod manifests;
pub mod procfs;
pub mod report;
pub mod stats;

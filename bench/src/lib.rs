//! What the measuring programs share; `README.md` says how to run them and what each
//! figure means.
//!
//! `lb-scale` measures the controller at the size of large clusters, `lb-connect-bench`
//! what a client pays for a connection through a ClusterIP, `lb-packet-bench` what a packet
//! costs in the XDP program. All create what they need under names of their own and remove
//! it again.
#![forbid(unsafe_code)]

pub mod arena;
pub mod cluster;
pub mod connect;
pub mod controller;
pub mod kernel;
pub mod manifests;
pub mod packets;
pub mod procfs;
pub mod report;
pub mod stats;

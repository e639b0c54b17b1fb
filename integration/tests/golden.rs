//! Who reaches whom, and under which address: upstream's matrix of sources and destinations
//! (rule F8), who counts as a local pod (rule F9), and virtual addresses where nobody serves
//! (rules E3, E11).
//!
//! Every test has a cluster of its own, because they differ in how the proxies are started.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "golden/detectors.rs"]
mod detectors;
#[path = "golden/loopback.rs"]
mod loopback;
#[path = "golden/matrix.rs"]
mod matrix;
#[path = "golden/sctp.rs"]
mod sctp;
#[path = "golden/stage.rs"]
mod stage;
#[path = "golden/undefined.rs"]
mod undefined;

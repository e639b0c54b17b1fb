//! Traffic from outside: NodePorts, load-balancer addresses and external IPs, over real devices
//! and with real sockets.
//!
//! Every test has a cluster of its own, because they differ in how the proxy hooks into devices
//! and in what lies between the nodes. `LB_PROXY_COMMAND` runs the tests against another proxy
//! (see `lb_integration::proxy`), as far as they ask for what any proxy owes; what only ours
//! promises is not asked of others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "north_south/big_tcp.rs"]
mod big_tcp;
#[path = "north_south/dsr.rs"]
mod dsr;
#[path = "north_south/failures.rs"]
mod failures;
#[path = "north_south/matrix.rs"]
mod matrix;
#[path = "north_south/path.rs"]
mod path;
#[path = "north_south/pods.rs"]
mod pods;
#[path = "north_south/stage.rs"]
mod stage;
#[path = "north_south/tables.rs"]
mod tables;

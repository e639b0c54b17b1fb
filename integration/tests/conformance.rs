//! What upstream's end-to-end tests ask of a service proxy, and what they never ask.
//!
//! Each test is named after its row in `RULES.md`, which says what upstream's test does and what
//! differs here. All tests of this file share one dual-stack cluster of three nodes with a proxy on
//! each and a client outside; every test has a Kubernetes namespace and pods of its own.
//!
//! `LB_SOURCE=api` feeds the proxies from the stand-in API server instead of a directory of
//! manifests. `LB_PROXY_COMMAND` runs the same tests against another proxy (see `lb_integration::proxy`).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "conformance/affinity.rs"]
mod affinity;
#[path = "conformance/conntrack.rs"]
mod conntrack;
#[path = "conformance/external_policy.rs"]
mod external_policy;
#[path = "conformance/fidelity.rs"]
mod fidelity;
#[path = "conformance/invalid_packets.rs"]
mod invalid_packets;
#[path = "conformance/load_balancers.rs"]
mod load_balancers;
#[path = "conformance/networking.rs"]
mod networking;
#[path = "conformance/node_ports.rs"]
mod node_ports;
#[path = "conformance/policy.rs"]
mod policy;
#[path = "conformance/rolling_update.rs"]
mod rolling_update;
#[path = "conformance/scenario.rs"]
mod scenario;
#[path = "conformance/second_family.rs"]
mod second_family;
#[path = "conformance/services.rs"]
mod services;
#[path = "conformance/slices.rs"]
mod slices;
#[path = "conformance/suite.rs"]
mod suite;
#[path = "conformance/types_and_labels.rs"]
mod types_and_labels;

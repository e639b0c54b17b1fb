//! A Kubernetes-shaped test cluster made of Linux network namespaces, and what tests need to
//! drive traffic and objects through it.
//!
//! * [`cluster`]: nodes, pods and an outside client as namespaces, each with its own cgroup and
//!   bpffs directory, so that several nodes share one kernel without seeing each other.
//! * [`process`]: starts processes inside a node or pod; they die with the test.
//! * [`agent`]: the traffic server and client (`lb-agent`), and [`control`], the typed handle on
//!   a long-lived client in a pod; [`client`] waits, with [`patience`], for what should be seen
//!   with it.
//! * [`workload`]: EndpointSlices from a Service and its pods, as the Kubernetes controller
//!   computes them. [`objects`] delivers objects to the proxy.
//! * [`apiserver`]: a stand-in for the Kubernetes API server, with fault injection.
//! * [`proxy`]: the service proxy under test, ours or any other, one per node.
//! * [`conformance`]: the cases that any service proxy can be run through.
//! * [`reference`](mod@reference): another service proxy, of netfilter rules, to check the tests with.
//! * [`kind`]: a kind cluster with the proxy on it, and the suite's site there.
//! * [`scene`]: all of it on one node with one Service.
//! * [`stress`]: floods, full tables, swaps and churn, with figures.
//! * [`packets`]: packet rows, run by the pure pipeline and by the real programs.
//!
//! Needs root, cgroup v2 and iproute2. Nothing outside the namespaces, the cgroups and the bpffs
//! directories named after a cluster's [`prefix::Prefix`] is changed; [`teardown`] removes them
//! on drop, on panic, on exit and on SIGINT or SIGTERM, and sweeps what a killed run left.

pub mod agent;
pub mod apiserver;
pub mod binaries;
pub mod bpffs;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod conformance;
pub mod control;
pub mod demo;
pub mod ip;
pub mod kind;
pub mod netns;
pub mod objects;
pub mod packets;
pub mod panics;
pub mod patience;
pub mod prefix;
pub mod process;
pub mod proxy;
pub mod reference;
pub mod scene;
pub mod stress;
pub mod teardown;
pub mod workload;

pub use cluster::{Cluster, PodNetwork};

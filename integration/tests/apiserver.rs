//! The stand-in API server against real clients: kube-rs and kubectl.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "apiserver/binary.rs"]
mod binary;
#[path = "apiserver/clients.rs"]
mod clients;
#[path = "apiserver/kubectl.rs"]
mod kubectl;
#[path = "apiserver/namespace.rs"]
mod namespace;
#[path = "apiserver/protocol.rs"]
mod protocol;
#[path = "apiserver/watcher.rs"]
mod watcher;

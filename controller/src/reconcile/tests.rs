//! From Kubernetes objects to maps: everything between the API and the kernel's programs.
//!
//! Scenarios are texts in `tests/scenarios`; random histories follow the same path. Whatever
//! fails on the way, the maps end as if the last state had been programmed at once, and say
//! what a naive reading of the rules says. Maps are in memory, where writes can be made to fail;
//! the kernel's hold the same.

mod cluster;
mod controller;
mod dump;
mod netns;
mod player;
mod random;
mod reach;
mod reference;
#[path = "../../tests/support/sandbox.rs"]
#[expect(dead_code, reason = "entering is for tests with sockets")]
mod sandbox;
mod scenario;
mod scenarios;
mod target;

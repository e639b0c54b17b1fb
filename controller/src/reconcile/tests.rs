//! From Kubernetes objects to maps in memory: everything between the API and the kernel.
//!
//! Scenarios are texts in `tests/scenarios`; random histories follow the same path. Whatever
//! fails on the way, the maps end as if the last state had been programmed at once, and say
//! what a naive reading of the rules says.

mod cluster;
mod controller;
mod dump;
mod random;
mod reach;
mod reference;
mod scenario;
mod scenarios;
mod target;

//! What goes wrong on a node: one clear sentence on stderr, an exit code that tells what kind of
//! problem it is, and a datapath that goes on where there is one.
//!
//! All tests use the real programs; the codes are those of `lb-controller --help`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "failures/lifecycle.rs"]
mod lifecycle;
#[path = "failures/manifests.rs"]
mod manifests;
#[path = "failures/stage.rs"]
mod stage;
#[path = "failures/start.rs"]
mod start;

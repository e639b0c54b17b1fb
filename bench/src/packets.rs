//! Packets through an XDP program, one after the other.
//!
//! A program that rewrites its packet would see its own output in the next of many test runs.
//! [`Replay`] therefore runs a small program that puts the headers back first and then calls the
//! one under test; what that costs is measured in front of a program that only returns, and
//! subtracted.

pub mod cases;
mod replay;

pub use replay::{Replay, Run};

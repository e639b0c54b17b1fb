//! Traffic that is meant to hurt, with figures: floods of spoofed packets, tables that are full,
//! maps that are swapped, endpoints that never rest.
//!
//! Each scenario builds a cluster of its own, drives it for as long as it is told to, and gives a
//! [`Report`]: figures for people, and what did not hold. The tests run short variants, the
//! program `lb-stress` long ones.
//!
//! * [`site`]: the cluster. [`streams`] and [`dials`]: honest clients. [`frames`]: the others.
//! * [`tables`]: what the datapath remembers and counts.

pub mod dials;
pub mod flood;
pub mod frames;
pub mod limits;
pub mod report;
pub mod site;
pub mod soak;
pub mod streams;
pub mod swaps;
pub mod tables;
mod worker;

pub use report::Report;

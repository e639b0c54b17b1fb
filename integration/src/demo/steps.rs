//! The steps, in the order they are shown. Each prints its heading, does its part and checks it.

mod controllers;
mod end;
mod failover;
mod objects;
mod outside;
mod restart;
mod spread;
mod tools;
mod topology;
mod traffic;

pub(super) use controllers::controllers;
pub(super) use end::{clean_up, keep};
pub(super) use failover::failover;
pub(super) use objects::objects;
pub(super) use outside::outside;
pub(super) use restart::restart;
pub(super) use tools::tools;
pub(super) use topology::topology;
pub(super) use traffic::traffic;

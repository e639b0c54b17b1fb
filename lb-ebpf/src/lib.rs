//! The ABI between the controller and its BPF programs, and the pure datapath.
//!
//! This crate is compiled twice from the same source: for the BPF target, where
//! `src/bin/lb` binds it to hooks and maps, and for the host, where the
//! controller uses the types and the tests drive the very same pipeline over
//! in-memory tables.
//!
//! Reading order: [`abi`] (what lies in the maps), [`tables`] (the lookups a
//! program may make), [`select`] (frontend → backend), [`socket`] (the path of the socket
//! hooks, top to bottom); for packets: [`packet`] (what a hook can do), [`parse`],
//! [`pipeline`] (the packet path, top to bottom), [`conntrack`] (flows that exist),
//! [`open`] (flows that are made; `ports`, the source ports that they get), [`dsr`], [`nat`]
//! (rewriting), [`answer`] (refusals and ICMP errors of our own).
//!
//! Invariants:
//! - every address is 16 bytes, IPv4 as v4-mapped IPv6 (`::ffff:a.b.c.d`), so
//!   that v4, v6 and mapped sockets share one code path and one set of maps;
//! - addresses and ports are kept in network byte order and are read through
//!   accessors only;
//! - nothing here allocates, panics, or touches a pointer.
#![cfg_attr(target_arch = "bpf", no_std)]
#![deny(missing_docs)]
#![expect(
    clippy::inline_always,
    reason = "a hook is one function: calls cost the verifier and the packet"
)]
#![expect(
    clippy::many_single_char_names,
    reason = "bytes and words of a header, taken apart and put together in their order"
)]

pub mod abi;
pub mod answer;
pub mod checksum;
pub mod conntrack;
pub mod dsr;
pub mod fault;
pub mod hash;
pub mod nat;
pub mod open;
pub mod packet;
pub mod parse;
pub mod pipeline;
mod ports;
pub mod route;
pub mod select;
pub mod socket;
pub mod tables;

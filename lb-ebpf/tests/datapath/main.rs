//! The pure datapath over plain collections: what each hook does, fact by fact.

mod abi;
mod affinity;
mod connect;
mod datagram;
mod numbers;
mod properties;
mod world;

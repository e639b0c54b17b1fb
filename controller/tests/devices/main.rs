//! Devices of a node, in network namespaces of the test's own: what is attached where,
//! and how it follows what happens to them.

mod followed;
mod kernel;
mod node;
mod swapped;

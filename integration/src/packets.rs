//! Packet rows: one table, each row run twice, through the pure host pipeline and through
//! the real programs.
//!
//! A [row](script::Row) is a [`world`] (what is programmed), packets built by [`packet`], and
//! what has to come of each: verdict, bytes, counters, [flows](flow). [`check`] runs it in the
//! [`host`] pipeline over [in-memory tables](world::World), [`kernel::beside`] also by
//! `BPF_PROG_TEST_RUN`, in a namespace built like the [`topology`] that the host's FIB knows.
//! Both are compared with the row and with each other, down to every record: a difference is
//! a bug. Nothing here but [`kernel`] needs a kernel: the rest is also built alone
//! (`xtask/src/mutants/datapath.rs`).

pub mod check;
pub mod flow;
pub mod host;
pub mod kernel;
pub mod packet;
pub mod rows;
pub mod script;
pub mod service;
mod tables;
pub mod topology;
pub mod verify;
pub mod world;

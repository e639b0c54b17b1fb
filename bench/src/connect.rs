//! What a client pays for a connection or a datagram, as several kinds of client take
//! turns.
//!
//! Each client is a process of its own in a network namespace and a cgroup of its own,
//! all pinned to one CPU. A client is also its own server: it holds sockets in the namespace
//! of a pod, behind a veth pair, to which every address of the synthetic cluster's endpoints
//! belongs. So nothing waits for another process, and only the system call in question is
//! timed.

pub mod client;
pub mod coordinator;
pub mod kube_proxy;
pub mod protocol;
pub mod rounds;

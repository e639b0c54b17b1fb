//! What the socket iterator tells userspace, and what it must be told first.

use super::{Addr, ConnectedFlow, Port, abi_type};

/// Backends that one run of the iterator can look for.
pub const GONE_BACKENDS: u32 = 4096;

abi_type! {
    /// One connected socket that was translated, as the iterator `lb_find_sockets`
    /// writes it.
    pub struct FoundSocket [120] {
        /// What was remembered when the socket was connected.
        pub flow: ConnectedFlow,
        /// The socket's cookie; 0 if the kernel cannot tell (before 5.12).
        pub cookie: u64,
        /// The socket's own address.
        pub source: Addr,
        /// The address that it is connected to; unspecified if it is not connected.
        pub destination: Addr,
        /// The socket's own port.
        pub source_port: Port,
        /// The port that it is connected to; 0 if it is not connected.
        pub destination_port: Port,
        /// `AF_INET` or `AF_INET6`; mapped addresses occur in the latter.
        pub family: u32,
        /// Index of the device that the socket is bound to; 0 is none.
        pub device: u32,
        /// Explicit padding, zero.
        pub reserved: u32,
    }
}

abi_type! {
    /// Offsets in bytes of fields of the kernel's `struct sock_common`, and a feature.
    ///
    /// The program cannot know them (Rust emits no CO-RE relocations): the loader
    /// takes them from the running kernel's BTF.
    #[derive(Default)]
    pub struct SocketLayout [36] {
        /// `skc_family`, u16.
        pub family: u32,
        /// `skc_num`: the socket's own port, u16 in host byte order.
        pub num: u32,
        /// `skc_dport`, u16 in network byte order.
        pub dport: u32,
        /// `skc_daddr`, u32 in network byte order.
        pub daddr: u32,
        /// `skc_rcv_saddr`, u32 in network byte order.
        pub rcv_saddr: u32,
        /// `skc_v6_daddr`, 16 bytes.
        pub v6_daddr: u32,
        /// `skc_v6_rcv_saddr`, 16 bytes.
        pub v6_rcv_saddr: u32,
        /// `skc_bound_dev_if`, u32.
        pub bound_dev_if: u32,
        /// 1 if iterators may ask for a socket's cookie (5.12).
        pub has_cookie: u32,
    }
}

impl FoundSocket {
    /// [`Self::family`] of an IPv4 socket.
    pub const AF_INET: u32 = 2;
    /// [`Self::family`] of an IPv6 socket.
    pub const AF_INET6: u32 = 10;

    /// Whether the socket still is connected to what the flow says: a socket that was
    /// disconnected keeps its flow until it is connected again or closed.
    pub fn is_connected(&self) -> bool {
        (self.destination, self.destination_port) == (self.flow.backend, self.flow.backend_port)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn a_disconnected_socket_is_not_connected_to_its_flow() {
        let backend = Addr::from_v4_word(0x0100_007f);
        let mut socket = FoundSocket::new_zeroed();
        socket.flow.backend = backend;
        socket.flow.backend_port = Port::new(53);
        assert!(!socket.is_connected());
        socket.destination = backend;
        assert!(!socket.is_connected());
        socket.destination_port = Port::new(53);
        assert!(socket.is_connected());
        socket.destination = Addr::UNSPECIFIED;
        assert!(!socket.is_connected());
    }
}

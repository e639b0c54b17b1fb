//! `NETLINK_SOCK_DIAG`: destroys a socket, and lists sockets, of one network namespace.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SOCK_DESTROY, SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use zerocopy::transmute;

use super::target::{Family, Target};

/// Room for one read of a dump; the kernel sends 32 KiB at most.
const BUFFER: usize = 1 << 15;

/// A netlink socket in the network namespace of the thread that made it.
pub(crate) struct Diag {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Diag {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(NETLINK_SOCK_DIAG)?,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// The socket, to ask for its namespace.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Ends a socket: its owner gets ECONNABORTED, at once if it waits.
    ///
    /// # Errors
    /// ENOENT if there is no such socket any more (or the kernel lacks `udp_diag`),
    /// EOPNOTSUPP without `CONFIG_INET_DIAG_DESTROY`.
    pub(crate) fn destroy(&mut self, target: &Target) -> io::Result<()> {
        let mut request = message(NLM_F_REQUEST | NLM_F_ACK, request_of(target));
        // The crate has the number, but no message of its own: the body is the same.
        request.header.message_type = SOCK_DESTROY;
        self.send(&request)?;
        self.receive()?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&self.buffer);
        match answer.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The connected UDP sockets of both families for which `wanted` holds, at
    /// most `limit`.
    pub(crate) fn list(
        &mut self,
        netns: u64,
        limit: usize,
        wanted: impl Fn(&Target) -> bool,
    ) -> io::Result<Vec<Target>> {
        let mut out = Vec::new();
        for (family, number, any) in [
            (Family::V4, AF_INET, SocketId::new_v4()),
            (Family::V6, AF_INET6, SocketId::new_v6()),
        ] {
            let request = InetRequest {
                family: number,
                protocol: IPPROTO_UDP,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::ESTABLISHED,
                socket_id: any,
            };
            self.send(&message(NLM_F_REQUEST | NLM_F_DUMP, request))?;
            self.dump(|header| {
                let target = target_of(family, header, netns);
                if out.len() < limit && wanted(&target) {
                    out.push(target);
                }
            })?;
        }
        Ok(out)
    }

    /// Reads a dump to its end.
    fn dump(&mut self, mut take: impl FnMut(&InetResponseHeader)) -> io::Result<()> {
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        take(&response.header);
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                let len = (message.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(len..).unwrap_or_default();
            }
        }
    }

    fn send(&self, message: &NetlinkMessage<SockDiagMessage>) -> io::Result<()> {
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0).map(drop)
    }
}

fn message(flags: u16, request: InetRequest) -> NetlinkMessage<SockDiagMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    message
}

fn request_of(target: &Target) -> InetRequest {
    InetRequest {
        family: match target.family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        },
        protocol: IPPROTO_UDP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: target.source.port(),
            destination_port: target.backend.port(),
            source_address: target.of_family(target.source.ip()),
            destination_address: target.of_family(target.backend.ip()),
            interface_id: target.device,
            cookie: cookie_bytes(target.cookie),
        },
    }
}

/// The low word, then the high one; all ones is "any" (INET_DIAG_NOCOOKIE).
fn cookie_bytes(cookie: Option<u64>) -> [u8; 8] {
    let cookie = cookie.unwrap_or(u64::MAX);
    transmute!([cookie as u32, (cookie >> 32) as u32])
}

fn cookie_of(bytes: [u8; 8]) -> u64 {
    let [low, high]: [u32; 2] = transmute!(bytes);
    u64::from(low) | u64::from(high) << 32
}

fn target_of(family: Family, header: &InetResponseHeader, netns: u64) -> Target {
    let id = &header.socket_id;
    let unmapped = |ip: IpAddr| ip.to_canonical();
    Target {
        family,
        source: SocketAddr::new(unmapped(id.source_address), id.source_port),
        backend: SocketAddr::new(unmapped(id.destination_address), id.destination_port),
        device: id.interface_id,
        cookie: Some(cookie_of(id.cookie)),
        netns,
    }
}

//! A client socket as tests need it: every address it reports is what the kernel told the
//! application (`getpeername`, `getsockname`, the source of a received datagram).

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cluster::addresses::mapped;

/// Transport protocols the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The family of the socket itself; an IPv6 one also reaches IPv4 through mapped addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, not restricted to IPv6.
    V6,
}

impl Family {
    /// The family of a socket that dials `address` without mapping.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// What went wrong, in a word that tests compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ErrorKind {
    /// ECONNREFUSED: a reset, an ICMP port-unreachable, or a hook that says so.
    Refused,
    /// No answer within the limit.
    Timeout,
    /// ENETUNREACH or EHOSTUNREACH.
    Unreachable,
    /// EPERM or EACCES: a hook or filter forbade it.
    Perm,
    /// ECONNRESET, ECONNABORTED or EPIPE: an established connection broke.
    Reset,
    /// The peer closed before it answered.
    Closed,
    /// Something else; see the error number.
    Other,
}

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind:?} during {during}: {message}")]
pub struct Failure {
    /// The kind of error.
    pub kind: ErrorKind,
    /// The operation that failed: `open`, `bind`, `connect`, `send` or `receive`.
    pub during: String,
    /// The error number, where the kernel gave one.
    pub errno: Option<i32>,
    /// The error in words.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(during: &str, error: &io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => ErrorKind::Refused,
            Some(libc::ETIMEDOUT | libc::EAGAIN) => ErrorKind::Timeout,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => ErrorKind::Unreachable,
            Some(libc::EPERM | libc::EACCES) => ErrorKind::Perm,
            Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE) => ErrorKind::Reset,
            _ => match error.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::Timeout,
                io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
                _ => ErrorKind::Other,
            },
        };
        let (errno, message) = (error.raw_os_error(), error.to_string());
        Self {
            kind,
            during: during.to_owned(),
            errno,
            message,
        }
    }
}

/// A datagram or a line, and where it came from as far as the application was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Without its line end, for TCP.
    pub data: String,
    /// The source `recvmsg` reported (UDP), or the peer (TCP).
    pub from: SocketAddr,
}

/// An open socket.
pub struct ClientSocket {
    family: Family,
    state: State,
}

enum State {
    /// TCP, not yet connected.
    Fresh(Socket),
    Tcp(BufReader<TcpStream>),
    Udp(UdpSocket),
}

impl fmt::Debug for ClientSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSocket")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

// === impl ClientSocket ===

impl ClientSocket {
    /// A new socket, bound if `bind` is given.
    pub fn open(
        protocol: Protocol,
        family: Family,
        bind: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let kind = match protocol {
            Protocol::Tcp => Type::STREAM,
            Protocol::Udp => Type::DGRAM,
        };
        let socket = Socket::new(domain, kind, None).map_err(|e| Failure::new("open", &e))?;
        let mut this = Self {
            family,
            state: State::Fresh(socket),
        };
        if let Some(bind) = bind {
            this.bind(bind).map_err(|e| Failure::new("bind", &e))?;
        }
        if let (Protocol::Udp, State::Fresh(socket)) = (protocol, &this.state) {
            let udp = socket.try_clone().map_err(|e| Failure::new("open", &e))?;
            this.state = State::Udp(udp.into());
        }
        Ok(this)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<()> {
        let State::Fresh(socket) = &self.state else {
            return Ok(());
        };
        socket.set_reuse_address(true)?;
        if self.family == Family::V6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&self.in_family(address))
    }

    /// The address as this socket's family writes it.
    fn in_family(&self, address: SocketAddr) -> SockAddr {
        match self.family {
            Family::V4 => address.into(),
            Family::V6 => SocketAddr::new(IpAddr::V6(mapped(address.ip())), address.port()).into(),
        }
    }

    fn in_family_std(&self, address: SocketAddr) -> SocketAddr {
        self.in_family(address).as_socket().unwrap_or(address)
    }

    /// Connects; a TCP handshake may take `limit`, and so may each line that is sent later.
    pub fn connect(&mut self, to: SocketAddr, limit: Duration) -> Result<(), Failure> {
        let done = match &self.state {
            State::Fresh(socket) => socket
                .connect_timeout(&self.in_family(to), limit)
                .and_then(|()| socket.try_clone())
                .and_then(|connected| {
                    let stream = TcpStream::from(connected);
                    stream.set_nodelay(true)?;
                    // A path that swallows large packets must not hold the client up.
                    stream.set_write_timeout(Some(limit))?;
                    self.state = State::Tcp(BufReader::new(stream));
                    Ok(())
                }),
            State::Udp(udp) => udp.connect(self.in_family_std(to)),
            State::Tcp(_) => Err(io::Error::from_raw_os_error(libc::EISCONN)),
        };
        done.map_err(|e| Failure::new("connect", &e))
    }

    /// Sends one datagram to the connected peer, or one line.
    pub fn send(&mut self, data: &str) -> Result<(), Failure> {
        let done = match &mut self.state {
            State::Tcp(stream) => stream.get_mut().write_all(format!("{data}\n").as_bytes()),
            State::Udp(udp) => udp.send(data.as_bytes()).map(|_| ()),
            State::Fresh(_) => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        };
        done.map_err(|e| Failure::new("send", &e))
    }

    /// Sends one datagram to `to` without connecting.
    pub fn send_to(&mut self, to: SocketAddr, data: &str) -> Result<(), Failure> {
        let done = match &self.state {
            State::Udp(udp) => udp
                .send_to(data.as_bytes(), self.in_family_std(to))
                .map(|_| ()),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        done.map_err(|e| Failure::new("send", &e))
    }

    /// Waits up to `limit` for one datagram or one line.
    pub fn receive(&mut self, limit: Duration) -> Result<Received, Failure> {
        let limit = Some(limit.max(Duration::from_micros(1)));
        let received = match &mut self.state {
            State::Udp(udp) => udp.set_read_timeout(limit).and_then(|()| {
                let mut buffer = vec![0; 65_535];
                let (length, from) = udp.recv_from(&mut buffer)?;
                let data = String::from_utf8_lossy(&buffer[..length]).into_owned();
                Ok(Received { data, from })
            }),
            State::Tcp(stream) => receive_line(stream, limit),
            State::Fresh(_) => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        };
        received.map_err(|e| Failure::new("receive", &e))
    }

    /// `getpeername`.
    pub fn peer(&self) -> Result<SocketAddr, Failure> {
        let peer = match &self.state {
            State::Tcp(stream) => stream.get_ref().peer_addr(),
            State::Udp(udp) => udp.peer_addr(),
            State::Fresh(_) => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        };
        peer.map_err(|e| Failure::new("getpeername", &e))
    }

    /// `getsockname`.
    pub fn local(&self) -> Result<SocketAddr, Failure> {
        let local = match &self.state {
            State::Tcp(stream) => stream.get_ref().local_addr(),
            State::Udp(udp) => udp.local_addr(),
            State::Fresh(socket) => socket.local_addr().and_then(|a| {
                a.as_socket()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::Other))
            }),
        };
        local.map_err(|e| Failure::new("getsockname", &e))
    }

    /// Takes the error the kernel holds for this socket (`SO_ERROR`), as `poll` would show it.
    pub fn pending_error(&self) -> Result<(), Failure> {
        let pending = match &self.state {
            State::Tcp(stream) => stream.get_ref().take_error(),
            State::Udp(udp) => udp.take_error(),
            State::Fresh(socket) => socket.take_error(),
        };
        match pending {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(Failure::new("poll", &error)),
        }
    }

    /// Makes closing send a reset, so that the local port is free at once.
    pub fn abort_on_close(&self) {
        let linger = Some(Duration::ZERO);
        // Without it the port stays in TIME_WAIT: slower, not wrong.
        let _ = match &self.state {
            State::Tcp(stream) => socket2::SockRef::from(stream.get_ref()).set_linger(linger),
            State::Fresh(socket) => socket.set_linger(linger),
            State::Udp(_) => Ok(()),
        };
    }
}

fn receive_line(
    stream: &mut BufReader<TcpStream>,
    limit: Option<Duration>,
) -> io::Result<Received> {
    stream.get_ref().set_read_timeout(limit)?;
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let from = stream.get_ref().peer_addr()?;
    let data = String::from_utf8_lossy(&line).trim_end().to_owned();
    Ok(Received { data, from })
}

/// Counts by kind, for summaries.
pub type Failures = BTreeMap<ErrorKind, u64>;

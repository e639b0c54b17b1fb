//! The listening socket and its connections: outages and resumption.
//!
//! An outage shuts the listening socket down and resets every connection, so
//! clients see "connection refused" as with a dead server. The bound socket is
//! kept; listening again needs no bind, hence works for sockets made inside a
//! network namespace the process is not in.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use nix::{
    libc,
    sys::socket::{self, Backlog, Shutdown, setsockopt, sockopt},
};
use std::os::fd::AsRawFd;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Switches the server on and off.
#[derive(Debug)]
pub(super) struct Gate {
    socket: StdListener,
    address: SocketAddr,
    open: watch::Sender<bool>,
    /// Cancelled to reset the connections accepted so far, then replaced.
    connections: Mutex<CancellationToken>,
}

impl Gate {
    pub(super) fn new(socket: StdListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let connections = Mutex::new(CancellationToken::new());
        Ok(Self {
            socket,
            address,
            open: watch::Sender::new(true),
            connections,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections; new ones are welcome.
    pub(super) fn reset_connections(&self) {
        let mut token = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *token).cancel();
    }

    /// Refuses connections and resets those that exist.
    pub(super) fn close(&self) -> io::Result<()> {
        self.open.send_replace(false);
        socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both)?;
        self.reset_connections();
        Ok(())
    }

    /// Accepts connections again, at the same address.
    pub(super) fn reopen(&self) -> io::Result<()> {
        socket::listen(&self.socket, Backlog::new(BACKLOG)?)?;
        let address = self.socket.local_addr()?;
        if address != self.address {
            let text = format!(
                "listening moved from {} to {address}: bind a fixed port",
                self.address
            );
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        self.open.send_replace(true);
        Ok(())
    }

    fn token(&self) -> CancellationToken {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Accepts while the gate is open.
pub(super) struct GatedListener {
    gate: Arc<Gate>,
    open: watch::Receiver<bool>,
    /// Absent during an outage: epoll must not keep reporting the dead socket.
    listener: Option<TcpListener>,
}

impl GatedListener {
    pub(super) fn new(gate: Arc<Gate>) -> io::Result<Self> {
        let listener = Some(TcpListener::from_std(gate.socket.try_clone()?)?);
        let open = gate.open.subscribe();
        Ok(Self {
            gate,
            open,
            listener,
        })
    }

    async fn try_accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        // An outage leaves the socket's registration with epoll hung up for good, also
        // one that is over before we look: accept() would spin on it.
        if self.open.has_changed().unwrap_or(true) {
            self.listener = None;
        }
        if !*self.open.borrow_and_update() {
            self.listener = None;
            // The gate lives as long as the listener, so the sender is never gone.
            let _ = self.open.wait_for(|open| *open).await;
        }
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => TcpListener::from_std(self.gate.socket.try_clone()?)?,
        };
        let listener = self.listener.insert(listener);
        tokio::select! {
            accepted = listener.accept() => accepted,
            _ = self.open.changed() => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

impl axum::serve::Listener for GatedListener {
    type Io = Resettable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Resettable, SocketAddr) {
        loop {
            match self.try_accept().await {
                Ok((stream, peer)) => {
                    // Watch events are small writes that must not wait for each other.
                    let _ = stream.set_nodelay(true);
                    let reset = Box::pin(self.gate.token().cancelled_owned());
                    return (Resettable { stream, reset }, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.gate.address)
    }
}

/// A connection that can be reset from outside.
pub(super) struct Resettable {
    stream: TcpStream,
    reset: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Resettable {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.reset.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        // RST instead of FIN when the stream is dropped.
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

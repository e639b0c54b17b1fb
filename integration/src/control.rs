//! The typed handle on a long-lived client (`lb-agent control`) in a pod.
//!
//! Two layers of failure: the outer [`anyhow::Result`] means that the client process is broken;
//! the inner `Result<_, Failure>` is what the network or a hook did to the socket, which is what
//! tests look at.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{ChildStdin, ChildStdout, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    agent::{
        dial::{Dial, Dialed, Summary},
        http::Reply,
        session::{Request, Response},
        socket::{Failure, Family, Protocol, Received},
    },
    binaries,
    process::{Options, Placement, Process},
};

/// A client process that holds sockets.
#[derive(Debug)]
pub struct Control {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A socket held by a [`Control`]; valid until it is closed or the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(u32);

/// What an operation on a socket gave.
pub type Outcome<T> = Result<T, Failure>;

// === impl Control ===

impl Control {
    /// Starts a client.
    pub fn start(placement: &Placement) -> Result<Self> {
        let mut command = Command::new(binaries::find("lb-agent")?);
        command.arg("control");
        let options = Options {
            piped: true,
            outlive: false,
        };
        Self::over(placement.spawn_with(command, options)?)
    }

    /// Speaks to a client (`lb-agent control`, wherever it runs) over the pipes of a process.
    pub fn over(mut process: Process) -> Result<Self> {
        let (input, output) = process.take_pipes().context("the client has no pipes")?;
        Ok(Self {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    /// A new socket; `bind` is its local address and port (port 0: any).
    pub fn open(
        &mut self,
        protocol: Protocol,
        family: Family,
        bind: Option<SocketAddr>,
    ) -> Result<Outcome<SocketId>> {
        match self.call(&Request::Open {
            protocol,
            family,
            bind,
        })? {
            Response::Socket(id) => Ok(Ok(SocketId(id))),
            other => failed(other),
        }
    }

    /// Opens a socket of the family of `to` and connects it.
    pub fn connect_new(&mut self, protocol: Protocol, to: SocketAddr) -> Result<Outcome<SocketId>> {
        let socket = match self.open(protocol, Family::of(to.ip()), None)? {
            Ok(socket) => socket,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self
            .connect(socket, to, Duration::from_secs(2))?
            .map(|()| socket))
    }

    /// Connects; a TCP handshake may take `limit`.
    pub fn connect(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        limit: Duration,
    ) -> Result<Outcome<()>> {
        let timeout_ms = limit.as_millis() as u64;
        self.done(&Request::Connect {
            socket: socket.0,
            to,
            timeout_ms,
        })
    }

    /// Sends a datagram to the connected peer, or a line.
    pub fn send(&mut self, socket: SocketId, data: &str) -> Result<Outcome<()>> {
        self.done(&Request::Send {
            socket: socket.0,
            data: data.to_owned(),
        })
    }

    /// Sends a datagram without connecting.
    pub fn send_to(&mut self, socket: SocketId, to: SocketAddr, data: &str) -> Result<Outcome<()>> {
        self.done(&Request::SendTo {
            socket: socket.0,
            to,
            data: data.to_owned(),
        })
    }

    /// Waits for a datagram or a line.
    pub fn receive(&mut self, socket: SocketId, limit: Duration) -> Result<Outcome<Received>> {
        let timeout_ms = limit.as_millis() as u64;
        match self.call(&Request::Receive {
            socket: socket.0,
            timeout_ms,
        })? {
            Response::Received(received) => Ok(Ok(received)),
            other => failed(other),
        }
    }

    /// Sends a request and waits up to two seconds for its reply.
    pub fn ask(&mut self, socket: SocketId, request: &str) -> Result<Outcome<Received>> {
        if let Err(failure) = self.send(socket, request)? {
            return Ok(Err(failure));
        }
        self.receive(socket, Duration::from_secs(2))
    }

    /// The same without connecting the socket.
    pub fn ask_at(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        request: &str,
    ) -> Result<Outcome<Received>> {
        if let Err(failure) = self.send_to(socket, to, request)? {
            return Ok(Err(failure));
        }
        self.receive(socket, Duration::from_secs(2))
    }

    /// `getpeername`.
    pub fn peer(&mut self, socket: SocketId) -> Result<Outcome<SocketAddr>> {
        self.address(&Request::Peer { socket: socket.0 })
    }

    /// `getsockname`.
    pub fn local(&mut self, socket: SocketId) -> Result<Outcome<SocketAddr>> {
        self.address(&Request::Local { socket: socket.0 })
    }

    /// Takes the error the kernel holds for the socket.
    pub fn pending_error(&mut self, socket: SocketId) -> Result<Outcome<()>> {
        self.done(&Request::PendingError { socket: socket.0 })
    }

    /// Makes closing send a reset, so that the local port is free at once.
    pub fn abort_on_close(&mut self, socket: SocketId) -> Result<Outcome<()>> {
        self.done(&Request::AbortOnClose { socket: socket.0 })
    }

    /// Closes a socket.
    pub fn close(&mut self, socket: SocketId) -> Result<Outcome<()>> {
        self.done(&Request::Close { socket: socket.0 })
    }

    /// One request over a new socket.
    pub fn dial(&mut self, dial: &Dial) -> Result<Dialed> {
        match self.call(&Request::Dial { dial: dial.clone() })? {
            Response::Dialed(dialed) => Ok(dialed),
            other => bail!("the client answered {other:?}"),
        }
    }

    /// The same `count` times in a row.
    pub fn dial_many(&mut self, dial: &Dial, count: u64) -> Result<Summary> {
        self.dial_for(dial, count, Duration::ZERO, None)
    }

    /// The same with a pause in between, and an end after `limit` even if the count is not
    /// reached.
    pub fn dial_for(
        &mut self,
        dial: &Dial,
        count: u64,
        interval: Duration,
        limit: Option<Duration>,
    ) -> Result<Summary> {
        let interval_ms = interval.as_millis() as u64;
        let limit_ms = limit.map(|l| l.as_millis() as u64);
        let dial = dial.clone();
        match self.call(&Request::DialMany {
            dial,
            count,
            interval_ms,
            limit_ms,
        })? {
            Response::Summary(summary) => Ok(summary),
            other => bail!("the client answered {other:?}"),
        }
    }

    /// GETs a path over a new connection.
    pub fn http_get(
        &mut self,
        to: SocketAddr,
        path: &str,
        limit: Duration,
    ) -> Result<Outcome<Reply>> {
        let (path, timeout_ms) = (path.to_owned(), limit.as_millis() as u64);
        match self.call(&Request::HttpGet {
            to,
            path,
            timeout_ms,
        })? {
            Response::Http(reply) => Ok(Ok(reply)),
            other => failed(other),
        }
    }

    /// The client process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn done(&mut self, request: &Request) -> Result<Outcome<()>> {
        match self.call(request)? {
            Response::Done => Ok(Ok(())),
            other => failed(other),
        }
    }

    fn address(&mut self, request: &Request) -> Result<Outcome<SocketAddr>> {
        match self.call(request)? {
            Response::Address(address) => Ok(Ok(address)),
            other => failed(other),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Response> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let written = self.input.write_all(line.as_bytes());
        written.with_context(|| format!("the client is gone: {}", self.process.stderr()))?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            bail!("the client ended: {}", self.process.stderr());
        }
        serde_json::from_str(&answer).with_context(|| format!("the client said {answer}"))
    }
}

fn failed<T>(response: Response) -> Result<Outcome<T>> {
    match response {
        Response::Failed(failure) => Ok(Err(failure)),
        other => bail!("the client answered {other:?}"),
    }
}

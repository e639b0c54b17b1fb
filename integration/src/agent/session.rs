//! The long-lived client: requests as JSON lines on stdin, responses as JSON lines on stdout.
//!
//! It holds sockets across requests, so that a test can keep connections and UDP sockets alive
//! while the cluster changes under them.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    dial::{Dial, Dialed, Summary},
    http,
    socket::{ClientSocket, ErrorKind, Failure, Family, Protocol, Received},
};

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are the arguments of `ClientSocket`'s methods"
)]
pub enum Request {
    Open {
        protocol: Protocol,
        family: Family,
        bind: Option<SocketAddr>,
    },
    Connect {
        socket: u32,
        to: SocketAddr,
        timeout_ms: u64,
    },
    Send {
        socket: u32,
        data: String,
    },
    SendTo {
        socket: u32,
        to: SocketAddr,
        data: String,
    },
    Receive {
        socket: u32,
        timeout_ms: u64,
    },
    Peer {
        socket: u32,
    },
    Local {
        socket: u32,
    },
    PendingError {
        socket: u32,
    },
    AbortOnClose {
        socket: u32,
    },
    Close {
        socket: u32,
    },
    Dial {
        dial: Dial,
    },
    DialMany {
        dial: Dial,
        count: u64,
        interval_ms: u64,
        limit_ms: Option<u64>,
    },
    HttpGet {
        to: SocketAddr,
        path: String,
        timeout_ms: u64,
    },
}

/// The response to one request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named after what the requests return")]
pub enum Response {
    Socket(u32),
    Done,
    Received(Received),
    Address(SocketAddr),
    Dialed(Dialed),
    Summary(Summary),
    Http(http::Reply),
    Failed(Failure),
}

/// Serves requests until stdin closes.
pub fn run(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut sockets = Sockets::default();
    for line in input.lines() {
        let response = match serde_json::from_str(&line?) {
            Ok(request) => sockets.handle(request).unwrap_or_else(Response::Failed),
            Err(error) => Response::Failed(failure("parse", &error.to_string())),
        };
        serde_json::to_writer(&mut output, &response)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Sockets {
    open: BTreeMap<u32, ClientSocket>,
    next: u32,
}

// === impl Sockets ===

impl Sockets {
    fn handle(&mut self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Open {
                protocol,
                family,
                bind,
            } => {
                let socket = ClientSocket::open(protocol, family, bind)?;
                self.next += 1;
                self.open.insert(self.next, socket);
                Ok(Response::Socket(self.next))
            }
            Request::Connect {
                socket,
                to,
                timeout_ms,
            } => {
                self.get(socket)?
                    .connect(to, Duration::from_millis(timeout_ms))?;
                Ok(Response::Done)
            }
            Request::Send { socket, data } => {
                self.get(socket)?.send(&data)?;
                Ok(Response::Done)
            }
            Request::SendTo { socket, to, data } => {
                self.get(socket)?.send_to(to, &data)?;
                Ok(Response::Done)
            }
            Request::Receive { socket, timeout_ms } => {
                let limit = Duration::from_millis(timeout_ms);
                Ok(Response::Received(self.get(socket)?.receive(limit)?))
            }
            Request::Peer { socket } => Ok(Response::Address(self.get(socket)?.peer()?)),
            Request::Local { socket } => Ok(Response::Address(self.get(socket)?.local()?)),
            Request::PendingError { socket } => {
                self.get(socket)?.pending_error()?;
                Ok(Response::Done)
            }
            Request::AbortOnClose { socket } => {
                self.get(socket)?.abort_on_close();
                Ok(Response::Done)
            }
            Request::Close { socket } => {
                self.open.remove(&socket);
                Ok(Response::Done)
            }
            Request::Dial { dial } => Ok(Response::Dialed(dial.run())),
            Request::DialMany {
                dial,
                count,
                interval_ms,
                limit_ms,
            } => {
                let deadline = limit_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
                let interval = Duration::from_millis(interval_ms);
                Ok(Response::Summary(dial.run_many(count, interval, deadline)))
            }
            Request::HttpGet {
                to,
                path,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms);
                Ok(Response::Http(http::fetch(to, &path, limit)?))
            }
        }
    }

    fn get(&mut self, socket: u32) -> Result<&mut ClientSocket, Failure> {
        self.open
            .get_mut(&socket)
            .ok_or_else(|| failure("lookup", "no such socket"))
    }
}

fn failure(during: &str, message: &str) -> Failure {
    let (during, message) = (during.to_owned(), message.to_owned());
    Failure {
        kind: ErrorKind::Other,
        during,
        errno: None,
        message,
    }
}

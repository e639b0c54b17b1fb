//! The traffic server and client: the library behind the `lb-agent` program.
//!
//! One line-based protocol over TCP and UDP (a datagram is a line):
//!
//! | request | reply |
//! |---|---|
//! | `hostname` | the server's `--name` |
//! | `clientip` | the peer's `ip:port` as the server sees it |
//! | `serverport` | the port the request arrived at |
//! | `serveraddr` | the local `ip:port` the request arrived at |
//! | `echo <data>` | `<data>` |
//! | `body <n>` | `n` letters |
//! | `length <data>` | the length of `<data>` |
//! | `stream` | (TCP) `streaming`, then every line back, until the client closes |
//!
//! A TCP connection may carry any number of requests. The TCP ports also speak enough HTTP for
//! curl: `GET /hostname`, `/clientip`, `/serverport`, `/serveraddr`, `/echo?msg=TEXT`.

pub mod dial;
pub mod http;
pub mod serve;
pub mod session;
pub mod socket;

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    binaries,
    process::{Placement, Process},
};

/// What a traffic server does.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// What it answers to `hostname`.
    pub name: String,
    /// TCP addresses to listen on.
    pub tcp: Vec<SocketAddr>,
    /// UDP addresses to answer from. Bind addresses, not wildcards: a reply leaves from the
    /// address it was bound to.
    pub udp: Vec<SocketAddr>,
    /// How long to go on serving after SIGTERM.
    pub delay_shutdown: Duration,
}

/// The line a server prints when all its sockets are bound.
pub const READY: &str = "ready";

/// Starts `lb-agent serve` and waits until it listens.
pub fn start_server(placement: &Placement, options: &ServeOptions) -> Result<Process> {
    let mut command = Command::new(binaries::find("lb-agent")?);
    command.args(["serve", "--name", &options.name]);
    for address in &options.tcp {
        command.args(["--tcp", &address.to_string()]);
    }
    for address in &options.udp {
        command.args(["--udp", &address.to_string()]);
    }
    command.args([
        "--delay-shutdown",
        &options.delay_shutdown.as_secs_f64().to_string(),
    ]);
    let mut server = placement.spawn(command)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.stdout().contains(READY) {
        if let Some(status) = server.try_wait()? {
            bail!(
                "{} ended with {status}: {}",
                server.command_line(),
                server.stderr()
            );
        }
        if Instant::now() > deadline {
            bail!(
                "{} is not ready: {}",
                server.command_line(),
                server.stderr()
            );
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(server)
}

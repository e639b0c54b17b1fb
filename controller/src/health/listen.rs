//! Listening: once, or again and again until it works (rule J16).

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long after a failure the next attempt comes.
pub const RETRY: Duration = Duration::from_secs(5);

const BACKLOG: u32 = 128;

/// Serves `routes` at `address` until `stop`. What fails is tried again, after `failed` was
/// told.
///
/// # Errors
/// The first attempt failed, and `hard_fail` asks for no other.
pub async fn listen(
    address: SocketAddr,
    routes: Router,
    hard_fail: bool,
    stop: CancellationToken,
    failed: impl Fn(&io::Error) + Send + 'static,
) -> io::Result<()> {
    let first = TcpListener::bind(address).await;
    if let Err(error) = &first {
        failed(error);
    }
    let mut listener = match first {
        Err(error) if hard_fail => return Err(error),
        first => first.ok(),
    };
    tokio::spawn(async move {
        loop {
            if let Some(listener) = listener.take() {
                let stopped = stop.clone().cancelled_owned();
                let served = axum::serve(listener, routes.clone()).with_graceful_shutdown(stopped);
                match served.await {
                    Ok(()) => return,
                    Err(error) => failed(&error),
                }
            }
            if stop.run_until_cancelled(sleep(RETRY)).await.is_none() {
                return;
            }
            match TcpListener::bind(address).await {
                Ok(bound) => {
                    info!(%address, "listening at last");
                    listener = Some(bound);
                }
                Err(error) => failed(&error),
            }
        }
    });
    Ok(())
}

/// A socket that listens at `address`, in its family alone.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says that listening failed.
pub(crate) fn warn_of(what: &str, address: SocketAddr, error: &io::Error) {
    warn!(%address, %error, retry_in = ?RETRY, "cannot listen for {what}");
}

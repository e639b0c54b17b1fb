//! A way from the nodes to a server on this machine's own network, or beyond: connections to the
//! fabric's address are carried on by a thread outside the namespaces.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::netns::Netns;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Listens at `at` in the fabric and connects to `server`, for as long as this process lives.
pub(super) fn start(fabric: &Netns, at: SocketAddr, server: SocketAddr) -> Result<()> {
    let listener = fabric.run(|| TcpListener::bind(at))??;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            thread::spawn(move || {
                // Who dialled sees its connection end, as with a server that is away.
                let _ = carry(&near, server);
            });
        }
    });
    Ok(())
}

fn carry(near: &TcpStream, server: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect_timeout(&server, CONNECT_LIMIT)?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
    }
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let back = thread::spawn(move || pump(&far_too, &near_too));
    pump(near, &far);
    let _ = back.join();
    Ok(())
}

/// Copies until one end is closed, and passes the end on.
fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

//! The ways to tell a socket, on real sockets of this machine's loopback.
//!
//! Each test is about a port of its own, so that no other socket can be meant.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{
    diag::Diag,
    target::{Family, Target},
    tell::Teller,
};
use crate::{kernel, sys};

/// Whether this process may do what is tested.
fn privileged() -> bool {
    kernel::check_privileges()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .is_ok()
}

/// A backend that holds its port and never answers, and a socket connected to it.
fn connected(address: &str) -> (UdpSocket, UdpSocket) {
    let backend = UdpSocket::bind((address, 0)).unwrap();
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.connect(backend.local_addr().unwrap()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    (backend, socket)
}

fn target(socket: &UdpSocket) -> Target {
    let source = socket.local_addr().unwrap();
    Target {
        family: if source.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        },
        source,
        backend: socket.peer_addr().unwrap(),
        device: 0,
        cookie: None,
        netns: sys::netns_cookie(socket).unwrap(),
    }
}

fn error_of(socket: &UdpSocket) -> Option<i32> {
    socket.recv(&mut [0]).unwrap_err().raw_os_error()
}

#[test]
fn a_destroyed_socket_reports_econnaborted_to_a_reader_that_waits() {
    if !privileged() {
        return;
    }
    for address in ["127.0.0.1", "::1"] {
        let (_backend, socket) = connected(address);
        let target = target(&socket);
        let reader = std::thread::spawn(move || (error_of(&socket), Instant::now()));
        std::thread::sleep(Duration::from_millis(50));
        let told = Instant::now();
        let outcome = Teller::new(true).tell(vec![target.clone()]);
        assert_eq!(outcome.destroyed, [target]);
        let (error, woken) = reader.join().unwrap();
        assert_eq!(error, Some(libc::ECONNABORTED));
        assert!(woken.duration_since(told) < Duration::from_millis(200));
    }
}

#[test]
fn a_socket_is_notified_where_it_cannot_be_destroyed() {
    if !privileged() {
        return;
    }
    for address in ["127.0.0.1", "::1"] {
        let (_backend, socket) = connected(address);
        // A namespace that nobody can enter.
        let target = Target {
            netns: u64::MAX,
            ..target(&socket)
        };
        let outcome = Teller::new(true).tell(vec![target.clone()]);
        assert_eq!(outcome.notified, [target]);
        assert_eq!(error_of(&socket), Some(libc::ECONNREFUSED));
    }
}

#[test]
fn a_cookie_of_another_socket_destroys_nothing() {
    if !privileged() {
        return;
    }
    let (_backend, socket) = connected("127.0.0.1");
    let target = Target {
        cookie: Some(u64::MAX - 1),
        ..target(&socket)
    };
    let error = Diag::open().unwrap().destroy(&target).unwrap_err();
    assert_ne!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
    assert_eq!(error_of(&socket), Some(libc::EAGAIN));
}

#[test]
fn without_records_the_sockets_of_an_address_are_found_by_destination() {
    if !privileged() {
        return;
    }
    let twins: Vec<_> = ["127.0.0.1", "::1"].map(connected).into();
    let (_other_backend, other) = connected("127.0.0.1");
    let backends: Vec<SocketAddr> = twins
        .iter()
        .map(|(backend, _)| backend.local_addr().unwrap())
        .collect();
    // An IPv6 socket that is connected to the IPv4 backend.
    let mapped = UdpSocket::bind("[::]:0").unwrap();
    mapped
        .connect(("::ffff:127.0.0.1", backends[0].port()))
        .unwrap();
    mapped
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let outcome = Teller::new(true).tell_all(|t| backends.contains(&t.backend), 10);
    assert_eq!(outcome.destroyed.len(), 3, "{outcome:?}");
    for socket in twins.iter().map(|(_, socket)| socket).chain([&mapped]) {
        assert_eq!(error_of(socket), Some(libc::ECONNABORTED));
    }
    assert_eq!(
        other.recv(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_limit_is_kept() {
    if !privileged() {
        return;
    }
    let (backend, first) = connected("127.0.0.1");
    let second = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    second.connect(address).unwrap();
    second
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let outcome = Teller::new(true).tell_all(|t| t.backend == address, 1);
    assert_eq!(outcome.destroyed.len(), 1);
    let mut errors = [error_of(&first), error_of(&second)];
    errors.sort_unstable();
    assert_eq!(errors, [Some(libc::EAGAIN), Some(libc::ECONNABORTED)]);
}

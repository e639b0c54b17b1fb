//! Backends and traps: each answers with one byte that says who it is.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};

/// Port of the VIPs.
pub(crate) const VIP_PORT: u16 = 80;
/// Port of the backends.
pub(crate) const BACKEND_PORT: u16 = 8080;
/// Backends of each Service.
pub(crate) const BACKENDS: u8 = 8;
/// What a VIP itself answers: the connection was not translated.
pub(crate) const TRAP: u8 = b'x';

/// One of the two Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    A,
    B,
}

impl Who {
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::A => b'a',
            Self::B => b'b',
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn vip(self) -> SocketAddr {
        let ip = Ipv4Addr::new(127, 96, 0, 1 + self as u8);
        SocketAddr::new(IpAddr::V4(ip), VIP_PORT)
    }

    pub(crate) fn backend(self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 1, self as u8, 1 + number))
    }
}

/// Starts them all; their threads end with the process.
pub(crate) fn start() {
    for who in Who::BOTH {
        serve(who.vip(), TRAP);
        for number in 0..BACKENDS {
            let addr = SocketAddr::new(who.backend(number), BACKEND_PORT);
            serve(addr, who.byte());
        }
    }
}

fn serve(addr: SocketAddr, byte: u8) {
    let tcp = TcpListener::bind(addr).expect("a free port");
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            // A client that has gone away is its own business.
            let _ = stream.write_all(&[byte]);
        }
    });
    let udp = UdpSocket::bind(addr).expect("a free port");
    thread::spawn(move || {
        let mut buffer = [0; 8];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&[byte], from);
        }
    });
}

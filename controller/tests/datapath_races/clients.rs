//! Clients: connected TCP, connected UDP and unconnected UDP, in loops.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::servers::Who;

/// For each Service a number that is odd while the Service may be absent or empty.
#[derive(Debug, Default)]
pub(crate) struct Gates([AtomicU32; 2]);

impl Gates {
    pub(crate) fn step(&self, who: Who) {
        self.0[who.index()].fetch_add(1, Ordering::SeqCst);
    }

    fn read(&self, who: Who) -> u32 {
        self.0[who.index()].load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Answered by a backend of the Service that was dialled.
    pub(crate) answered: u64,
    /// Not answered, or not translated, while the Service may have been absent.
    pub(crate) excused: u64,
    /// What must not happen.
    pub(crate) violations: Vec<String>,
}

pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Figures>>,
}

type Dial = fn(SocketAddr) -> io::Result<u8>;

impl Clients {
    pub(crate) fn start(gates: &Arc<Gates>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let dials: [(&'static str, Dial); 3] = [
            ("tcp", tcp),
            ("connected udp", connected_udp),
            ("unconnected udp", unconnected_udp),
        ];
        let threads = dials
            .into_iter()
            .map(|(name, dial)| {
                let (gates, stop) = (Arc::clone(gates), Arc::clone(&stop));
                thread::spawn(move || run(name, dial, &gates, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    pub(crate) fn stop(self) -> Figures {
        self.stop.store(true, Ordering::SeqCst);
        let mut total = Figures::default();
        for thread in self.threads {
            let mut figures = thread.join().expect("a client that does not panic");
            total.answered += figures.answered;
            total.excused += figures.excused;
            total.violations.append(&mut figures.violations);
        }
        total
    }
}

fn run(name: &str, dial: Dial, gates: &Gates, stop: &AtomicBool) -> Figures {
    let mut figures = Figures::default();
    while !stop.load(Ordering::Relaxed) {
        for who in Who::BOTH {
            let before = gates.read(who);
            let answer = dial(who.vip());
            let excused = before % 2 == 1 || gates.read(who) != before;
            let other = Who::BOTH.into_iter().find(|other| *other != who);
            match answer {
                Ok(byte) if byte == who.byte() => figures.answered += 1,
                Ok(byte) if other.is_some_and(|other| byte == other.byte()) => {
                    figures
                        .violations
                        .push(format!("{name}: dialled {who:?}, reached the other"));
                }
                _ if excused => figures.excused += 1,
                other => figures
                    .violations
                    .push(format!("{name}: dialled {who:?}, got {other:?}")),
            }
        }
    }
    figures
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(2));

fn tcp(vip: SocketAddr) -> io::Result<u8> {
    let mut stream = TcpStream::connect(vip)?;
    // Closing resets the connection: no port stays in TIME_WAIT.
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger)?;
    stream.set_read_timeout(PATIENCE)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    seen_as(stream.peer_addr()?, vip, byte[0])
}

fn connected_udp(vip: SocketAddr) -> io::Result<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(PATIENCE)?;
    socket.connect(vip)?;
    socket.send(b"?")?;
    let mut byte = [0];
    let (_, from) = socket.recv_from(&mut byte)?;
    seen_as(from, vip, byte[0])
}

fn unconnected_udp(vip: SocketAddr) -> io::Result<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(PATIENCE)?;
    socket.send_to(b"?", vip)?;
    let mut byte = [0];
    let (_, from) = socket.recv_from(&mut byte)?;
    seen_as(from, vip, byte[0])
}

/// The application must see the address that it dialled, whoever answers.
fn seen_as(seen: SocketAddr, vip: SocketAddr, byte: u8) -> io::Result<u8> {
    if seen == vip {
        Ok(byte)
    } else {
        Err(io::Error::other(format!("{vip} is seen as {seen}")))
    }
}

//! The client's side of [`protocol`](super::protocol).

use std::{
    fs,
    io::{self, BufRead, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    unistd::Pid,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::protocol::{Answer, Request, Work};
use crate::cluster::PORTS;

/// Not counted, at the head of each batch: another client has just had the caches.
const WARM_UP: usize = 5;

/// Where a client runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of its network namespace
    #[arg(long)]
    netns: PathBuf,
    /// File of the network namespace of its servers, if that is another one
    #[arg(long)]
    pod_netns: Option<PathBuf>,
    /// Its cgroup
    #[arg(long)]
    cgroup: PathBuf,
    /// Its CPU
    #[arg(long)]
    cpu: usize,
}

/// Answers requests from standard input until it ends.
pub fn run(args: &Args) -> Result<()> {
    enter(args)?;
    let netns = open(&args.netns)?;
    // A socket stays in the namespace in which it was made, wherever its maker goes.
    let pod = open(args.pod_netns.as_deref().unwrap_or(&args.netns))?;
    setns(&pod, CloneFlags::CLONE_NEWNET)?;
    let listener = listen()?;
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        setns(&pod, CloneFlags::CLONE_NEWNET)?;
        let servers = servers(&request)?;
        setns(&netns, CloneFlags::CLONE_NEWNET)?;
        let answer = match request.work {
            Work::Tcp => tcp(&request, &listener),
            Work::FirstDatagram | Work::UdpConnect => udp_connect(&request),
            Work::Datagrams => datagrams(&request, &servers),
        };
        let answer = answer.with_context(|| format!("{:?}", request.work))?;
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn enter(args: &Args) -> Result<()> {
    let procs = args.cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("joining {}", procs.display()))?;
    let mut cpus = CpuSet::new();
    cpus.set(args.cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    Ok(())
}

fn open(path: &Path) -> Result<fs::File> {
    fs::File::open(path).with_context(|| format!("opening {}", path.display()))
}

fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORTS.1)).into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn destination(request: &Request) -> Result<SockAddr> {
    let ip = fastrand::choice(&request.to).context("no destination")?;
    Ok(SocketAddr::new(*ip, request.port).into())
}

fn nanos(since: Instant) -> u32 {
    since.elapsed().as_nanos().try_into().unwrap_or(u32::MAX)
}

fn tcp(request: &Request, listener: &TcpListener) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut began = Instant::now();
    for time in 0..WARM_UP + request.times {
        if time == WARM_UP {
            drain(listener)?;
            began = Instant::now();
        }
        let to = destination(request)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let started = Instant::now();
        socket.connect(&to)?;
        let took = nanos(started);
        socket.set_linger(Some(Duration::ZERO))?;
        drop(socket);
        if time >= WARM_UP {
            answer.first.push(took);
        }
    }
    drain(listener)?;
    answer.whole = u64::from(nanos(began));
    Ok(answer)
}

/// Accepts and closes everything that waits.
fn drain(listener: &TcpListener) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => drop(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // A connection that was reset before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A UDP socket at each endpoint; none for TCP.
fn servers(request: &Request) -> Result<Vec<UdpSocket>> {
    if request.work == Work::Tcp {
        return Ok(Vec::new());
    }
    let bound = request.servers.iter().map(|ip| -> io::Result<_> {
        let socket = UdpSocket::bind((*ip, PORTS.1))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    Ok(bound.collect::<io::Result<_>>()?)
}

fn udp_connect(request: &Request) -> Result<Answer> {
    let mut answer = Answer::default();
    let began = Instant::now();
    for time in 0..WARM_UP + request.times {
        let to = destination(request)?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let started = Instant::now();
        socket.connect(&to)?;
        if request.work == Work::FirstDatagram {
            socket.send(b"first")?;
        }
        let took = nanos(started);
        if time >= WARM_UP {
            answer.first.push(took);
        }
    }
    answer.whole = u64::from(nanos(began));
    Ok(answer)
}

fn datagrams(request: &Request, servers: &[UdpSocket]) -> Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let to = SocketAddr::new(*request.to.first().context("no destination")?, request.port);
    let mut answer = Answer::default();
    let mut buffer = [0; 16];
    let began = Instant::now();
    // The socket keeps its backend, so after the first datagram we know whom to ask.
    let mut server = 0;
    for time in 0..WARM_UP + request.times {
        let started = Instant::now();
        socket.send_to(b"datagram", to)?;
        let sent = nanos(started);
        server = answer_one(servers, server)?;
        let started = Instant::now();
        let (_, from) = socket.recv_from(&mut buffer)?;
        let received = nanos(started);
        if from != to {
            bail!("an answer from {from} instead of {to}");
        }
        if time >= WARM_UP {
            answer.first.push(sent);
            answer.second.push(received);
        }
    }
    answer.whole = u64::from(nanos(began));
    Ok(answer)
}

/// Finds the server that has a datagram, `likely` first, and answers it.
fn answer_one(servers: &[UdpSocket], likely: usize) -> Result<usize> {
    let mut buffer = [0; 16];
    for offset in 0..servers.len() {
        let index = (likely + offset) % servers.len();
        match servers[index].recv_from(&mut buffer) {
            Ok((len, client)) => {
                servers[index].send_to(&buffer[..len], client)?;
                return Ok(index);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("no server got the datagram")
}

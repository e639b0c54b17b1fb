//! Frames from nobody: SYNs from spoofed sources, and ACKs that guess.

#![expect(
    unsafe_code,
    reason = "the address of a packet socket has no safe form"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{cluster::Cluster, ip::Batch, netns::Netns};

/// Where spoofed sources are: 198.18.0.0/15, meant for benchmarks, and a part of the
/// documentation range. Answers to them end in the fabric.
const SOURCES_V4: [u8; 2] = [198, 18];
const SOURCES_V6: [u16; 3] = [0x2001, 0xdb8, 0xbad];
/// Frames between two looks at the clock.
const BURST: u64 = 32;

/// What is sent.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Frontends, by turns.
    pub targets: Vec<SocketAddr>,
    /// How many SYNs.
    pub syns: u64,
    /// How many of them a second, at most.
    pub rate: u64,
    /// So many SYNs are followed by an ACK of the same source that guesses.
    pub acks_every: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// SYNs.
    pub syns: u64,
    /// Guessing ACKs.
    pub acks: u64,
    /// Frames that the device did not take.
    pub refused: u64,
    /// How long it took.
    pub took: Duration,
}

/// Whether an address is one of the spoofed sources.
pub fn is_spoofed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == SOURCES_V4[0] && v4.octets()[1] & !1 == SOURCES_V4[1],
        IpAddr::V6(v6) => v6.segments()[..3] == SOURCES_V6,
    }
}

// === impl Flood ===

impl Flood {
    /// Sends it to the first node, as the fabric's frames.
    pub fn send(&self, cluster: &Cluster) -> Result<Sent> {
        let fabric = cluster.fabric();
        let mut batch = Batch::new();
        batch.add("route replace blackhole 198.18.0.0/15");
        batch.add("route replace blackhole 2001:db8:bad::/48");
        fabric.ip(&batch)?;
        let mac = mac_address(cluster.node(0).netns())?;
        fabric.run(|| self.send_through("node-1", mac))?
    }

    fn send_through(&self, device: &str, mac: [u8; 6]) -> Result<Sent> {
        let socket = packet_socket(device)?;
        let mut random = fastrand::Rng::new();
        let mut frame = Vec::with_capacity(128);
        let (mut report, start) = (Sent::default(), Instant::now());
        for (number, &to) in (1..=self.syns).zip(self.targets.iter().cycle()) {
            let (from, port) = (source(&mut random, to.ip()), random.u16(1024..));
            let from = SocketAddr::new(from, port);
            build(&mut frame, mac, from, to, random.u32(..), None)?;
            let syn = u64::from(socket.send(&frame).is_ok());
            report.syns += syn;
            report.refused += 1 - syn;
            if number % self.acks_every == 0 {
                build(
                    &mut frame,
                    mac,
                    from,
                    to,
                    random.u32(..),
                    Some(random.u32(..)),
                )?;
                let ack = u64::from(socket.send(&frame).is_ok());
                report.acks += ack;
                report.refused += 1 - ack;
            }
            if number % BURST == 0 {
                let due = Duration::from_secs_f64(number as f64 / self.rate as f64);
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
        report.took = start.elapsed();
        Ok(report)
    }
}

/// Like a client's in everything but its source: with `ack` the end of a handshake that this
/// source has not seen, without it the start of one.
fn build(
    frame: &mut Vec<u8>,
    mac: [u8; 6],
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: Option<u32>,
) -> Result<()> {
    const FROM_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let ethernet = PacketBuilder::ethernet2(FROM_MAC, mac);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (from, to) => ethernet.ipv6(v6(from).octets(), v6(to).octets(), 64),
    };
    let tcp = ip.tcp(from.port(), to.port(), seq, 64_240);
    let tcp = match ack {
        Some(number) => tcp.ack(number),
        None => tcp.syn(),
    };
    frame.clear();
    tcp.write(frame, &[]).context("building a frame")
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A spoofed source of the family of `to`.
fn source(random: &mut fastrand::Rng, to: IpAddr) -> IpAddr {
    if to.is_ipv4() {
        let [a, b] = SOURCES_V4;
        let [c, d] = random.u16(..).to_be_bytes();
        Ipv4Addr::new(a, b + random.u8(..2), c, d).into()
    } else {
        let [a, b, c] = SOURCES_V6;
        Ipv6Addr::new(a, b, c, 0, 0, 0, random.u16(..), random.u16(..)).into()
    }
}

/// The hardware address of a node's uplink.
fn mac_address(netns: &Netns) -> Result<[u8; 6]> {
    let shown = netns.tool_output("ip", &["-br", "link", "show", "eth0"])?;
    let text = shown
        .split_whitespace()
        .nth(2)
        .context("eth0 has no address")?;
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).with_context(|| format!("a MAC: {text}"))?;
    }
    Ok(mac)
}

/// A socket that sends whole frames through a device and receives none.
fn packet_socket(device: &str) -> Result<Socket> {
    let index = if_nametoindex(device).with_context(|| format!("the device {device}"))?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("a packet socket")?;
    // SAFETY: the storage is large and aligned enough for every socket address, and zeroed; all
    // that is read later lies within the length that is set here.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket
        .bind(&address)
        .with_context(|| format!("binding to {device}"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoofed_sources_are_recognised_and_no_others() {
        let mut random = fastrand::Rng::with_seed(1);
        for to in ["203.0.113.1", "2001:db8:cb00::1"] {
            let to = to.parse().unwrap();
            for _ in 0..1000 {
                assert!(is_spoofed(source(&mut random, to)));
            }
            assert!(!is_spoofed(to));
        }
        assert!(!is_spoofed("198.51.100.2".parse().unwrap()));
        assert!(!is_spoofed("198.20.0.1".parse().unwrap()));
    }
}

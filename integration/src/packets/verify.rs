//! Whether a frame is sound: lengths and checksums, taken apart by etherparse and summed up
//! from scratch.

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::packet::crc32c;

/// Checks an Ethernet frame with a whole IP packet. What is no IP, or a fragment, is sound as
/// far as its IP header is.
pub fn sound(frame: &[u8]) -> Result<()> {
    let packet = SlicedPacket::from_ethernet(frame).context("taking the frame apart")?;
    let (src, dst, payload) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let sum = ones(header.slice());
            ensure!(sum == 0xffff, "IPv4 header: sum is {sum:#x}, not 0xffff");
            let (src, dst) = (header.source().to_vec(), header.destination().to_vec());
            (src, dst, ip.payload())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            let (src, dst) = (header.source.to_vec(), header.destination.to_vec());
            (src, dst, ip.payload())
        }
        _ => return Ok(()),
    };
    if payload.fragmented {
        return Ok(());
    }
    let number = payload.ip_number.0;
    match (number, &packet.transport) {
        (132, _) => sctp(payload.payload),
        // RFC 768: none.
        (17, Some(TransportSlice::Udp(udp))) if udp.checksum() == 0 && src.len() == 4 => Ok(()),
        (6 | 17 | 58, _) => summed(&src, &dst, number, payload.payload),
        (1, _) => summed(&[], &[], 0, payload.payload),
        (4 | 41, _) => inner(payload.payload),
        _ => Ok(()),
    }
}

fn inner(ip: &[u8]) -> Result<()> {
    let first = ip.first().copied().context("an empty tunnel")?;
    let ethertype: u16 = if first >> 4 == 4 { 0x0800 } else { 0x86dd };
    let frame = [&[0; 12], ethertype.to_be_bytes().as_slice(), ip].concat();
    sound(&frame).context("inside the tunnel")
}

fn sctp(packet: &[u8]) -> Result<()> {
    ensure!(packet.len() >= 12, "SCTP of {} bytes", packet.len());
    let mut zeroed = packet.to_vec();
    zeroed[8..12].fill(0);
    let crc = crc32c(&zeroed).to_le_bytes();
    ensure!(packet[8..12] == crc, "SCTP checksum is not {crc:x?}");
    Ok(())
}

/// A segment and its pseudo header sum up to all ones.
fn summed(src: &[u8], dst: &[u8], number: u8, segment: &[u8]) -> Result<()> {
    let mut pseudo = [src, dst].concat();
    if !pseudo.is_empty() {
        pseudo.extend((segment.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, number]);
    }
    let sum = ones(&pseudo) + ones(segment);
    let sum = (sum & 0xffff) + (sum >> 16);
    ensure!(
        sum == 0xffff,
        "protocol {number}: sum is {sum:#x}, not 0xffff"
    );
    Ok(())
}

/// One's complement sum.
fn ones(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        let [high, low] = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes([high, low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

//! Packets as bytes.

use std::net::IpAddr;

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, TcpHeader,
    checksum::Sum16BitWords,
};

use super::{Body, Packet};

impl Packet {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut out = [self.macs.0, self.macs.1].concat();
        out.extend(ethertype.to_be_bytes());
        out.extend(self.ip());
        out
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let mut segment = self.segment();
        if let Some(piece) = self.piece {
            let (from, len) = (usize::from(piece.offset), usize::from(piece.len));
            segment = segment[from..(from + len).min(segment.len())].to_vec();
        }
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), &segment),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), &segment),
            _ => panic!("{self:?} has addresses of two families"),
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], segment: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Header {
            total_len: self.stated(20 + self.ip_options.len() + segment.len()),
            identification: self.piece.map_or(self.id, |piece| piece.id as u16),
            dont_fragment: self.dont_fragment,
            more_fragments: self.piece.is_some_and(|piece| piece.more),
            fragment_offset: self.offset(),
            time_to_live: self.hops,
            protocol: IpNumber(self.protocol()),
            source: src,
            destination: dst,
            options: Ipv4Options::try_from(self.ip_options.as_slice()).expect("4n bytes"),
            ..Ipv4Header::default()
        };
        header.header_checksum = header.calc_header_checksum();
        [header.to_bytes().as_slice(), segment].concat()
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], segment: &[u8]) -> Vec<u8> {
        let mut chain = Vec::new();
        let mut next = self.protocol();
        if let Some(piece) = self.piece {
            let header = Ipv6FragmentHeader {
                next_header: IpNumber(next),
                fragment_offset: self.offset(),
                more_fragments: piece.more,
                identification: piece.id,
            };
            chain = header.to_bytes().to_vec();
            next = 44;
        }
        for (number, rest) in self.extensions.iter().rev() {
            let words = u8::try_from((rest.len() + 2) / 8 - 1).expect("a short header");
            chain = [&[next, words], rest.as_slice(), &chain].concat();
            next = *number;
        }
        let header = Ipv6Header {
            payload_length: self.stated(chain.len() + segment.len()),
            next_header: IpNumber(next),
            hop_limit: self.hops,
            source: src,
            destination: dst,
            ..Ipv6Header::default()
        };
        [header.to_bytes().as_slice(), &chain, segment].concat()
    }

    fn stated(&self, len: usize) -> u16 {
        if self.unstated { 0 } else { len as u16 }
    }

    fn offset(&self) -> IpFragOffset {
        let bytes = self.piece.map_or(0, |piece| piece.offset);
        IpFragOffset::try_new(bytes / 8).expect("13 bits")
    }

    /// Transport header and payload.
    pub fn segment(&self) -> Vec<u8> {
        let mut out = self.transport_header();
        out.extend(&self.payload);
        let at = match &self.body {
            Body::Tcp { .. } => 16,
            Body::Udp(true) => 6,
            Body::Icmp(..) => 2,
            Body::Sctp(_) => {
                let crc = crc32c(&out).to_le_bytes();
                out[8..12].copy_from_slice(&crc);
                return out;
            }
            Body::Udp(false) | Body::Raw(_) => return out,
        };
        let mut sum = self.checksum(&out);
        if at == 6 && sum == 0 {
            sum = 0xffff;
        }
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn transport_header(&self) -> Vec<u8> {
        let ports = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        match &self.body {
            Body::Tcp {
                flags,
                seq,
                ack,
                window,
                options,
            } => {
                let mut header = TcpHeader::new(self.src.port(), self.dst.port(), *seq, *window);
                header.acknowledgment_number = *ack;
                (header.fin, header.syn) = (flags & 1 != 0, flags & 2 != 0);
                (header.rst, header.ack) = (flags & 4 != 0, flags & 16 != 0);
                header.set_options_raw(options).expect("4n bytes");
                header.to_bytes().to_vec()
            }
            Body::Udp(_) => {
                let len = (8 + self.payload.len()) as u16;
                [ports.as_slice(), &len.to_be_bytes(), &[0, 0]].concat()
            }
            Body::Sctp(chunk) => {
                let len = (4 + self.payload.len()) as u16;
                let tag_and_checksum = [0xca, 0xfe, 0, 1, 0, 0, 0, 0];
                let chunk = [*chunk, 0];
                [
                    ports.as_slice(),
                    &tag_and_checksum,
                    &chunk,
                    &len.to_be_bytes(),
                ]
                .concat()
            }
            Body::Icmp(kind, code, second) => {
                [&[*kind, *code, 0, 0], second.to_be_bytes().as_slice()].concat()
            }
            Body::Raw(_) => Vec::new(),
        }
    }

    /// The Internet checksum of a segment whose checksum field is zero.
    fn checksum(&self, segment: &[u8]) -> u16 {
        let len = segment.len() as u32;
        let pseudo = match (self.src.ip(), self.dst.ip()) {
            // ICMP over IPv4 has no pseudo header.
            (IpAddr::V4(_), _) if self.protocol() == 1 => Sum16BitWords::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => Sum16BitWords::new()
                .add_4bytes(src.octets())
                .add_4bytes(dst.octets())
                .add_2bytes([0, self.protocol()])
                .add_4bytes(len.to_be_bytes()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Sum16BitWords::new()
                .add_16bytes(src.octets())
                .add_16bytes(dst.octets())
                .add_2bytes([0, self.protocol()])
                .add_4bytes(len.to_be_bytes()),
            _ => panic!("{self:?} has addresses of two families"),
        };
        pseudo.add_slice(segment).ones_complement().to_be()
    }
}

/// CRC32c of an SCTP packet whose checksum field is zero, bit by bit (RFC 9260, appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

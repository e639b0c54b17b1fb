//! Numbers and bits that programs and the controller exchange, and what they mean.

use lb_ebpf::{
    abi::{
        Addr, AddressRange, ConntrackEntry, ConntrackKey, ConntrackState, DeviceClass,
        FrontendFlags, FrontendKind, Lifetime, PacketEvent, Protocol, ServiceInfo,
    },
    hash::node_port_bit,
    parse::{NotOurs, Tcp, tcp},
};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn only_a_syn_alone_opens_a_connection() {
    for flags in 0..=u8::MAX {
        let segment = Tcp {
            flags,
            seq: 0,
            ack: 0,
            seq_len: 1,
        };
        // FIN, SYN, RST and ACK are the bits 0, 1, 2 and 4; others do not matter.
        assert_eq!(segment.opens(), flags & 0b1_0111 == 0b0_0010, "{flags:#b}");
    }
    assert_eq!((tcp::FIN, tcp::SYN, tcp::RST, tcp::ACK), (1, 2, 4, 16));
}

#[test]
fn a_parse_result_survives_the_border_of_a_subprogram() {
    for result in [
        Ok(()),
        Err(NotOurs::Foreign),
        Err(NotOurs::Extensions),
        Err(NotOurs::Truncated),
    ] {
        assert_eq!(NotOurs::from_number(NotOurs::number(result)), result);
    }
}

#[test]
fn classes_of_devices_have_their_numbers() {
    for class in [
        DeviceClass::Uplink,
        DeviceClass::BackendRoute,
        DeviceClass::PodFacing,
    ] {
        assert_eq!(DeviceClass::from_number(class as u32), Some(class));
    }
    assert_eq!(DeviceClass::from_number(0), None);
    assert_eq!(DeviceClass::from_number(4), None);
}

#[test]
fn kinds_of_frontends_are_the_low_bits_of_flags() {
    for kind in [
        FrontendKind::ClusterIp,
        FrontendKind::NodePort,
        FrontendKind::ExternalIp,
        FrontendKind::LoadBalancer,
    ] {
        let flags = kind as u32 | FrontendFlags::DSR | FrontendFlags::EXTERNAL_DIFFERS;
        assert_eq!(FrontendKind::from_flags(flags), Some(kind));
    }
    let beyond = FrontendKind::LoadBalancer as u32 + 1;
    assert_eq!(FrontendKind::from_flags(beyond), None);
}

#[test]
fn events_are_found_by_number_and_have_words_of_their_own() {
    let mut names = std::collections::BTreeSet::new();
    for event in PacketEvent::ALL {
        assert_eq!(PacketEvent::from_number(event as u32), Some(event));
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(event.name().chars().all(word), "{event:?}");
        assert!(names.insert(event.name()), "{event:?}");
    }
    let beyond = PacketEvent::ALL.len() as u32;
    assert_eq!(PacketEvent::from_number(beyond), None);
    assert_eq!(PacketEvent::LeftToTc.name(), "left_to_tc");
}

#[test]
fn drops_are_the_events_after_which_a_packet_is_not_there() {
    let drops = PacketEvent::ALL.into_iter().filter(|event| event.is_drop());
    let expected = [
        PacketEvent::NoLocalEndpoint,
        PacketEvent::SourceRange,
        PacketEvent::Refused,
        PacketEvent::RefusalLimited,
        PacketEvent::PortsExhausted,
        PacketEvent::HopLimit,
        PacketEvent::TooBig,
        PacketEvent::NoRoute,
        PacketEvent::Malformed,
        PacketEvent::RewriteFailed,
        PacketEvent::NoRecord,
        PacketEvent::UndefinedPort,
        PacketEvent::UnallocatedClusterIp,
    ];
    assert_eq!(drops.collect::<Vec<_>>(), expected);
}

#[test]
fn every_port_of_every_protocol_has_a_bit_of_its_own() {
    for (place, protocol) in (0..).zip([Protocol::Tcp, Protocol::Udp, Protocol::Sctp]) {
        for port in 0..=u16::MAX {
            let number: u32 = place * 65_536 + u32::from(port);
            let expected = (number / 64, 1_u64 << (number % 64));
            assert_eq!(
                node_port_bit(protocol as u8, port),
                Some(expected),
                "{port}"
            );
        }
    }
    assert_eq!(node_port_bit(1, 80), None);
}

#[test]
fn a_service_id_is_in_use_once_it_has_a_family() {
    assert!(!ServiceInfo::FREE.is_used());
    let used = ServiceInfo {
        family: 4,
        ..ServiceInfo::FREE
    };
    assert!(used.is_used());
}

#[test]
fn lifetimes_go_by_protocol_proof_and_end() {
    const REPLIED: u32 = ConntrackState::REPLIED;
    const PROVEN: u32 = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;
    const RST: u32 = ConntrackState::RST;
    let of = |protocol: Protocol, state, fins| Lifetime::of(protocol as u8, state, fins);
    for (state, fins, expected) in [
        (0, 0, Lifetime::HalfOpen),
        (REPLIED, 0, Lifetime::HalfOpen),
        (PROVEN, 0, Lifetime::Established),
        (PROVEN, 1, Lifetime::CloseWait),
        (PROVEN, 2, Lifetime::Closed),
        (PROVEN | RST, 0, Lifetime::Closed),
        (RST, 1, Lifetime::Closed),
    ] {
        assert_eq!(
            of(Protocol::Tcp, state, fins),
            expected,
            "{state:#b} {fins}"
        );
        assert_eq!(
            of(Protocol::Sctp, state, fins),
            expected,
            "{state:#b} {fins}"
        );
    }
    assert_eq!(of(Protocol::Udp, 0, 0), Lifetime::UdpNew);
    assert_eq!(of(Protocol::Udp, REPLIED, 0), Lifetime::UdpStream);
    assert_eq!(of(Protocol::Udp, PROVEN, 0), Lifetime::UdpStream);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_range_knows_its_length(bytes: [u8; 16], bits in 0_u32..=128) {
        let addr = Addr::read_from_bytes(&bytes).expect("the size fits");
        prop_assert_eq!(AddressRange::new(addr, bits).bits(), bits);
    }

    /// A record whose element was given to another flow is not that of the flow looked for.
    #[test]
    fn a_flow_record_belongs_to_its_key_alone(bytes: [u8; size_of::<ConntrackKey>()]) {
        // What is reserved is no part of a tuple.
        const TUPLE: usize = size_of::<ConntrackKey>() - 3;
        let key = ConntrackKey::read_from_bytes(&bytes).expect("the size fits");
        let record = ConntrackEntry::EMPTY.sealed(&key);
        prop_assert!(record.belongs_to(&key));
        for bit in 0..TUPLE * 8 {
            let mut other = key.as_bytes().to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            let other = ConntrackKey::read_from_bytes(&other).expect("the size fits");
            prop_assert!(!record.belongs_to(&other), "bit {}", bit);
        }
    }

    #[test]
    fn any_other_prefix_than_that_of_mapping_is_ipv6(v4: u32, bit in 0_usize..96) {
        let mut bytes = std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let addr = Addr::read_from_bytes(&bytes).expect("the size fits");
        prop_assert!(!addr.is_v4());
    }
}

//! Facts about the ABI types: seals, addresses, names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_ebpf::abi::{ABI_VERSION, Addr, FrontendKey, Name, Port, ServiceEntry, TableRef, layout};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn key() -> impl Strategy<Value = FrontendKey> {
    any::<[u8; size_of::<FrontendKey>()]>()
        .prop_map(|bytes| FrontendKey::read_from_bytes(&bytes).expect("the size fits"))
}

fn entry() -> impl Strategy<Value = ServiceEntry> {
    any::<[u8; size_of::<ServiceEntry>()]>()
        .prop_map(|bytes| ServiceEntry::read_from_bytes(&bytes).expect("the size fits"))
}

/// `value` with one bit flipped.
fn flipped<T: IntoBytes + FromBytes + zerocopy::Immutable>(value: &T, bit: usize) -> T {
    let mut bytes = value.as_bytes().to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    T::read_from_bytes(&bytes).expect("the size fits")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn seal_fits_its_key_and_value(key in key(), entry in entry()) {
        prop_assert!(entry.sealed(&key).belongs_to(&key));
    }

    #[test]
    fn seal_detects_any_flipped_bit_of_the_value(key in key(), entry in entry()) {
        let sealed = entry.sealed(&key);
        for bit in 0..size_of::<ServiceEntry>() * 8 {
            prop_assert!(!flipped(&sealed, bit).belongs_to(&key), "bit {}", bit);
        }
    }

    #[test]
    fn seal_detects_any_flipped_bit_of_the_key(key in key(), entry in entry()) {
        let sealed = entry.sealed(&key);
        for bit in 0..size_of::<FrontendKey>() * 8 {
            prop_assert!(!sealed.belongs_to(&flipped(&key, bit)), "bit {}", bit);
        }
    }

    /// A value half overwritten by another one, at any word boundary.
    #[test]
    fn seal_detects_a_torn_value(key in key(), old in entry(), new in entry()) {
        let (old, new) = (old.sealed(&key), new.sealed(&key));
        prop_assume!(old != new);
        for words in 1..size_of::<ServiceEntry>() / 4 {
            let mut bytes = old.as_bytes().to_vec();
            bytes[..words * 4].copy_from_slice(&new.as_bytes()[..words * 4]);
            let torn = ServiceEntry::read_from_bytes(&bytes).expect("the size fits");
            prop_assert!(!torn.belongs_to(&key) || torn == old || torn == new);
        }
    }

    #[test]
    fn ipv4_addresses_round_trip(bits: u32) {
        let ip = Ipv4Addr::from_bits(bits);
        let addr = Addr::from(IpAddr::V4(ip));
        prop_assert!(addr.is_v4());
        prop_assert_eq!(addr.to_ip(), IpAddr::V4(ip));
        prop_assert_eq!(addr.octets(), ip.to_ipv6_mapped().octets());
        prop_assert_eq!(Addr::from_v4_word(u32::from_ne_bytes(ip.octets())), addr);
        prop_assert_eq!(addr.v4_word().to_ne_bytes(), ip.octets());
        // A mapped socket and an IPv4 socket see the same address.
        prop_assert_eq!(Addr::from(IpAddr::V6(ip.to_ipv6_mapped())), addr);
    }

    #[test]
    fn ipv6_addresses_round_trip(bits: u128) {
        let ip = Ipv6Addr::from_bits(bits);
        let addr = Addr::from(IpAddr::V6(ip));
        prop_assert_eq!(addr.to_ip(), IpAddr::V6(ip).to_canonical());
        prop_assert_eq!(addr.octets(), ip.octets());
        prop_assert_eq!(addr.is_v4(), ip.to_ipv4_mapped().is_some());
        prop_assert_eq!(Addr::from_words(addr.words()), addr);
        prop_assert_eq!(addr.as_bytes(), &ip.octets()[..]);
    }

    #[test]
    fn ports_are_in_network_order(port: u16) {
        prop_assert_eq!(Port::new(port).as_bytes().to_vec(), port.to_be_bytes().to_vec());
        prop_assert_eq!(Port::new(port).get(), port);
        prop_assert_eq!(Port::from_raw(Port::new(port).raw()), Port::new(port));
    }

    #[test]
    fn names_round_trip_or_are_refused(text in "\\PC{0,70}") {
        match Name::new(&text) {
            Some(name) => {
                prop_assert!(text.len() <= 63);
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(name.to_string(), text);
            }
            None => prop_assert!(text.len() > 63),
        }
    }

    #[test]
    fn any_bytes_are_a_harmless_name(bytes: [u8; 64]) {
        let name = Name::read_from_bytes(&bytes).unwrap();
        prop_assert!(name.as_str().len() <= 64);
    }

    #[test]
    fn table_references_round_trip(offset: u32, len: u32) {
        let table = TableRef::new(offset, len);
        prop_assert_eq!((table.offset(), table.len()), (offset, len));
        prop_assert_eq!(table.is_empty(), len == 0);
    }
}

#[test]
fn name_with_a_nul_is_refused() {
    assert_eq!(Name::new("a\0b"), None);
    assert_eq!(
        Name::new("").map(|name| name.to_string()).as_deref(),
        Some("")
    );
}

#[test]
fn the_abi_is_the_recorded_one() {
    let text = format!("version {ABI_VERSION}\n{}", layout::text());
    assert_eq!(text, include_str!("../../abi.lock"));
}

//! Virtual devices made to behave as wires do.
//!
//! Between network namespaces a packet usually travels with its checksum left for a network
//! card to fill in, and several segments in one. No wire carries such packets, and XDP programs,
//! which rewrite packets and update their checksums, cannot handle them.

use std::io::Write;

use anyhow::{Context, Result};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

use crate::netns::Netns;

/// Makes packets that leave `netns` through `device` carry complete checksums, whoever
/// originated them: the kernel fills them in where a device cannot. And lets the device's peer
/// send from native XDP programs: what a veth's XDP program sends is only taken up by a peer
/// that has an XDP program too, be it one that does nothing.
pub(super) fn complete_checksums(netns: &Netns, device: &str) -> Result<()> {
    netns.tool("ethtool", &["-K", device, "tx", "off", "gro", "on"])?;
    let mut file = tempfile::NamedTempFile::new().context("creating a file for a program")?;
    file.write_all(&passing_program()?)?;
    let path = file.path().to_string_lossy();
    let arguments = ["link", "set", "dev", device, "xdpdrv", "obj", &path, "sec"];
    netns.tool("ip", &[&arguments[..], &[SECTION]].concat())
}

const SECTION: &str = "xdp";

/// `r0 = XDP_PASS; exit`.
const INSTRUCTIONS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// An object file with an XDP program that passes every packet.
fn passing_program() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code = object.add_section(Vec::new(), SECTION.into(), SectionKind::Text);
    object.append_section_data(code, INSTRUCTIONS.as_flattened(), 8);
    object.add_symbol(Symbol {
        name: b"pass".to_vec(),
        value: 0,
        size: INSTRUCTIONS.as_flattened().len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(code),
        flags: SymbolFlags::None,
    });
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    object.write().context("writing an object file")
}

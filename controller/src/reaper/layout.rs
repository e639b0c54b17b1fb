//! Where the running kernel has the fields of `struct sock_common`, from its BTF.
//!
//! A reader of just enough of the format (kernel: Documentation/bpf/btf.rst): aya's
//! types of members are private, and Rust emits no CO-RE relocations.

use std::{io, path::Path};

use lb_ebpf::abi::SocketLayout;

/// Size of `struct btf_type` without what follows it, in bytes.
const TYPE: usize = 12;
/// Size of `struct btf_member`, in bytes.
const MEMBER: usize = 12;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Structures and unions without a name that are looked into, one in another.
const DEPTH: usize = 8;

/// Why the layout is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    /// The kernel describes no types, or they cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The description is not understood.
    #[error("the kernel's BTF is malformed")]
    Malformed,
    /// The structure or the field is not there.
    #[error("the kernel has no sock_common.{0}")]
    Missing(&'static str),
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The layout of the running kernel.
pub(crate) fn of_this_kernel() -> Result<SocketLayout, LayoutError> {
    let bytes = std::fs::read(Path::new(VMLINUX)).map_err(|source| LayoutError::Unreadable {
        path: VMLINUX,
        source,
    })?;
    Types::parse(&bytes)
        .ok_or(LayoutError::Malformed)?
        .socket_layout()
}

/// The parts of a BTF blob, and where each type starts.
struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Offset of type `id` at `id - 1`.
    starts: Vec<u32>,
}

/// One type's header.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Number of members or such.
    len: usize,
    /// Whether member offsets carry a bit-field size in their upper byte.
    bit_fields: bool,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

impl<'a> Types<'a> {
    fn parse(blob: &'a [u8]) -> Option<Self> {
        const MAGIC: u16 = 0xeb9f;
        if u16::from_ne_bytes(blob.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = u32_at(blob, 4)? as usize;
        let section = |at: usize| {
            let start = header.checked_add(u32_at(blob, at)? as usize)?;
            blob.get(start..start.checked_add(u32_at(blob, at + 4)? as usize)?)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut this = Self {
            bytes: types,
            strings,
            starts: Vec::new(),
        };
        let mut at = 0;
        while at < types.len() {
            this.starts.push(at as u32);
            let header = this.header(at)?;
            at += TYPE + trailing(header.kind, header.len)?;
        }
        Some(this)
    }

    fn header(&self, at: usize) -> Option<Type> {
        let info = u32_at(self.bytes, at + 4)?;
        Some(Type {
            name: u32_at(self.bytes, at)?,
            kind: info >> 24 & 0x1f,
            len: (info & 0xffff) as usize,
            bit_fields: info >> 31 != 0,
        })
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        let rest = self.strings.get(name as usize..).unwrap_or_default();
        rest.strip_prefix(wanted.as_bytes())
            .is_some_and(|end| end.first() == Some(&0))
    }

    fn socket_layout(&self) -> Result<SocketLayout, LayoutError> {
        let sock_common = self
            .starts
            .iter()
            .map(|at| *at as usize)
            .find(|at| {
                self.header(*at)
                    .is_some_and(|t| t.kind == KIND_STRUCT && self.is_named(t.name, "sock_common"))
            })
            .ok_or(LayoutError::Missing(""))?;
        let offset = |name: &'static str| {
            self.offset(sock_common, name, DEPTH)
                .ok_or(LayoutError::Missing(name))
        };
        Ok(SocketLayout {
            family: offset("skc_family")?,
            num: offset("skc_num")?,
            dport: offset("skc_dport")?,
            daddr: offset("skc_daddr")?,
            rcv_saddr: offset("skc_rcv_saddr")?,
            v6_daddr: offset("skc_v6_daddr")?,
            v6_rcv_saddr: offset("skc_v6_rcv_saddr")?,
            bound_dev_if: offset("skc_bound_dev_if")?,
            has_cookie: 0,
        })
    }

    /// Offset in bytes of a field of the structure at `at`, through unnamed members.
    fn offset(&self, at: usize, name: &str, depth: usize) -> Option<u32> {
        let header = self.header(at)?;
        if depth == 0 || !matches!(header.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        (0..header.len).find_map(|index| {
            let member = at + TYPE + index * MEMBER;
            let (member_name, of_type) = (
                u32_at(self.bytes, member)?,
                u32_at(self.bytes, member + 4)? as usize,
            );
            let mut bits = u32_at(self.bytes, member + 8)?;
            if header.bit_fields {
                bits &= 0x00ff_ffff;
            }
            if self.is_named(member_name, name) {
                return Some(bits / 8);
            }
            if !self.is_named(member_name, "") {
                return None;
            }
            let inner = *self.starts.get(of_type.checked_sub(1)?)? as usize;
            Some(bits / 8 + self.offset(inner, name, depth - 1)?)
        })
    }
}

/// Bytes that follow the header of a type; `None` for a kind that is not known.
fn trailing(kind: u32, len: usize) -> Option<usize> {
    Some(match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Enumeration, function prototype.
        6 | 13 => 8 * len,
        // Structure, union, data section, 64-bit enumeration.
        KIND_STRUCT | KIND_UNION | 15 | 19 => MEMBER * len,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with `struct inner { u32 a; u32 skc_num; }` unnamed inside `sock_common`.
    fn blob() -> Vec<u8> {
        let strings = b"\0sock_common\0skc_daddr\0skc_num\0";
        let (sock_common, daddr, num) = (1u32, 13u32, 23u32);
        let words: [u32; 21] = [
            // 1: int, 4 bytes.
            0,
            1 << 24,
            4,
            32, //
            // 2: unnamed struct with two members.
            0,
            4 << 24 | 2,
            8,
            daddr,
            1,
            0,
            num,
            1,
            32, //
            // 3: sock_common with an int without meaning and the struct above at bit 64.
            sock_common,
            4 << 24 | 1,
            16,
            0,
            2,
            64, //
            // 4: a pointer.
            0,
            2 << 24,
        ];
        let mut types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        types.extend(3u32.to_ne_bytes());
        let mut out = Vec::new();
        out.extend(0xeb9fu16.to_ne_bytes());
        out.extend([1, 0]);
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            out.extend(u32::to_ne_bytes(word));
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn fields_of_unnamed_members_are_found_at_the_sum_of_offsets() {
        let blob = blob();
        let types = Types::parse(&blob).unwrap();
        let at = types.starts[2] as usize;
        assert_eq!(types.offset(at, "skc_daddr", DEPTH), Some(8));
        assert_eq!(types.offset(at, "skc_num", DEPTH), Some(12));
        assert_eq!(types.offset(at, "skc_dport", DEPTH), None);
        assert!(matches!(
            types.socket_layout(),
            Err(LayoutError::Missing("skc_family"))
        ));
    }

    #[test]
    fn a_truncated_blob_is_malformed() {
        let blob = blob();
        for len in 0..blob.len() {
            // No panic; and never a complete layout.
            let layout = Types::parse(&blob[..len]).map(|types| types.socket_layout());
            assert!(!matches!(layout, Some(Ok(_))));
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        if !Path::new(VMLINUX).exists() {
            eprintln!("skipped: this kernel was built without BTF");
            return;
        }
        let layout = of_this_kernel().unwrap();
        // These have been where they are since Linux 3.7.
        assert_eq!(
            (layout.daddr, layout.rcv_saddr, layout.dport, layout.num),
            (0, 4, 12, 14)
        );
        assert_eq!(layout.v6_rcv_saddr, layout.v6_daddr + 16);
    }
}

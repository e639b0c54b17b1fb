//! The BPF object and the host agree on the ABI: both are compiled from one source, but
//! by two compilers for two targets.

#[path = "support/object.rs"]
mod object;

use btf_rs::{Btf, Struct, Type};
use lb_ebpf::abi::{layout, map};

/// Maps that are never pinned: they live and die with one loaded program.
const PRIVATE: [&str; 2] = ["GONE", "SCRATCH"];

fn btf() -> Btf {
    let object = object::parse(&object::bytes());
    let btf = object.btf.expect("the object has BTF");
    Btf::from_bytes(&btf.to_bytes()).expect("well-formed BTF")
}

/// The one struct called `name`.
fn structure(btf: &Btf, name: &str) -> Struct {
    let types = btf
        .resolve_types_by_name(name)
        .unwrap_or_else(|_| panic!("{name} is missing from the object's BTF"));
    let mut structs = types.into_iter().filter_map(|found| match found {
        Type::Struct(found) => Some(found),
        _ => None,
    });
    let first = structs.next();
    assert!(structs.next().is_none(), "two structs are called {name}");
    first.unwrap_or_else(|| panic!("{name} is no struct"))
}

/// Size in bytes of a type.
fn size(btf: &Btf, found: &Type) -> usize {
    match found {
        Type::Int(int) => int.size(),
        Type::Struct(structure) => structure.size(),
        Type::Array(array) => {
            let element = btf.resolve_chained_type(array).expect("an element type");
            array.len() * size(btf, &element)
        }
        other => panic!("{} in the ABI", other.name()),
    }
}

#[test]
fn structs_have_the_same_layout_in_the_object() {
    let btf = btf();
    // BTF names types of maps, globals and arguments; the first is on a stack only, and
    // programs know the second as their library's generic trie key.
    let named = layout::TYPES
        .iter()
        .filter(|layout| !["FoundSocket", "SourceRangeKey"].contains(&layout.name));
    for layout in named {
        let found = structure(&btf, layout.name);
        assert_eq!(found.size(), layout.size, "size of {}", layout.name);
        let fields: Vec<_> = found
            .members
            .iter()
            .map(|member| {
                let name = btf.resolve_name(member).expect("a name");
                let kind = btf.resolve_chained_type(member).expect("a type");
                assert_eq!(member.bit_offset() % 8, 0);
                (name, member.bit_offset() as usize / 8, size(&btf, &kind))
            })
            .collect();
        let expected: Vec<_> = layout
            .fields
            .iter()
            .map(|field| (field.name.to_owned(), field.offset, field.size))
            .collect();
        // rustc orders members by offset in both; order is not part of the layout.
        let by_offset = |mut fields: Vec<(String, usize, usize)>| {
            fields.sort_by_key(|(_, offset, _)| *offset);
            fields
        };
        assert_eq!(by_offset(fields), by_offset(expected), "{}", layout.name);
    }
}

#[test]
fn structs_leave_no_byte_undefined() {
    for layout in layout::TYPES {
        let mut end = 0;
        for field in layout.fields {
            assert_eq!(
                field.offset, end,
                "a gap before {}.{}",
                layout.name, field.name
            );
            end += field.size;
        }
        assert_eq!(end, layout.size, "a gap at the end of {}", layout.name);
    }
}

#[test]
fn maps_are_defined_as_described() {
    let object = object::parse(&object::bytes());
    for expected in layout::MAPS {
        let found = object
            .maps
            .get(expected.name)
            .unwrap_or_else(|| panic!("the object has no map {}", expected.name));
        assert_eq!(
            (
                found.map_type(),
                found.key_size() as usize,
                found.value_size() as usize,
                found.map_flags()
            ),
            (
                expected.kind as u32,
                expected.key,
                expected.value,
                expected.flags
            ),
            "type, key size, value size and flags of {}",
            expected.name
        );
    }
}

#[test]
fn object_has_no_maps_beside_those_of_the_abi_and_private_ones() {
    let object = object::parse(&object::bytes());
    let mut found: Vec<&str> = object
        .maps
        .keys()
        .map(String::as_str)
        // Constants, such as the loader's settings, live in sections of their own.
        .filter(|name| !name.starts_with('.'))
        .collect();
    found.sort_unstable();
    let mut expected = map::ALL.to_vec();
    expected.extend(PRIVATE);
    expected.sort_unstable();
    assert_eq!(found, expected);
    let described = layout::MAPS.map(|map| map.name);
    assert_eq!(
        described,
        map::ALL,
        "in the order in which they are created"
    );
}

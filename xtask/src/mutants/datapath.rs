//! A package of the datapath's library with its tests and the host's half of the packet rows.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::package::copy;

pub(super) const MANIFEST: &str = r#"[package]
name = "lb-ebpf"
version = "0.0.0"
edition = "2024"

[workspace]

[features]
user = []
faults = []

[dependencies]
zerocopy.workspace = true

[dev-dependencies]
anyhow.workspace = true
etherparse.workspace = true
proptest.workspace = true

[profile.dev]
debug = false
"#;

/// What of the rows needs a kernel.
const KERNEL: &str = "pub mod kernel;\n";

/// The tests are modules of the library, so that there is one program to link.
const TESTS: &str = r#"
#[cfg(test)]
extern crate self as lb_ebpf;
#[cfg(test)]
extern crate self as lb_integration;
#[cfg(test)]
mod packets;
#[cfg(test)]
#[path = "tests/properties.rs"]
mod packet_properties;
#[cfg(test)]
#[path = "tests/datapath/main.rs"]
mod datapath;
#[cfg(test)]
mod rows {
    use crate::packets::{check, rows};

    #[test]
    fn rows_hold_in_the_host_pipeline() {
        // One by one: the first that does not hold is enough.
        for row in rows::all() {
            let findings = check::on_host(&[row]);
            assert!(findings.is_empty(), "{}", check::report(&findings));
        }
    }
}
"#;

/// Copies what it takes from the workspace at `root`; the text of its `lib.rs`.
pub(super) fn fill(root: &Path, src: &Path) -> Result<String> {
    let library = root.join("lb-ebpf/src");
    for entry in fs::read_dir(&library)? {
        let name = entry?.file_name();
        if name != "bin" && name != "lib.rs" {
            copy(&library, src, Path::new(&name))?;
        }
    }
    let tests = src.join("tests");
    fs::create_dir_all(&tests)?;
    copy(&root.join("lb-ebpf/tests"), &tests, Path::new("datapath"))?;
    copy(&root.join("lb-ebpf"), src, Path::new("abi.lock"))?;
    let rows = root.join("integration/src");
    copy(&rows, src, Path::new("packets"))?;
    let list = fs::read_to_string(rows.join("packets.rs")).context("the rows")?;
    fs::write(src.join("packets.rs"), list.replace(KERNEL, ""))?;
    let properties = root.join("integration/tests/packets");
    copy(&properties, &tests, Path::new("properties.rs"))?;
    let lib = fs::read_to_string(library.join("lib.rs")).context("the library")?;
    Ok(lib + TESTS)
}

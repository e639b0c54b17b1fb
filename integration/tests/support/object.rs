//! The BPF object under test.

use std::{env, fs, path::PathBuf};

use aya_obj::Object;

/// The bytes of the object that `cargo xtask build` has made: `LB_BPF_OBJECT`, or
/// `bpf/lb.o` in the target directory that this test runs from.
pub(crate) fn bytes() -> Vec<u8> {
    let path = env::var_os("LB_BPF_OBJECT").map_or_else(
        || {
            // TARGET/PROFILE/deps/TEST
            let exe = env::current_exe().expect("a test knows its path");
            let target = exe.ancestors().nth(3).map(PathBuf::from);
            target.unwrap_or_default().join("bpf/lb.o")
        },
        PathBuf::from,
    );
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: build with `cargo xtask build`",
            path.display()
        )
    })
}

pub(crate) fn parse(bytes: &[u8]) -> Object {
    Object::parse(bytes).expect("an eBPF object")
}

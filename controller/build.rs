//! Embeds the BPF object that `cargo xtask build` has built.
//!
//! Without one (plain `cargo check` on a machine without the BPF toolchain) an empty
//! file is embedded, and `lb-controller` says at start that it cannot run.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=LB_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let object = env::var_os("LB_BPF_OBJECT").map_or_else(
        // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
        || out.ancestors().nth(4).unwrap_or(&out).join("bpf/lb.o"),
        PathBuf::from,
    );
    println!("cargo:rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_else(|_| {
        println!("cargo:warning=no BPF object: build with `cargo xtask build`");
        Vec::new()
    });
    fs::write(out.join("lb.o"), bytes).expect("OUT_DIR is writable");
}

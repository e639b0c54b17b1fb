//! Prints the ABI as `abi.lock` records it: version, then layouts and constants.

use lb_ebpf::abi::{ABI_VERSION, layout};

fn main() {
    print!("version {ABI_VERSION}\n{}", layout::text());
}

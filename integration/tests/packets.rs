//! Packet rows: the pure host pipeline and the real programs do the same, and the right, thing.
//!
//! The kernel's half needs root and the object that `cargo xtask build` makes.

#[path = "packets/harness.rs"]
mod harness;
#[path = "support/object.rs"]
#[expect(dead_code, reason = "parsing is for tests that look into the object")]
mod object;
#[path = "packets/properties.rs"]
mod properties;

use lb_ebpf::abi::Protocol;
use lb_integration::packets::{
    check::{self, Finding},
    kernel::{
        beside,
        stage::Stage,
        timing::{self, Work},
    },
    rows,
    script::Hook,
    topology::Family,
};

fn assert_none(findings: &[Finding]) {
    assert!(
        findings.is_empty(),
        "{} cases fail:\n{}",
        findings.len(),
        check::report(findings)
    );
}

#[test]
fn rows_hold_in_the_host_pipeline() {
    assert_none(&check::on_host(&rows::all()));
}

#[test]
fn rows_hold_in_the_kernel_which_agrees_with_the_host() {
    let stage = Stage::new().expect("a namespace");
    let findings = stage.run(&object::bytes(), |kernel| {
        Ok(beside::run(kernel, &rows::all()))
    });
    assert_none(&findings.expect("programs that load"));
}

#[test]
fn every_kind_of_packet_can_be_timed() {
    let stage = Stage::new().expect("a namespace");
    let times = stage.run(&object::bytes(), |kernel| {
        let mut times = Vec::new();
        for hook in Hook::FROM_OUTSIDE {
            for family in Family::ALL {
                for work in Work::ALL {
                    let kind = (family, Protocol::Tcp);
                    let time = timing::time(kernel, work, hook, kind, 16)?;
                    times.push((hook, family, work, time));
                }
            }
        }
        Ok(times)
    });
    for (hook, family, work, time) in times.expect("programs that load") {
        println!("{hook:?} {family:?} {work:?}: {} ns", time.as_nanos());
        assert_ne!(time.as_nanos(), 0, "{hook:?} {family:?} {work:?}");
    }
}

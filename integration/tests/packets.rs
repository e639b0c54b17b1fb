//! Packet rows: the pure host pipeline and the real programs do the same, and the right, thing.
//!
//! The kernel's half needs root and the object that `cargo xtask build` makes.

#[path = "support/object.rs"]
#[expect(dead_code, reason = "parsing is for tests that look into the object")]
mod object;
#[path = "packets/properties.rs"]
mod properties;

use lb_integration::packets::{
    check::{self, Finding},
    rows,
    stage::Stage,
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
        Ok(check::on_kernel(kernel, &rows::all()))
    });
    assert_none(&findings.expect("programs that load"));
}

//! What is meant to hurt, for a few seconds each; `cargo xtask bench` runs it for longer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use anyhow::Result;
use lb_integration::stress::{Report, flood, limits, site::Path, soak, swaps};

/// Shows the figures; nothing may be broken.
fn holds(report: Result<Report>) {
    let report = report.unwrap();
    println!("{report}");
    assert!(report.broken().is_empty(), "{report}");
}

#[test]
fn a_syn_flood_at_tc_harms_no_honest_connection() {
    holds(flood::run(Path::Tc, flood::Options::QUICK));
}

#[test]
fn a_syn_flood_at_generic_xdp_harms_no_honest_connection() {
    holds(flood::run(Path::XdpGeneric, flood::Options::QUICK));
}

#[test]
fn a_full_table_refuses_nobody_and_is_alarmed() {
    holds(limits::full_table(Path::XdpNative));
}

#[test]
fn exhausted_source_ports_are_counted_by_backend_and_harm_no_other_connection() {
    holds(limits::no_ports(Path::XdpNative));
}

#[test]
fn flows_with_data_outlive_their_lifetimes_and_others_do_not() {
    holds(limits::short_lives(Path::XdpNative));
}

#[test]
fn flows_are_made_while_growing_maps_are_swapped() {
    holds(swaps::run(Path::XdpNative, swaps::Options::QUICK));
}

#[test]
fn connections_succeed_while_endpoints_come_and_go_and_leave_nothing_behind() {
    holds(soak::run(Path::XdpNative, soak::Options::QUICK));
}

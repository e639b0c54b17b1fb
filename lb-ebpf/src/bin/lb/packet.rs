//! The packet hooks: XDP and TC.
#![expect(unsafe_code, reason = "program attributes expand to unsafe attributes")]

use aya_ebpf::{
    bindings::xdp_action,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// `TC_ACT_UNSPEC`, `TCX_NEXT`: whoever comes next decides.
const NEXT: i32 = -1;

#[xdp(frags)]
fn lb_xdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[classifier]
fn lb_ingress(_ctx: TcContext) -> i32 {
    NEXT
}

#[classifier]
fn lb_egress(_ctx: TcContext) -> i32 {
    NEXT
}

#[classifier]
fn lb_pod_ingress(_ctx: TcContext) -> i32 {
    NEXT
}

#[classifier]
fn lb_pod_egress(_ctx: TcContext) -> i32 {
    NEXT
}

//! The socket hooks: context → pipeline → return value.
//!
//! Return values are strictly 1 (go on) and 0 (refuse): newer kernels reject programs
//! that could return anything else.
#![expect(unsafe_code, reason = "program attributes expand to unsafe attributes")]

use aya_ebpf::{
    helpers::generated::bpf_set_retval,
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use lb_ebpf::socket::{self, Verdict};

use crate::{
    ctx::{AddrHook, Family, ReleaseHook},
    maps::{HAS_SET_RETVAL, Maps},
};

const GO_ON: i32 = 1;
const REFUSE: i32 = 0;

const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

#[inline(always)]
fn refuse_with(errno: i32) -> i32 {
    // Before 5.18 the helper does not exist, and the caller sees EPERM.
    if HAS_SET_RETVAL.load() != 0 {
        // SAFETY: takes an integer.
        unsafe { bpf_set_retval(-errno) };
    }
    REFUSE
}

#[inline(always)]
fn apply(hook: &AddrHook, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass => GO_ON,
        Verdict::Translate(addr, port) => {
            hook.rewrite(addr, port);
            GO_ON
        }
        Verdict::Refuse => refuse_with(ECONNREFUSED),
        Verdict::Drop => refuse_with(EHOSTUNREACH),
    }
}

#[inline(always)]
fn connect(ctx: SockAddrContext, family: Family) -> i32 {
    let hook = AddrHook::new(ctx, family);
    let Some(key) = hook.key() else { return GO_ON };
    apply(&hook, socket::connect(&Maps, &hook, &key))
}

#[inline(always)]
fn sendmsg(ctx: SockAddrContext, family: Family) -> i32 {
    let hook = AddrHook::new(ctx, family);
    let Some(key) = hook.key() else { return GO_ON };
    apply(&hook, socket::sendmsg(&Maps, &hook, &key))
}

#[inline(always)]
fn recvmsg(ctx: SockAddrContext, family: Family) -> i32 {
    let hook = AddrHook::new(ctx, family);
    if let Some((addr, port)) = socket::recvmsg(&hook, hook.addr(), hook.port()) {
        hook.rewrite(addr, port);
    }
    GO_ON
}

#[inline(always)]
fn getpeername(ctx: SockAddrContext, family: Family) -> i32 {
    let hook = AddrHook::new(ctx, family);
    if let Some((addr, port)) = socket::peer(&hook, hook.addr(), hook.port()) {
        hook.rewrite(addr, port);
    }
    GO_ON
}

#[cgroup_sock_addr(connect4)]
fn lb_connect4(ctx: SockAddrContext) -> i32 {
    connect(ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
fn lb_connect6(ctx: SockAddrContext) -> i32 {
    connect(ctx, Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
fn lb_sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
fn lb_sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(ctx, Family::V6)
}

#[cgroup_sock_addr(recvmsg4)]
fn lb_recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(ctx, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
fn lb_recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(ctx, Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
fn lb_getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername(ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
fn lb_getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername(ctx, Family::V6)
}

#[cgroup_sock(sock_release)]
fn lb_release(ctx: SockContext) -> i32 {
    socket::release(&Maps, &ReleaseHook(ctx));
    GO_ON
}

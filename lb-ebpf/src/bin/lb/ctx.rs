//! The contexts of the socket hooks: reading and rewriting addresses.
#![expect(unsafe_code, reason = "hook contexts are raw kernel memory")]

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_ktime_get_ns},
    programs::{SockAddrContext, SockContext},
};
use lb_ebpf::{
    abi::{Addr, ConnectedFlow, FrontendKey, Port, Protocol},
    tables::{Environment, Socket},
};

use crate::storage::{self, Flows};

/// `IPPROTO_MPTCP`: a TCP connection to everyone else.
const IPPROTO_MPTCP: u32 = 262;

/// Which address fields of the context are meaningful.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Context of connect, sendmsg, recvmsg and getpeername.
pub(crate) struct AddrHook {
    raw: SockAddrContext,
    family: Family,
}

impl AddrHook {
    #[inline(always)]
    pub(crate) fn new(raw: SockAddrContext, family: Family) -> Self {
        Self { raw, family }
    }

    #[inline(always)]
    fn raw(&self) -> *mut bpf_sock_addr {
        self.raw.sock_addr
    }

    /// The address in the context.
    #[inline(always)]
    pub(crate) fn addr(&self) -> Addr {
        // SAFETY: the kernel gives a valid context; the verifier wants loads of whole
        // words at constant offsets, which volatile reads of single fields are.
        unsafe {
            match self.family {
                Family::V4 => {
                    Addr::from_v4_word(ptr::read_volatile(&raw const (*self.raw()).user_ip4))
                }
                Family::V6 => Addr::from_words([
                    ptr::read_volatile(&raw const (*self.raw()).user_ip6[0]),
                    ptr::read_volatile(&raw const (*self.raw()).user_ip6[1]),
                    ptr::read_volatile(&raw const (*self.raw()).user_ip6[2]),
                    ptr::read_volatile(&raw const (*self.raw()).user_ip6[3]),
                ]),
            }
        }
    }

    /// The port in the context.
    #[inline(always)]
    pub(crate) fn port(&self) -> Port {
        // SAFETY: as in `addr`.
        Port::from_raw(unsafe { ptr::read_volatile(&raw const (*self.raw()).user_port) } as u16)
    }

    /// The frontend that the application dials; `None` for protocols without services.
    #[inline(always)]
    pub(crate) fn key(&self) -> Option<FrontendKey> {
        // SAFETY: as in `addr`.
        let protocol = match unsafe { ptr::read_volatile(&raw const (*self.raw()).protocol) } {
            6 | IPPROTO_MPTCP => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return None,
        };
        Some(FrontendKey::internal(self.addr(), self.port(), protocol))
    }

    /// Rewrites address and port. A v4 hook has no room for an IPv6 address; services
    /// never mix families (rule M4), so the case does not arise.
    #[inline(always)]
    pub(crate) fn rewrite(&self, addr: Addr, port: Port) {
        let [a, b, c, d] = addr.words();
        // SAFETY: as in `addr`; these fields are writable in all the hooks used.
        unsafe {
            match self.family {
                Family::V4 => ptr::write_volatile(&raw mut (*self.raw()).user_ip4, addr.v4_word()),
                Family::V6 => {
                    ptr::write_volatile(&raw mut (*self.raw()).user_ip6[0], a);
                    ptr::write_volatile(&raw mut (*self.raw()).user_ip6[1], b);
                    ptr::write_volatile(&raw mut (*self.raw()).user_ip6[2], c);
                    ptr::write_volatile(&raw mut (*self.raw()).user_ip6[3], d);
                }
            }
            ptr::write_volatile(&raw mut (*self.raw()).user_port, u32::from(port.raw()));
        }
    }

    #[inline(always)]
    fn sk(&self) -> storage::Sk {
        // SAFETY: as in `addr`; the field is a pointer to the kernel's socket.
        storage::Sk(
            unsafe { ptr::read_volatile(&raw const (*self.raw()).__bindgen_anon_1.sk) }.cast(),
        )
    }
}

impl Environment for AddrHook {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn netns_cookie(&self) -> u64 {
        // SAFETY: the helper takes this hook's context.
        unsafe { bpf_get_netns_cookie(self.raw.as_ptr().cast()) }
    }
}

impl Socket for AddrHook {
    type Flows = Flows;

    #[inline(always)]
    fn connected(&self) -> Option<ConnectedFlow> {
        storage::connected(self.sk())
    }

    #[inline(always)]
    fn set_connected(&self, flow: &ConnectedFlow) -> bool {
        storage::set_connected(self.sk(), flow)
    }

    #[inline(always)]
    fn forget_connected(&self) {
        storage::forget_connected(self.sk());
    }

    #[inline(always)]
    fn datagram(&self) -> Option<Flows> {
        storage::datagram(self.sk())
    }

    #[inline(always)]
    fn datagram_or_create(&self) -> Option<Flows> {
        storage::datagram_or_create(self.sk())
    }
}

/// Context of sock_release: the socket itself.
pub(crate) struct ReleaseHook(pub(crate) SockContext);

impl ReleaseHook {
    #[inline(always)]
    fn sk(&self) -> storage::Sk {
        storage::Sk(self.0.as_ptr().cast())
    }
}

impl Socket for ReleaseHook {
    type Flows = Flows;

    #[inline(always)]
    fn connected(&self) -> Option<ConnectedFlow> {
        storage::connected(self.sk())
    }

    #[inline(always)]
    fn set_connected(&self, _flow: &ConnectedFlow) -> bool {
        false
    }

    #[inline(always)]
    fn forget_connected(&self) {}

    #[inline(always)]
    fn datagram(&self) -> Option<Flows> {
        storage::datagram(self.sk())
    }

    #[inline(always)]
    fn datagram_or_create(&self) -> Option<Flows> {
        None
    }
}

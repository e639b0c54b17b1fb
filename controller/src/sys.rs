//! The one door to bpf(2) for what aya 0.14 does not offer: batch operations, link
//! updates, link queries, iterators over maps; to mmap(2) for mmapable arrays; to
//! the socket option of namespace cookies; and to the C library's heap.
//!
//! Every function is safe to call: keys and values are `zerocopy` types, so the
//! kernel reads and writes plain bytes of the sizes that the caller checked against
//! the map ([`crate::maps`] does so when it opens one).
#![expect(unsafe_code, reason = "raw system calls")]

mod elements;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

pub use elements::Scan;
pub(crate) use elements::{insert_new, lookup, take};

use aya_obj::generated::{
    BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_type,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Calls bpf(2) with `attr` filled in by `fill`.
fn bpf(cmd: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> (i64, bpf_attr) {
    // SAFETY: `bpf_attr` is a union of plain integers; zero is valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: the kernel reads (and for batches writes) `attr`, whose size we state,
    // and the buffers whose addresses `fill` took from live slices.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            cmd as libc::c_long,
            &raw mut attr,
            size_of::<bpf_attr>(),
        )
    };
    (result, attr)
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Whether bpf(2) gets as far as the kernel: a process with the capabilities is told that no
/// path is no address, unless a filter of system calls answers before.
pub fn may_call_bpf() -> bool {
    let refused = check(bpf(bpf_cmd::BPF_OBJ_GET, |_| {}).0).err();
    refused.and_then(|error| error.raw_os_error()) != Some(libc::EPERM)
}

/// Whether the kernel has bitwise atomics: whether it takes a program with one.
pub(crate) fn has_atomic_or() -> bool {
    // r0 = 0; *(u64 *)(r10 - 8) = r0; lock *(u64 *)(r10 - 8) |= r0; exit
    loads(
        bpf_prog_type::BPF_PROG_TYPE_SOCKET_FILTER,
        0,
        &[0xb7, 0xfff8_0a7b, 0x40_fff8_0adb, 0x95],
    )
}

/// Whether XDP programs may see packets of several buffers.
pub(crate) fn has_xdp_frags() -> bool {
    // r0 = 2 (pass); exit
    loads(
        bpf_prog_type::BPF_PROG_TYPE_XDP,
        BPF_F_XDP_HAS_FRAGS,
        &[0x02_0000_00b7, 0x95],
    )
}

/// Whether the kernel takes `program`, made of instructions without references.
fn loads(kind: bpf_prog_type, flags: u32, program: &[u64]) -> bool {
    let (result, _) = bpf(bpf_cmd::BPF_PROG_LOAD, |attr| {
        // SAFETY: writing plain fields of the union's member for loading programs.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = kind as u32;
        load.prog_flags = flags;
        load.insn_cnt = program.len() as u32;
        load.insns = program.as_ptr() as u64;
        load.license = c"Dual MIT/GPL".as_ptr() as u64;
    });
    owned(result).is_ok()
}

/// Inserts or replaces `values[i]` under `keys[i]`. On an error, the number of
/// elements before it is returned with it.
pub(crate) fn update_batch<K, V>(map: impl AsFd, keys: &[K], values: &[V]) -> Result<(), BatchError>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    assert_eq!(keys.len(), values.len(), "a value for each key");
    if keys.is_empty() {
        return Ok(());
    }
    let (result, attr) = bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, |attr| {
        // SAFETY: writing plain fields of the union's `batch` member.
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = map.as_fd().as_raw_fd() as u32;
        batch.keys = keys.as_ptr() as u64;
        batch.values = values.as_ptr() as u64;
        batch.count = keys.len() as u32;
    });
    BatchError::check(result, &attr)
}

/// Deletes `keys`; one that is absent is no error.
pub(crate) fn delete_batch<K>(map: impl AsFd, keys: &[K]) -> Result<(), BatchError>
where
    K: IntoBytes + Immutable,
{
    let map = map.as_fd();
    let mut rest = keys;
    while !rest.is_empty() {
        let (result, attr) = bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, |attr| {
            // SAFETY: writing plain fields of the union's `batch` member.
            let batch = unsafe { &mut attr.batch };
            batch.map_fd = map.as_raw_fd() as u32;
            batch.keys = rest.as_ptr() as u64;
            batch.count = rest.len() as u32;
        });
        match BatchError::check(result, &attr) {
            // The kernel stops at an absent key: go on after it.
            Err(error) if error.source.raw_os_error() == Some(libc::ENOENT) => {
                rest = rest.get(error.done + 1..).unwrap_or_default();
            }
            other => return other,
        }
    }
    Ok(())
}

/// A batch operation that stopped half-way.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {done} elements: {source}")]
pub struct BatchError {
    /// Elements that were done.
    pub done: usize,
    /// Why the next one was not.
    pub source: io::Error,
}

impl BatchError {
    fn check(result: i64, attr: &bpf_attr) -> Result<(), Self> {
        if result >= 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        // SAFETY: reading a plain field of the member that was written.
        let done = unsafe { attr.batch.count } as usize;
        Err(Self { done, source })
    }

    /// Whether the map is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC))
    }
}

/// All elements of a hash map; see [`Scan`] for what concurrent changes do.
pub(crate) fn dump<K, V>(map: impl AsFd, max_entries: u32) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Immutable + Clone,
    V: FromBytes + IntoBytes + Immutable + Clone,
{
    let mut out = Vec::new();
    let mut scan = Scan::new(max_entries);
    while scan.next_batch(map.as_fd(), &mut out)? {}
    Ok(out)
}

/// Replaces the program of a link; there is no instant without one.
pub(crate) fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let (result, _) = bpf(bpf_cmd::BPF_LINK_UPDATE, |attr| {
        // SAFETY: writing plain fields of the union's `link_update` member.
        let update = unsafe { &mut attr.link_update };
        update.link_fd = link.as_fd().as_raw_fd() as u32;
        update.__bindgen_anon_1.new_prog_fd = program.as_fd().as_raw_fd() as u32;
    });
    check(result).map(drop)
}

/// Ends an attachment at once; without this it ends some time after its last reference.
pub(crate) fn link_detach(link: impl AsFd) -> io::Result<()> {
    let (result, _) = bpf(bpf_cmd::BPF_LINK_DETACH, |attr| {
        attr.link_detach.link_fd = link.as_fd().as_raw_fd() as u32;
    });
    check(result).map(drop)
}

/// The output of an iterator program over the elements of a map.
pub(crate) fn iterate_map(program: impl AsFd, map: impl AsFd) -> io::Result<File> {
    // The member `map` of `union bpf_iter_link_info`.
    let info = map.as_fd().as_raw_fd() as u32;
    let (result, _) = bpf(bpf_cmd::BPF_LINK_CREATE, |attr| {
        // SAFETY: writing plain fields of the union's `link_create` member.
        let create = unsafe { &mut attr.link_create };
        create.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd() as u32;
        create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
        create.__bindgen_anon_3.__bindgen_anon_1.iter_info = &raw const info as u64;
        create.__bindgen_anon_3.__bindgen_anon_1.iter_info_len = size_of_val(&info) as u32;
    });
    let link = owned(result)?;
    let (result, _) = bpf(bpf_cmd::BPF_ITER_CREATE, |attr| {
        attr.iter_create.link_fd = link.as_raw_fd() as u32;
    });
    owned(result).map(File::from)
}

/// Identity of the network namespace of a socket, unique since boot (kernel 5.14).
pub(crate) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    check(result.into()).map(|_| cookie)
}

/// The descriptor that a successful bpf(2) returned.
fn owned(result: i64) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens a pinned object.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let (result, _) = bpf(bpf_cmd::BPF_OBJ_GET, |attr| {
        attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    });
    owned(result)
}

/// What the kernel says about a cgroup link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupLink {
    /// Id of the attached program.
    pub program_id: u32,
    /// Inode number of the cgroup's directory; 0 once the cgroup is gone.
    pub cgroup_id: u64,
}

/// Queries a cgroup link.
pub fn cgroup_link(link: impl AsFd) -> io::Result<CgroupLink> {
    let info = link_info(link)?;
    // SAFETY: the caller knows it to be a cgroup link; the member is plain integers anyway.
    let cgroup_id = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
    Ok(CgroupLink {
        program_id: info.prog_id,
        cgroup_id,
    })
}

/// What the kernel says about a link of XDP or TC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLink {
    /// Id of the attached program.
    pub program_id: u32,
    /// The device; 0 once it is gone, or the link was detached.
    pub ifindex: u32,
}

/// Queries a link of XDP or TC.
pub fn device_link(link: impl AsFd) -> io::Result<DeviceLink> {
    let info = link_info(link)?;
    // SAFETY: `ifindex` is the first field of the members `xdp` and `tcx`; both are plain
    // integers.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(DeviceLink {
        program_id: info.prog_id,
        ifindex,
    })
}

fn link_info(link: impl AsFd) -> io::Result<bpf_link_info> {
    // SAFETY: a struct of plain integers; zero is valid.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let (result, _) = bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, |attr| {
        // SAFETY: writing plain fields of the union's `info` member.
        let query = unsafe { &mut attr.info };
        query.bpf_fd = link.as_fd().as_raw_fd() as u32;
        query.info_len = size_of::<bpf_link_info>() as u32;
        query.info = &raw mut info as u64;
    });
    check(result)?;
    Ok(info)
}

/// Waits until no program that runs now runs any more.
///
/// `MEMBARRIER_CMD_GLOBAL` is an RCU grace period on all CPUs, and programs run under
/// RCU. Where the kernel refuses it (`nohz_full`), one second is far more than any
/// program's run time.
pub(crate) fn grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes integers.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Gives memory that was freed back to the kernel, where the C library can (glibc keeps
/// what a thread other than the first has freed).
pub(crate) fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A shared mapping of a whole mmapable array.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain memory owned by this value; access goes through
// volatile reads and writes below.
unsafe impl Send for Mapping {}
// SAFETY: as above; concurrent readers of single words are what the memory is for.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes.
    pub(crate) fn new(map: impl AsFd, len: usize, writable: bool) -> io::Result<Self> {
        let len = len.next_multiple_of(4096);
        let prot = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Reads the `T` at byte `offset`.
    pub(crate) fn read<T: FromBytes>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= self.len && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping and aligned, as just checked; any bits are a `T`.
        unsafe { self.start.add(offset).cast::<T>().read_volatile() }
    }

    /// Writes `value` at byte `offset`.
    pub(crate) fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= self.len && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping and aligned, as just checked; only writable
        // mappings are given to writers, another one would fault.
        unsafe { self.start.add(offset).cast::<T>().write_volatile(value) }
    }

    /// Adds to the `u64` at byte `offset`, beside programs and threads that do the same.
    pub(crate) fn add(&self, offset: usize, number: u64) {
        assert!(offset + 8 <= self.len && offset.is_multiple_of(8));
        // SAFETY: inside the mapping and aligned, as just checked; whoever writes it
        // meanwhile does so in whole words.
        let word = unsafe { AtomicU64::from_ptr(self.start.add(offset).cast()) };
        word.fetch_add(number, Ordering::Relaxed);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

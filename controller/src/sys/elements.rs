//! Single elements of hash maps, and scans of them in pieces.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use aya_obj::generated::{BPF_NOEXIST, bpf_cmd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{bpf, check};

/// What old kernels answer to operations that they do not know: `ENOTSUPP` of the kernel,
/// which has no name in user space.
const ENOTSUPP: i32 = 524;

/// A walk over a hash map, some buckets at a time.
///
/// Elements that change meanwhile may be missed or seen twice, as always with BPF hashes.
#[derive(Debug)]
pub struct Scan<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    /// The bucket to go on with.
    cursor: Option<u32>,
    ended: bool,
}

impl<K, V> Scan<K, V>
where
    K: FromBytes + IntoBytes + Immutable + Clone,
    V: FromBytes + IntoBytes + Immutable + Clone,
{
    /// Elements asked for at a time: more than any bucket can be expected to hold.
    const CHUNK: u32 = 4096;

    /// A walk from the first bucket of a map with at most `max_entries` elements.
    pub(crate) fn new(max_entries: u32) -> Self {
        let size = Self::CHUNK.min(max_entries).max(64) as usize;
        Self {
            keys: vec![K::new_zeroed(); size],
            values: vec![V::new_zeroed(); size],
            cursor: None,
            ended: false,
        }
    }

    /// Appends the next elements to `out`; `false` when there are none left.
    pub(crate) fn next_batch(
        &mut self,
        map: BorrowedFd<'_>,
        out: &mut Vec<(K, V)>,
    ) -> io::Result<bool> {
        while !self.ended {
            let mut next = 0u32;
            let (result, attr) = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, |attr| {
                // SAFETY: writing plain fields of the union's `batch` member.
                let batch = unsafe { &mut attr.batch };
                batch.map_fd = map.as_raw_fd() as u32;
                let cursor = self.cursor.as_ref();
                batch.in_batch = cursor.map_or(0, |c| std::ptr::from_ref(c) as u64);
                batch.out_batch = &raw mut next as u64;
                batch.keys = self.keys.as_mut_ptr() as u64;
                batch.values = self.values.as_mut_ptr() as u64;
                batch.count = self.keys.len() as u32;
            });
            match check(result).map_err(|error| (error.raw_os_error(), error)) {
                // One bucket holds more than we have room for.
                Err((Some(libc::ENOSPC), _)) => {
                    let size = self.keys.len() * 2;
                    self.keys.resize(size, K::new_zeroed());
                    self.values.resize(size, V::new_zeroed());
                    continue;
                }
                Err((Some(libc::ENOENT), _)) => self.ended = true,
                Err((_, error)) => return Err(error),
                Ok(_) => self.cursor = Some(next),
            }
            // SAFETY: reading a plain field of the member that was written.
            let count = unsafe { attr.batch.count } as usize;
            let pairs = self.keys.iter().cloned().zip(self.values.iter().cloned());
            out.extend(pairs.take(count));
            return Ok(true);
        }
        Ok(false)
    }
}

/// The value under `key`.
pub(crate) fn lookup<K, V>(map: impl AsFd, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    read(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key)
}

/// Deletes `key` and returns what was under it, in one step.
///
/// Kernels before 5.14 need two steps, between which a change is lost.
pub(crate) fn take<K, V>(map: impl AsFd, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    let map = map.as_fd();
    match read(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, key) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL)
            ) =>
        {
            let value = lookup(map, key)?;
            let (result, _) = element(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key, 0, 0);
            Ok(found(result)?.and(value))
        }
        other => other,
    }
}

/// Inserts `value` under `key` unless there is one already; whether it did.
pub(crate) fn insert_new<K, V>(map: impl AsFd, key: &K, value: &V) -> io::Result<bool>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    let value = std::ptr::from_ref(value) as u64;
    let flags = u64::from(BPF_NOEXIST);
    let (result, _) = element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, key, value, flags);
    match check(result) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        other => other.map(|_| true),
    }
}

fn read<K, V>(cmd: bpf_cmd, map: impl AsFd, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    let mut value = V::new_zeroed();
    let (result, _) = element(cmd, map, key, &raw mut value as u64, 0);
    Ok(found(result)?.map(|()| value))
}

fn element<K>(
    cmd: bpf_cmd,
    map: impl AsFd,
    key: &K,
    value: u64,
    flags: u64,
) -> (i64, aya_obj::generated::bpf_attr) {
    bpf(cmd, |attr| {
        // SAFETY: writing plain fields of the union's element member.
        let element = unsafe { &mut attr.__bindgen_anon_2 };
        element.map_fd = map.as_fd().as_raw_fd() as u32;
        element.key = std::ptr::from_ref(key) as u64;
        element.__bindgen_anon_1.value = value;
        element.flags = flags;
    })
}

/// `None` if the kernel found no such element.
fn found(result: i64) -> io::Result<Option<()>> {
    match check(result) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(|_| Some(())),
    }
}

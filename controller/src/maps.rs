//! The programmed state as typed maps, opened for writing by the controller and for
//! reading by tools.
//!
//! Sizes of keys and values are checked once, here, when a map is opened; after that
//! nothing can read or write past an element.

pub mod events;
mod trie;

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError};
use lb_ebpf::abi::{
    Addr, AffinityEntry, AffinityKey, BackendEntry, BackendStats, Config, ConntrackEntry,
    ConntrackKey, Device, FragmentKey, FragmentPorts, FrontendKey, LocalBackendKey, Name,
    ServiceEntry, ServiceInfo, ServiceRanges, ServiceStats, Status, map,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use self::{events::EventTable, trie::SourceRanges};

use crate::{
    conntrack::FlowSizes,
    sys::{self, BatchError, Mapping, Scan},
};

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// It cannot be opened.
    #[error("cannot open the map {path}: {source}")]
    Open {
        /// Where it is pinned.
        path: PathBuf,
        /// Why not.
        source: Box<MapError>,
    },
    /// It is not the map that this version expects.
    #[error(
        "the map {name} has keys of {key} and values of {value} bytes, not {expected_key} and \
         {expected_value}: it belongs to another version"
    )]
    Layout {
        /// Its name.
        name: &'static str,
        /// Its key size in bytes.
        key: u32,
        /// Its value size in bytes.
        value: u32,
        /// The key size of this version.
        expected_key: usize,
        /// The value size of this version.
        expected_value: usize,
    },
    /// It cannot be mapped, read or written.
    #[error("cannot {what} the map {name}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Its name.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl MapsError {
    /// Whether a map, or the memory for it, is full.
    pub fn is_full(&self) -> bool {
        let code = match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Open { .. } | Self::Layout { .. } => None,
        };
        matches!(code, Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM))
    }
}

/// Whether a tool reads or the controller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

fn checked(
    data: &MapData,
    name: &'static str,
    expected_key: usize,
    expected_value: usize,
) -> Result<u32, MapsError> {
    let info = data.info().map_err(|source| MapsError::Open {
        path: name.into(),
        source: Box::new(source),
    })?;
    if (info.key_size() as usize, info.value_size() as usize) != (expected_key, expected_value) {
        return Err(MapsError::Layout {
            name,
            key: info.key_size(),
            value: info.value_size(),
            expected_key,
            expected_value,
        });
    }
    Ok(info.max_entries())
}

/// An mmapable array of `T`: reads and writes are plain loads and stores.
///
/// `PER` elements of `T` make one element of the map, whose stride is 8 bytes at least.
#[derive(Debug)]
pub struct MappedArray<T, const PER: usize = 1> {
    mapping: Mapping,
    len: u32,
    element: PhantomData<T>,
}

impl<T, const PER: usize> MappedArray<T, PER>
where
    T: FromBytes + IntoBytes + Immutable + Copy + PartialEq,
{
    fn new(data: &MapData, name: &'static str, access: Access) -> Result<Self, MapsError> {
        const { assert!((size_of::<T>() * PER).is_multiple_of(8)) };
        let elements = checked(data, name, 4, size_of::<T>() * PER)?;
        let len = elements * PER as u32;
        let mapping = Mapping::new(
            data.fd(),
            len as usize * size_of::<T>(),
            access == Access::Write,
        )
        .map_err(|source| MapsError::Io {
            what: "mmap",
            name,
            source,
        })?;
        Ok(Self {
            mapping,
            len,
            element: PhantomData,
        })
    }

    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no element; never so.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index`.
    pub fn get(&self, index: u32) -> T {
        self.mapping.read(index as usize * size_of::<T>())
    }

    /// Stores `value` at `index` unless it already is there; each aligned word is
    /// written at once.
    pub fn set(&self, index: u32, value: T) {
        let offset = index as usize * size_of::<T>();
        if self.mapping.read::<T>(offset) != value {
            self.mapping.write(offset, value);
        }
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).map(|index| self.get(index))
    }
}

impl MappedArray<BackendStats> {
    /// Adds to the closed connections of a slot, beside programs that do the same.
    pub fn add_closed(&self, slot: u32, number: u64) {
        let field = std::mem::offset_of!(BackendStats, closed);
        self.mapping
            .add(slot as usize * size_of::<BackendStats>() + field, number);
    }
}

/// A hash map from `K` to `V`, written in batches.
#[derive(Debug)]
pub struct HashTable<K, V> {
    data: MapData,
    name: &'static str,
    max_entries: u32,
    entry: PhantomData<(K, V)>,
}

impl<K, V> HashTable<K, V>
where
    K: FromBytes + IntoBytes + Immutable + Clone,
    V: FromBytes + IntoBytes + Immutable + Clone,
{
    fn new(data: MapData, name: &'static str) -> Result<Self, MapsError> {
        let max_entries = checked(&data, name, size_of::<K>(), size_of::<V>())?;
        Ok(Self {
            data,
            name,
            max_entries,
            entry: PhantomData,
        })
    }

    /// Most entries that fit.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// All entries, in no order.
    pub fn dump(&self) -> Result<Vec<(K, V)>, MapsError> {
        sys::dump(self.fd(), self.max_entries).map_err(|source| self.failed("read", source))
    }

    /// Starts to read all entries in pieces; see [`Self::next_batch`].
    pub(crate) fn scan(&self) -> Scan<K, V> {
        Scan::new(self.max_entries)
    }

    /// Replaces the contents of `out` by the next entries of a scan; `false` when there
    /// are none left.
    pub(crate) fn next_batch(
        &self,
        scan: &mut Scan<K, V>,
        out: &mut Vec<(K, V)>,
    ) -> Result<bool, MapsError> {
        out.clear();
        scan.next_batch(self.fd(), out)
            .map_err(|source| self.failed("read", source))
    }

    /// Calls `each` with all entries, in no order, a few at a time in memory.
    pub fn for_each(&self, mut each: impl FnMut(K, V)) -> Result<(), MapsError> {
        let mut scan = self.scan();
        let mut batch = Vec::new();
        while self.next_batch(&mut scan, &mut batch)? {
            batch.drain(..).for_each(|(key, value)| each(key, value));
        }
        Ok(())
    }

    /// Number of entries.
    pub fn count(&self) -> Result<u64, MapsError> {
        let mut count = 0;
        self.for_each(|_, _| count += 1)?;
        Ok(count)
    }

    /// The value under `key`.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapsError> {
        sys::lookup(self.fd(), key).map_err(|source| self.failed("read", source))
    }

    /// Deletes `key` and returns what was under it.
    pub fn take(&self, key: &K) -> Result<Option<V>, MapsError> {
        sys::take(self.fd(), key).map_err(|source| self.failed("delete from", source))
    }

    /// Inserts `value` unless `key` has one; whether it did.
    pub fn insert_new(&self, key: &K, value: &V) -> Result<bool, MapsError> {
        sys::insert_new(self.fd(), key, value).map_err(|source| self.failed("write", source))
    }

    /// Inserts or replaces.
    pub fn update(&self, keys: &[K], values: &[V]) -> Result<(), BatchError> {
        sys::update_batch(self.fd(), keys, values)
    }

    /// Deletes; an absent key is no error.
    pub fn delete(&self, keys: &[K]) -> Result<(), BatchError> {
        sys::delete_batch(self.fd(), keys)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> MapsError {
        MapsError::Io {
            what,
            name: self.name,
            source,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }
}

/// All maps of one epoch; see [`map`] for what each holds.
#[derive(Debug)]
pub struct Maps {
    /// `SERVICES`.
    pub services: HashTable<FrontendKey, ServiceEntry>,
    /// `MAGLEV`, as single entries.
    pub maglev: MappedArray<u32, 2>,
    /// `BACKENDS`.
    pub backends: MappedArray<BackendEntry>,
    /// `BACKEND_STATS`.
    pub backend_stats: MappedArray<BackendStats>,
    /// `SERVICE_STATS`.
    pub service_stats: MappedArray<ServiceStats>,
    /// `SERVICE_INFO`.
    pub service_info: MappedArray<ServiceInfo>,
    /// `ZONES`.
    pub zones: HashTable<u32, Name>,
    /// `FILTER`.
    pub filter: MappedArray<u64>,
    /// `NODE_PORTS`.
    pub node_ports: MappedArray<u64>,
    /// `SOURCE_RANGES`.
    pub source_ranges: SourceRanges,
    /// `LOCAL_BACKENDS`.
    pub local_backends: HashTable<LocalBackendKey, u32>,
    /// `AFFINITY`.
    pub affinity: HashTable<AffinityKey, AffinityEntry>,
    /// `STATUS`.
    pub status: MappedArray<Status>,
    /// `CONNTRACK`.
    pub conntrack: HashTable<ConntrackKey, ConntrackEntry>,
    /// `HALF_OPEN`.
    pub half_open: HashTable<ConntrackKey, ConntrackEntry>,
    /// `FRAGMENTS`.
    pub fragments: HashTable<FragmentKey, FragmentPorts>,
    /// `CONFIG`.
    pub config: MappedArray<Config>,
    /// `DEVICES`.
    pub devices: HashTable<u32, Device>,
    /// `EVENTS`.
    pub events: EventTable,
    /// `NODE_ADDRESSES`.
    pub node_addresses: HashTable<Addr, u32>,
    /// `VIPS`.
    pub vips: HashTable<Addr, u32>,
    /// `SERVICE_RANGES`.
    pub service_ranges: MappedArray<ServiceRanges>,
}

impl Maps {
    /// Sizes of the maps of flows.
    pub fn flow_sizes(&self) -> FlowSizes {
        FlowSizes {
            conntrack: self.conntrack.max_entries(),
            half_open: self.half_open.max_entries(),
            fragments: self.fragments.max_entries(),
        }
    }

    /// Opens the maps pinned in `dir`.
    pub fn open(dir: &Path, access: Access) -> Result<Self, MapsError> {
        let open = |name: &'static str| {
            let path = dir.join(name);
            MapData::from_pin(&path).map_err(|source| MapsError::Open {
                path,
                source: Box::new(source),
            })
        };
        Ok(Self {
            services: HashTable::new(open(map::SERVICES)?, map::SERVICES)?,
            maglev: MappedArray::new(&open(map::MAGLEV)?, map::MAGLEV, access)?,
            backends: MappedArray::new(&open(map::BACKENDS)?, map::BACKENDS, access)?,
            backend_stats: MappedArray::new(
                &open(map::BACKEND_STATS)?,
                map::BACKEND_STATS,
                access,
            )?,
            service_stats: MappedArray::new(
                &open(map::SERVICE_STATS)?,
                map::SERVICE_STATS,
                access,
            )?,
            service_info: MappedArray::new(&open(map::SERVICE_INFO)?, map::SERVICE_INFO, access)?,
            zones: HashTable::new(open(map::ZONES)?, map::ZONES)?,
            filter: MappedArray::new(&open(map::FILTER)?, map::FILTER, access)?,
            node_ports: MappedArray::new(&open(map::NODE_PORTS)?, map::NODE_PORTS, access)?,
            source_ranges: SourceRanges::new(open(map::SOURCE_RANGES)?, map::SOURCE_RANGES)?,
            local_backends: HashTable::new(open(map::LOCAL_BACKENDS)?, map::LOCAL_BACKENDS)?,
            affinity: HashTable::new(open(map::AFFINITY)?, map::AFFINITY)?,
            status: MappedArray::new(&open(map::STATUS)?, map::STATUS, access)?,
            conntrack: HashTable::new(open(map::CONNTRACK)?, map::CONNTRACK)?,
            half_open: HashTable::new(open(map::HALF_OPEN)?, map::HALF_OPEN)?,
            fragments: HashTable::new(open(map::FRAGMENTS)?, map::FRAGMENTS)?,
            config: MappedArray::new(&open(map::CONFIG)?, map::CONFIG, access)?,
            devices: HashTable::new(open(map::DEVICES)?, map::DEVICES)?,
            events: EventTable::new(open(map::EVENTS)?)?,
            node_addresses: HashTable::new(open(map::NODE_ADDRESSES)?, map::NODE_ADDRESSES)?,
            vips: HashTable::new(open(map::VIPS)?, map::VIPS)?,
            service_ranges: MappedArray::new(
                &open(map::SERVICE_RANGES)?,
                map::SERVICE_RANGES,
                access,
            )?,
        })
    }
}

//! A copy of the maps, and how it is taken beside a controller that writes.
//!
//! The controller writes what is referred to before what refers to it, and removes in
//! the reverse order, so reading frontends first finds their descriptions. What is gone
//! in between shows as orphans: then, and when the maps were swapped for larger ones
//! while they were read, the copy is taken once more.

use std::{collections::HashSet, io, path::Path};

use aya::maps::MapError;
use lb_ebpf::{
    abi::{
        ABI_VERSION, BackendEntry, BackendStats, Config, Device, EventKey, FrontendFlags,
        FrontendKey, LocalBackendKey, Name, ServiceEntry, ServiceInfo, ServiceRanges, ServiceStats,
        SourceRangeKey, Status, TableRef,
    },
    hash::{filter_bit, node_port_bit},
};

use super::{LbctlError, facts};
use crate::{
    maps::{Access, MappedArray, Maps, MapsError},
    pins::Pins,
    plan::Capacity,
};

/// Entries of Maglev tables: backend slots.
pub trait Slab: std::fmt::Debug {
    /// The slot at `index`; `None` beyond the end.
    fn entry(&self, index: u32) -> Option<u32>;
    /// Number of entries.
    fn entries(&self) -> u32;
}

impl Slab for MappedArray<u32, 2> {
    fn entry(&self, index: u32) -> Option<u32> {
        (index < self.len()).then(|| self.get(index))
    }

    fn entries(&self) -> u32 {
        self.len()
    }
}

impl Slab for Vec<u32> {
    fn entry(&self, index: u32) -> Option<u32> {
        self.get(index as usize).copied()
    }

    fn entries(&self) -> u32 {
        self.len() as u32
    }
}

/// The order of [`Snapshot::frontends`].
fn order(key: &FrontendKey) -> ([u8; 16], u16, u8, u8) {
    (key.addr.octets(), key.port.get(), key.protocol, key.scope)
}

/// What is programmed, without any order but by index.
#[derive(Debug)]
pub struct Snapshot {
    /// Number of the set of maps.
    pub epoch: u32,
    /// `STATUS`.
    pub status: Status,
    /// Used elements of `SERVICE_INFO`, by id.
    pub infos: Vec<(u32, ServiceInfo)>,
    /// `SERVICE_STATS`, from id 0.
    pub service_stats: Vec<ServiceStats>,
    /// `SERVICES`, sorted, each key once.
    pub frontends: Vec<(FrontendKey, ServiceEntry)>,
    /// `BACKENDS`, from slot 0 to the last that was ever used.
    pub backends: Vec<BackendEntry>,
    /// `BACKEND_STATS`, from slot 0.
    pub backend_stats: Vec<BackendStats>,
    /// `ZONES`, sorted.
    pub zones: Vec<(u32, Name)>,
    /// `FILTER`.
    pub filter: Vec<u64>,
    /// `NODE_PORTS`.
    pub node_ports: Vec<u64>,
    /// `SOURCE_RANGES`, sorted by service, length and address.
    pub source_ranges: Vec<SourceRangeKey>,
    /// `LOCAL_BACKENDS`, sorted by service.
    pub local_backends: Vec<(LocalBackendKey, u32)>,
    /// Clients in `AFFINITY`, and how many fit.
    pub affinity: (u32, u32),
    /// Capacities of the maps.
    pub capacity: Capacity,
    /// Most elements of `ZONES`.
    pub zones_capacity: u32,
    /// `MAGLEV`.
    pub slab: Box<dyn Slab>,
    /// `CONFIG`.
    pub config: Config,
    /// `SERVICE_RANGES`.
    pub service_ranges: ServiceRanges,
    /// `DEVICES`, sorted by ifindex.
    pub devices: Vec<(u32, Device)>,
    /// `EVENTS`, summed over CPUs.
    pub events: Vec<(EventKey, u64)>,
}

impl Snapshot {
    fn of(epoch: u32, maps: Maps) -> Result<Self, MapsError> {
        let mut frontends = maps.services.dump()?;
        frontends.sort_by_key(|(key, _)| order(key));
        frontends.dedup_by_key(|(key, _)| *key);
        let infos = (0..).zip(maps.service_info.iter());
        let infos: Vec<_> = infos.filter(|(_, info)| info.is_used()).collect();
        let mut backends: Vec<_> = maps.backends.iter().collect();
        let last = backends
            .iter()
            .rposition(|b| b.generation != 0 || b.flags != 0);
        backends.truncate(last.map_or(0, |last| last + 1));
        let mut zones = maps.zones.dump()?;
        zones.sort_by_key(|(id, _)| *id);
        let mut local_backends = maps.local_backends.dump()?;
        local_backends.sort_by_key(|(key, _)| (key.service_id, key.addr.octets()));
        local_backends.dedup_by_key(|(key, _)| *key);
        let affinity = maps.affinity.dump()?.len() as u32;
        let mut devices = maps.devices.dump()?;
        devices.sort_by_key(|(index, _)| *index);
        Ok(Self {
            epoch,
            status: maps.status.get(0),
            infos,
            service_stats: maps.service_stats.iter().collect(),
            frontends,
            backends,
            backend_stats: maps.backend_stats.iter().collect(),
            zones,
            filter: maps.filter.iter().collect(),
            node_ports: maps.node_ports.iter().collect(),
            source_ranges: maps.source_ranges.dump()?,
            local_backends,
            affinity: (affinity, maps.affinity.max_entries()),
            capacity: Capacity {
                services: maps.service_info.len(),
                frontends: maps.services.max_entries(),
                backends: maps.backends.len(),
                maglev: maps.maglev.len(),
            },
            zones_capacity: maps.zones.max_entries(),
            config: maps.config.get(0),
            service_ranges: maps.service_ranges.get(0),
            devices,
            events: maps.events.dump()?,
            slab: Box::new(maps.maglev),
        })
    }

    /// Name of a zone; `None` for id 0 and for ids without a name.
    pub(super) fn zone(&self, id: u32) -> Option<String> {
        let index = self.zones.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, name) = self.zones.get(index)?;
        Some(super::words::name(name)).filter(|name| id != 0 && !name.is_empty())
    }

    /// What is known of a service.
    pub(super) fn info(&self, id: u32) -> Option<&ServiceInfo> {
        let index = self.infos.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.infos.get(index).map(|(_, info)| info)
    }

    /// `NAMESPACE/NAME` of a service.
    pub(super) fn service_name(&self, id: u32) -> Option<String> {
        let info = self.info(id)?;
        let [namespace, name] = [&info.namespace, &info.name].map(super::words::name);
        Some(format!("{namespace}/{name}"))
    }

    /// The sources that a service admits, in the order of the map.
    pub(super) fn source_ranges_of(&self, id: u32) -> impl Iterator<Item = &SourceRangeKey> {
        let start = (self.source_ranges).partition_point(|key| key.range.service_id < id);
        let ranges = self.source_ranges.iter().skip(start);
        ranges.take_while(move |key| key.range.service_id == id)
    }

    /// The backends of this node that a DSR service names, with their slots.
    pub(super) fn local_backends_of(
        &self,
        id: u32,
    ) -> impl Iterator<Item = &(LocalBackendKey, u32)> {
        let start = (self.local_backends).partition_point(|(key, _)| key.service_id < id);
        let backends = self.local_backends.iter().skip(start);
        backends.take_while(move |(key, _)| key.service_id == id)
    }

    /// Whether exactly this entry is programmed.
    pub(super) fn has_frontend(&self, key: &FrontendKey) -> bool {
        let found = (self.frontends).binary_search_by_key(&order(key), |(key, _)| order(key));
        found.is_ok()
    }

    /// Whether the bit that lets packets of a frontend in is set.
    pub(super) fn lets_in(&self, key: &FrontendKey) -> bool {
        let (words, bit) = if key.addr.is_unspecified() {
            let bit = node_port_bit(key.protocol, key.port.get());
            (&self.node_ports, bit)
        } else {
            (&self.filter, Some(filter_bit(key)))
        };
        bit.is_some_and(|(word, bit)| {
            let bits = words.get(word as usize).copied().unwrap_or(0);
            bits & bit != 0
        })
    }

    /// The backend in `slot`, if it is in use.
    pub(super) fn backend(&self, slot: u32) -> Option<&BackendEntry> {
        self.backends.get(slot as usize).filter(|b| b.flags != 0)
    }

    /// The entries of `table`; what lies beyond the slab is left out.
    pub(crate) fn entries(&self, table: TableRef) -> impl Iterator<Item = u32> + '_ {
        let start = table.offset().min(self.slab.entries());
        let end = start.saturating_add(table.len()).min(self.slab.entries());
        (start..end).filter_map(|index| self.slab.entry(index))
    }

    /// Whether every frontend and backend belongs to a service that is described, and
    /// every restricted frontend admits somebody.
    fn is_whole(&self) -> bool {
        let ids: HashSet<u32> = self.infos.iter().map(|(id, _)| *id).collect();
        let used = self.backends.iter().filter(|b| b.flags != 0);
        self.frontends
            .iter()
            .all(|(_, entry)| ids.contains(&entry.service_id) && self.admits(entry))
            && used.map(|b| b.service_id).all(|id| ids.contains(&id))
    }

    /// Whether an entry that is restricted has source ranges.
    pub(super) fn admits(&self, entry: &ServiceEntry) -> bool {
        let mut sources = self.source_ranges_of(entry.service_id);
        entry.flags & FrontendFlags::SOURCE_RANGES == 0 || sources.next().is_some()
    }
}

/// Copies the maps that are in force below `root`.
pub fn read(root: &Path) -> Result<Snapshot, LbctlError> {
    let pins = Pins::new(root);
    let mut latest = None;
    for _ in 0..2 {
        let Some((epoch, maps)) = current(&pins, Access::Read)? else {
            continue;
        };
        let snapshot = Snapshot::of(epoch, maps)?;
        if pins.epoch(epoch).is_dir() && snapshot.is_whole() {
            return Ok(snapshot);
        }
        latest = Some(snapshot);
    }
    latest.ok_or_else(|| why_nothing(root, &pins))
}

/// Opens the maps that are in force below `root`.
pub(super) fn open(root: &Path, access: Access) -> Result<Maps, LbctlError> {
    let pins = Pins::new(root);
    match current(&pins, access)? {
        Some((_, maps)) => Ok(maps),
        None => Err(why_nothing(root, &pins)),
    }
}

fn current(pins: &Pins, access: Access) -> Result<Option<(u32, Maps)>, LbctlError> {
    pins.current(access).map_err(|error| match &error {
        MapsError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            LbctlError::Privileges(pins.dir().display().to_string())
        }
        _ => error.into(),
    })
}

/// Tells apart why there are no ready maps.
fn why_nothing(root: &Path, pins: &Pins) -> LbctlError {
    let dir = pins.dir().display();
    let running = match facts::controller(pins.dir()) {
        Some(pid) => format!("a controller runs (pid {pid}) and has not synced yet"),
        None => "no controller runs".into(),
    };
    match pins.epochs().as_deref() {
        Ok([newest, ..]) => match Maps::open(&pins.epoch(*newest), Access::Read) {
            Err(MapsError::Open { path, source }) if is_permission(&source) => {
                LbctlError::Privileges(path.display().to_string())
            }
            _ => LbctlError::NothingProgrammed(format!(
                "the maps in {dir} have not been filled yet; {running}"
            )),
        },
        _ => LbctlError::NothingProgrammed(match other_version(root) {
            Some(other) => format!(
                "{} holds the state of another version ({other}, this lbctl reads \
                 abi{ABI_VERSION})",
                root.display()
            ),
            None => format!("there is no state in {dir}; {running}"),
        }),
    }
}

fn other_version(root: &Path) -> Option<String> {
    let entries = std::fs::read_dir(root).ok()?;
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("abi") && *name != format!("abi{ABI_VERSION}"))
}

fn is_permission(error: &MapError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}

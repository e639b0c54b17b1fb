//! The datapath as one thing: created, adopted, grown, written.
//!
//! Growing, upgrading and restarting are the same few steps: programs are loaded on a
//! complete set of maps (an epoch), and links are updated to them. Traffic never meets
//! a half-filled map, nor an instant without a program.

mod capacity;
mod counters;
pub(crate) mod network;
mod ranges;
mod repair;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lb_ebpf::abi::{ABI_VERSION, Collected, Status, StatusFlags, map};
use nix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use self::{
    capacity::{SMALLEST, capacity_of, grown, room_for},
    counters::Counters,
};
pub use self::{network::Network, repair::Repairs};
use crate::{
    apply::{ApplyError, apply},
    conntrack::FlowSizes,
    kernel::Features,
    loader::{self, Cgroup, DeviceError, LoadError, MapSizes, Programs},
    maps::{Access, Maps, MapsError},
    pins::Pins,
    plan::{Batch, Capacity, Limits, NoRoom, Snapshot, Usage},
};

/// Maps that every epoch shares: state of sockets, flows and clients, what the node is
/// like, and what never grows.
const SHARED: [&str; 18] = [
    map::FILTER,
    map::AFFINITY,
    map::CONNECTED,
    map::DATAGRAM,
    map::ZONES,
    map::NODE_PORTS,
    map::NODE_ADDRESSES,
    map::DEVICES,
    map::SOURCE_RANGES,
    map::LOCAL_BACKENDS,
    map::CONNTRACK,
    map::HALF_OPEN,
    map::FLOW_SOURCES,
    map::FRAGMENTS,
    map::CONFIG,
    map::EVENTS,
    map::REJECTS,
    map::SERVICE_RANGES,
];

/// Why the datapath cannot be brought up or changed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// Programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Writing.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Detaching from devices.
    #[error("cannot detach the programs from the devices: {0}")]
    Detach(DeviceError),
    /// Removing pins.
    #[error("cannot remove {path}: {source}")]
    Remove {
        /// What.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Where and how the datapath lives on this node.
#[derive(Debug)]
pub struct Place {
    /// The pin directory.
    pub pins: Pins,
    /// The cgroup of the programs.
    pub cgroup: Cgroup,
    /// Optional features of this kernel.
    pub features: Features,
    /// Entries of `AFFINITY`, when it is created.
    pub affinity_entries: u32,
    /// Entries of the maps of flows, when they are created.
    pub flow_sizes: FlowSizes,
    /// `metadata.name` of this node.
    pub node_name: String,
    /// Kind of source, for the status: `api` or `files`.
    pub source: &'static str,
    /// This node's devices and addresses.
    pub network: Network,
}

/// A datapath in force.
#[derive(Debug)]
pub struct Datapath {
    place: Place,
    epoch: u32,
    maps: Maps,
    /// The programs; devices that appear get them, too.
    programs: Programs,
    /// Whether they are attached.
    published: bool,
}

impl Datapath {
    /// Takes over what is pinned, replacing its programs by ours; gives `place` back if
    /// nothing is pinned.
    pub fn adopt(place: Place) -> Result<Result<(Self, Capacity, Snapshot), Place>, DatapathError> {
        let Some((epoch, maps)) = place.pins.current(Access::Write)? else {
            return Ok(Err(place));
        };
        let capacity = capacity_of(&maps);
        let dir = place.pins.epoch(epoch);
        let sizes = MapSizes {
            capacity,
            affinity: place.affinity_entries,
            flows: place.flow_sizes,
        };
        let programs = Programs::load(&dir, &sizes, place.features)?;
        let mut datapath = Self {
            place,
            epoch,
            maps,
            programs,
            published: true,
        };
        datapath.write_network()?;
        datapath.attach()?;
        datapath.remove_other_epochs();
        datapath.warn_of_kept_sizes();
        let snapshot = datapath.snapshot()?;
        info!(
            epoch,
            services = snapshot.infos.len(),
            frontends = snapshot.frontends.len(),
            "adopted the programmed state"
        );
        Ok(Ok((datapath, capacity, snapshot)))
    }

    /// Creates maps with room for `needed`. They take no traffic until they have been
    /// filled and [`Self::publish`] is called.
    pub fn create(place: Place, needed: Usage) -> Result<(Self, Capacity), DatapathError> {
        let newest = place
            .pins
            .epochs()
            .ok()
            .and_then(|epochs| epochs.first().copied());
        let epoch = newest.unwrap_or(0) + 1;
        let capacity = room_for(needed, SMALLEST);
        let dir = place.pins.epoch(epoch);
        let sizes = MapSizes {
            capacity,
            affinity: place.affinity_entries,
            flows: place.flow_sizes,
        };
        let programs = Programs::load(&dir, &sizes, place.features)?;
        let maps = Maps::open(&dir, Access::Write)?;
        let datapath = Self {
            place,
            epoch,
            maps,
            programs,
            published: false,
        };
        datapath.write_network()?;
        datapath.write_status(|status| *status = datapath.new_status());
        info!(epoch, ?capacity, "created the maps");
        Ok((datapath, capacity))
    }

    /// Lets traffic in, if that has not happened yet: the maps are filled.
    pub fn publish(&mut self) -> Result<(), DatapathError> {
        if self.published {
            return Ok(());
        }
        let mut status = self.maps.status.get(0);
        status.flags |= StatusFlags::READY;
        self.maps.status.set(0, status);
        self.attach()?;
        self.published = true;
        self.remove_other_epochs();
        if let Err(error) = self.place.pins.remove_other_versions() {
            warn!(%error, "programs of another version stay attached");
        }
        // They may have held a place that takes one program only.
        let _ = self.attach_to_devices()?;
        info!(epoch = self.epoch, "attached the programs");
        Ok(())
    }

    /// Puts the programs into force, at the cgroup and at devices, in place of those that
    /// are there.
    fn attach(&mut self) -> Result<Repairs, DatapathError> {
        let sockets = self.programs.attach(&self.place.pins, &self.place.cgroup)?;
        let devices = self.attach_to_devices()?;
        Ok(Repairs {
            sockets,
            devices,
            maps: 0,
        })
    }

    /// Swaps in larger maps with room for `usage` and what did not fit beyond it.
    ///
    /// Indices keep their meaning, so sockets, clients and counters notice nothing.
    pub fn grow(&mut self, usage: Usage, no_room: NoRoom) -> Result<Capacity, DatapathError> {
        let old = capacity_of(&self.maps);
        let needed = no_room.needed;
        let total = Usage {
            services: usage.services + needed.services,
            frontends: usage.frontends + needed.frontends,
            backends: usage.backends + needed.backends,
            // Room may be there, but in pieces: then the new end must take it all.
            maglev: needed.maglev
                + if no_room.slab {
                    old.maglev
                } else {
                    usage.maglev
                },
        };
        let capacity = grown(old, total);
        let (from, to) = (
            self.place.pins.epoch(self.epoch),
            self.place.pins.epoch(self.epoch + 1),
        );
        info!(from = ?old, to = ?capacity, "growing the maps");
        // Whatever a crash left there was never ready.
        self.remove(self.epoch + 1)?;
        loader::share(&from, &to, &SHARED)?;
        let sizes = MapSizes {
            capacity,
            affinity: self.place.affinity_entries,
            flows: self.place.flow_sizes,
        };
        let programs = Programs::load(&to, &sizes, self.place.features)?;
        let maps = Maps::open(&to, Access::Write)?;
        let counted = Counters::of(&self.maps);
        counted.write(&maps);
        self.copy_to(&maps)?;
        let old = std::mem::replace(&mut self.programs, programs);
        if self.published
            && let Err(error) = self.attach()
        {
            self.programs = old;
            return Err(error);
        }
        let before = std::mem::replace(&mut self.maps, maps);
        counted.add_missed(&before, &self.maps);
        self.remove(self.epoch)?;
        self.epoch += 1;
        Ok(capacity)
    }

    /// Writes a batch.
    pub fn apply(&self, batch: &Batch) -> Result<(), ApplyError> {
        apply(&self.maps, batch)
    }

    /// The maps, for reading.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Capacities of the maps that never grow.
    pub fn limits(&self) -> Limits {
        Limits {
            source_ranges: self.maps.source_ranges.max_entries(),
            local_backends: self.maps.local_backends.max_entries(),
        }
    }

    /// Where it lives.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Changes what tools read about the controller.
    pub fn write_status(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.maps.status.get(0);
        change(&mut status);
        self.maps.status.set(0, status);
    }

    /// The status of a controller that has just started.
    pub fn new_status(&self) -> Status {
        let mut node_name = [0; 256];
        let name = self.place.node_name.as_bytes();
        let len = name.len().min(node_name.len() - 1);
        node_name[..len].copy_from_slice(&name[..len]);
        Status {
            abi_version: ABI_VERSION,
            flags: 0,
            started_at: now_unix_ns(),
            last_sync_at: 0,
            syncs: 0,
            failed_syncs: 0,
            pid: std::process::id(),
            frontends: 0,
            services: 0,
            backends: 0,
            maglev_entries: 0,
            maglev_capacity: self.maps.maglev.len(),
            zone: 0,
            reserved: 0,
            node_name,
            version: padded(env!("CARGO_PKG_VERSION")),
            source: padded(self.place.source),
            flows: Collected::default(),
        }
    }

    /// The maps of flows keep their sizes for as long as they are pinned.
    fn warn_of_kept_sizes(&self) {
        let (pinned, asked) = (self.maps.flow_sizes(), self.place.flow_sizes);
        if pinned != asked {
            warn!(
                ?pinned,
                ?asked,
                "the pinned maps of flows keep their sizes; `lb-controller cleanup` before the \
                 next start resizes them and forgets all flows"
            );
        }
    }

    fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let infos = (0..)
            .zip(self.maps.service_info.iter())
            .filter(|(_, info)| info.is_used());
        Ok(Snapshot {
            infos: infos.collect(),
            frontends: self.maps.services.dump()?,
            backends: self.maps.backends.iter().collect(),
            zones: self.maps.zones.dump()?,
            source_ranges: self.maps.source_ranges.dump()?,
            local_backends: self.maps.local_backends.dump()?,
            vips: self.maps.vips.dump()?,
        })
    }

    /// Copies everything that is not shared.
    fn copy_to(&self, new: &Maps) -> Result<(), DatapathError> {
        let old = &self.maps;
        for index in 0..old.maglev.len() {
            new.maglev.set(index, old.maglev.get(index));
        }
        for slot in 0..old.backends.len() {
            new.backends.set(slot, old.backends.get(slot));
        }
        for id in 0..old.service_info.len() {
            new.service_info.set(id, old.service_info.get(id));
        }
        let (keys, entries): (Vec<_>, Vec<_>) = old.services.dump()?.into_iter().unzip();
        new.services
            .update(&keys, &entries)
            .map_err(|source| ApplyError {
                name: map::SERVICES,
                source,
            })?;
        let (addresses, kinds): (Vec<_>, Vec<_>) = old.vips.dump()?.into_iter().unzip();
        new.vips
            .update(&addresses, &kinds)
            .map_err(|source| ApplyError {
                name: map::VIPS,
                source,
            })?;
        let status = Status {
            maglev_capacity: new.maglev.len(),
            ..old.status.get(0)
        };
        new.status.set(0, status);
        Ok(())
    }

    fn remove_other_epochs(&self) {
        for epoch in self.place.pins.epochs().unwrap_or_default() {
            if epoch != self.epoch
                && let Err(error) = self.remove(epoch)
            {
                warn!(%error, "an old epoch stays pinned");
            }
        }
    }

    fn remove(&self, epoch: u32) -> Result<(), DatapathError> {
        let path = self.place.pins.epoch(epoch);
        self.place
            .pins
            .remove_epoch(epoch)
            .map_err(|source| DatapathError::Remove { path, source })
    }
}

/// Removes everything that is pinned below `pins`; programs detach with their links.
pub fn cleanup(pins: &Pins) -> Result<(), DatapathError> {
    loader::detach_all(pins).map_err(DatapathError::Detach)?;
    network::release_ports(pins);
    pins.remove_all().map_err(|source| DatapathError::Remove {
        path: pins.dir().to_path_buf(),
        source,
    })
}

/// Nanoseconds since the Unix epoch.
pub fn now_unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// `CLOCK_MONOTONIC` in nanoseconds, as programs read it.
pub fn now_monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

fn padded(text: &str) -> [u8; 24] {
    let mut out = [0; 24];
    let len = text.len().min(out.len() - 1);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

/// The directory that everything is pinned in by default.
pub const DEFAULT_PIN_ROOT: &str = "/sys/fs/bpf/lb";

//! `status`: is the datapath of this node healthy, and what is it.

mod flows;

use jiff::Timestamp;
use lb_ebpf::abi::{
    ABI_VERSION, BackendStats, SERVICE_RANGES, ServiceRange, ServiceRangeFlags, ServiceRanges,
    ServiceStats, StatusFlags, map,
};
use serde::Serialize;

pub(super) use self::flows::{Collector, Flows};
use super::{
    devices::{self, DeviceRow},
    facts::{Facts, LinkState, ProgramFact},
    snapshot::Snapshot,
    view::Counters,
    words,
};

/// The answer of `status`. Field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Whether there are no problems.
    pub healthy: bool,
    /// What needs attention, one sentence each.
    pub problems: Vec<String>,
    /// `metadata.name` of the node.
    pub node: String,
    /// Zone of the node, if it has one.
    pub zone: Option<String>,
    /// Where Services come from: `api` or `files`.
    pub source: String,
    /// The kernel.
    pub kernel: Kernel,
    /// Versions.
    pub versions: Versions,
    /// The controller.
    pub controller: Controller,
    /// Its work.
    pub sync: Sync,
    /// Where state is pinned.
    pub pins: PinDirectory,
    /// The programs at the cgroup.
    pub programs: Vec<Program>,
    /// Settings of this host that stand in the way of packets, one sentence each.
    pub host: Vec<String>,
    /// Devices that packet programs are meant for.
    pub devices: Vec<DeviceRow>,
    /// The maps.
    pub maps: Vec<MapFill>,
    /// Where ClusterIPs are: ports that none has are refused there.
    pub service_ranges: Vec<ServiceRangeRow>,
    /// What is programmed.
    pub programmed: Programmed,
    /// Sums of all counters, also of Services that are gone and not yet replaced.
    pub connections: Counters,
    /// Flows of packets.
    pub flows: Flows,
    /// What removes those that are over.
    pub collector: Collector,
}

/// The kernel.
#[derive(Clone, Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "kernels have each feature or not, whatever the others"
)]
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// Whether the coarse clock exists (5.11).
    pub coarse_clock: bool,
    /// Whether bitwise atomics exist (5.12).
    pub atomic_or: bool,
    /// Whether XDP takes packets of several buffers (5.18).
    pub xdp_frags: bool,
    /// Whether `bpf_set_retval` exists (5.18).
    pub set_retval: bool,
    /// Whether TCX links exist (6.6).
    pub tcx: bool,
    /// What does not work as it should on this kernel, one sentence each.
    pub degradations: Vec<&'static str>,
}

/// Versions.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// Of the controller that wrote the maps last.
    pub controller: String,
    /// Of this tool.
    pub lbctl: &'static str,
    /// Of the layout of the maps.
    pub abi: u32,
}

/// The controller.
#[derive(Clone, Debug, Serialize)]
pub struct Controller {
    /// Whether it runs: it holds the lock on the pin directory.
    pub running: bool,
    /// Its process id as seen from here; null if it does not run or cannot be seen.
    pub pid: Option<u32>,
    /// When the one that wrote the maps last started, RFC 3339.
    pub started_at: Option<String>,
    /// Seconds since then.
    pub started_ago_seconds: Option<u64>,
}

/// Work of the controller.
#[derive(Clone, Debug, Serialize)]
pub struct Sync {
    /// `synced`, or `adopted`: this controller has taken over what was programmed and not
    /// yet listed Services and EndpointSlices.
    pub state: &'static str,
    /// Batches of changes applied since it started.
    pub syncs: u64,
    /// Batches that failed and were repeated.
    pub failed_syncs: u64,
    /// When the last change was applied, RFC 3339.
    pub last_sync_at: Option<String>,
    /// Seconds since then.
    pub last_sync_ago_seconds: Option<u64>,
}

/// Where state is pinned.
#[derive(Clone, Debug, Serialize)]
pub struct PinDirectory {
    /// The directory.
    pub directory: String,
    /// The set of maps in force; grows with each exchange for larger ones.
    pub epoch: u32,
}

/// A program.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// `attached`, `detached` (its cgroup is gone), `missing` or `unreadable`.
    pub state: &'static str,
    /// Its id, as in `bpftool prog`.
    pub id: Option<u32>,
    /// Hash of its instructions.
    pub tag: Option<String>,
    /// Inode number of the directory of the cgroup.
    pub cgroup_id: Option<u64>,
    /// The directory of the cgroup, if it can be seen from here.
    pub cgroup: Option<String>,
}

/// How full a map is.
#[derive(Clone, Debug, Serialize)]
pub struct MapFill {
    /// Its name.
    pub name: &'static str,
    /// Elements in use; null where it is not counted.
    pub used: Option<u64>,
    /// Elements that fit.
    pub capacity: Option<u64>,
    /// `used / capacity`, with one decimal.
    pub percent: Option<f64>,
    /// What the kernel accounts for it.
    pub kernel_memory_bytes: Option<u64>,
}

/// Where ClusterIPs are.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceRangeRow {
    /// The network.
    pub network: String,
    /// Whether a ServiceCIDR sets it aside: addresses that no Service has are dropped.
    pub service_cidr: bool,
}

/// Elements in use.
#[derive(Clone, Debug, Serialize)]
pub struct Programmed {
    /// Service ports, each family by itself.
    pub service_ports: usize,
    /// Frontends.
    pub frontends: usize,
    /// Backends.
    pub backends: usize,
}

/// The status of the node, from a copy of the maps and what the kernel says.
pub fn describe(snapshot: &Snapshot, facts: &Facts) -> NodeStatus {
    let status = &snapshot.status;
    let synced = status.flags & StatusFlags::SYNCED != 0;
    let mut problems = problems(facts, synced);
    problems.extend(devices::problems(&snapshot.devices, &facts.devices));
    let ago = |at: u64| (at != 0).then(|| facts.now_ns.saturating_sub(at) / 1_000_000_000);
    let backends = snapshot.backends.iter().filter(|b| b.flags != 0).count();
    NodeStatus {
        healthy: problems.is_empty(),
        problems,
        node: words::padded(&status.node_name),
        zone: snapshot.zone(status.zone),
        source: words::padded(&status.source),
        kernel: Kernel {
            release: facts.kernel.clone(),
            coarse_clock: facts.features.coarse_clock,
            atomic_or: facts.features.atomic_or,
            xdp_frags: facts.features.xdp_frags,
            set_retval: facts.features.set_retval,
            tcx: facts.features.tcx,
            degradations: degradations(facts),
        },
        versions: Versions {
            controller: words::padded(&status.version),
            lbctl: env!("CARGO_PKG_VERSION"),
            abi: ABI_VERSION,
        },
        controller: Controller {
            running: facts.controller.is_some(),
            pid: facts.controller.filter(|pid| *pid != 0),
            started_at: rfc3339(status.started_at),
            started_ago_seconds: ago(status.started_at),
        },
        sync: Sync {
            state: if synced { "synced" } else { "adopted" },
            syncs: status.syncs,
            failed_syncs: status.failed_syncs,
            last_sync_at: rfc3339(status.last_sync_at),
            last_sync_ago_seconds: ago(status.last_sync_at),
        },
        pins: PinDirectory {
            directory: facts.pins.display().to_string(),
            epoch: snapshot.epoch,
        },
        programs: facts.programs.iter().map(program).collect(),
        host: facts.host.clone(),
        devices: devices::rows(&snapshot.devices, &facts.devices),
        maps: maps(snapshot, facts, backends),
        service_ranges: service_ranges(&snapshot.service_ranges),
        programmed: Programmed {
            service_ports: snapshot.infos.len(),
            frontends: snapshot.frontends.len(),
            backends,
        },
        connections: connections(&snapshot.service_stats, &snapshot.backend_stats),
        flows: Flows::of(&snapshot.events),
        collector: Collector::of(&status.flows, facts.now_ns),
    }
}

fn service_ranges(ranges: &ServiceRanges) -> Vec<ServiceRangeRow> {
    let used = |places: &[ServiceRange; SERVICE_RANGES], used: u32, mapping: u32| {
        let places = places.iter().take(used as usize);
        let places = places.filter(|place| **place != ServiceRange::NONE);
        let row = |place: &ServiceRange| {
            let bits = place.range.bits().saturating_sub(mapping);
            ServiceRangeRow {
                network: format!("{}/{bits}", place.range.net.to_ip()),
                service_cidr: place.flags & ServiceRangeFlags::SERVICE_CIDR != 0,
            }
        };
        places.map(row).collect::<Vec<_>>()
    };
    let mut rows = used(&ranges.v4, ranges.v4_used, 96);
    rows.extend(used(&ranges.v6, ranges.v6_used, 0));
    rows
}

fn problems(facts: &Facts, synced: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if facts.controller.is_none() {
        problems.push("no controller runs: traffic goes on, changes are not followed".to_owned());
    } else if !synced {
        problems.push(
            "the controller has not synced since it started: changes are not followed".to_owned(),
        );
    }
    for program in &facts.programs {
        let name = program.name;
        match program.state {
            LinkState::Attached => {}
            LinkState::Detached => problems.push(format!("{name} is detached: its cgroup is gone")),
            LinkState::Missing => problems.push(format!("{name} is not attached")),
            LinkState::Unreadable => problems.push(format!("the link of {name} cannot be read")),
        }
    }
    let mut cgroups: Vec<_> = facts.programs.iter().filter_map(|p| p.cgroup_id).collect();
    cgroups.sort_unstable();
    cgroups.dedup();
    if cgroups.len() > 1 {
        problems.push("the programs are attached to different cgroups".to_owned());
    }
    if let Some((used, capacity)) = facts.filled.get(map::CONNTRACK)
        && used * 20 >= capacity * 19
    {
        problems.push(format!(
            "connection tracking is full ({used} of {capacity} entries): new connections can \
             be forgotten before old ones"
        ));
    }
    problems
}

fn degradations(facts: &Facts) -> Vec<&'static str> {
    let mut degradations = Vec::new();
    if !facts.features.coarse_clock {
        degradations.push("packets of flows pay for a slower clock (fixed by Linux 5.11)");
    }
    if !facts.features.atomic_or {
        degradations.push("every packet is looked up in the maps of flows (fixed by Linux 5.12)");
    }
    if !facts.features.xdp_frags {
        degradations.push(
            "XDP is not for devices whose packets take several buffers, as large MTUs do \
             (fixed by Linux 5.18)",
        );
    }
    if !facts.features.set_retval {
        degradations
            .push("a refused connect returns EPERM, not ECONNREFUSED (fixed by Linux 5.18)");
    }
    if !facts.features.tcx {
        degradations.push(
            "programs at devices are classic TC filters, which others may remove or precede \
             (fixed by Linux 6.6)",
        );
    }
    degradations
}

fn program(fact: &ProgramFact) -> Program {
    Program {
        name: fact.name,
        state: fact.state.as_str(),
        id: fact.id,
        tag: fact.tag.clone(),
        cgroup_id: fact.cgroup_id,
        cgroup: fact.cgroup.as_ref().map(|path| path.display().to_string()),
    }
}

fn maps(snapshot: &Snapshot, facts: &Facts, backends: usize) -> Vec<MapFill> {
    let capacity = snapshot.capacity;
    let tables = snapshot
        .infos
        .iter()
        .map(|(_, info)| u64::from(info.cluster_table.len()) + u64::from(info.local_table.len()));
    let tables: u64 = tables.sum();
    let bits: u64 = snapshot
        .filter
        .iter()
        .map(|word| u64::from(word.count_ones()))
        .sum();
    let fill = |name: &'static str| -> Option<(u64, u64)> {
        Some(match name {
            map::SERVICES => (snapshot.frontends.len() as u64, capacity.frontends.into()),
            map::MAGLEV => (tables, capacity.maglev.into()),
            map::BACKENDS => (backends as u64, capacity.backends.into()),
            map::SERVICE_INFO => (snapshot.infos.len() as u64, capacity.services.into()),
            map::ZONES => (snapshot.zones.len() as u64, snapshot.zones_capacity.into()),
            map::FILTER => (bits, snapshot.filter.len() as u64 * 64),
            map::AFFINITY => (snapshot.affinity.0.into(), snapshot.affinity.1.into()),
            _ => *facts.filled.get(name)?,
        })
    };
    let describe = |name: &&'static str| {
        let fill = fill(name);
        MapFill {
            name,
            used: fill.map(|(used, _)| used),
            capacity: fill.map(|(_, capacity)| capacity),
            percent: fill
                .filter(|(_, capacity)| *capacity > 0)
                .map(|(used, capacity)| (used as f64 * 1000.0 / capacity as f64).round() / 10.0),
            kernel_memory_bytes: facts.memory.get(name).copied(),
        }
    };
    map::ALL.iter().map(describe).collect()
}

fn connections(services: &[ServiceStats], backends: &[BackendStats]) -> Counters {
    let mut sum = Counters::default();
    for stats in services {
        for (total, count) in [
            (&mut sum.opened, stats.opened),
            (&mut sum.affinity_hits, stats.affinity_hits),
            (&mut sum.refused, stats.refused),
            (&mut sum.dropped, stats.dropped),
            (&mut sum.shared_backends, stats.shared_backends),
            (&mut sum.untracked, stats.untracked),
        ] {
            *total = total.saturating_add(count);
        }
    }
    let active = backends.iter().map(|b| b.opened.saturating_sub(b.closed));
    sum.active = active.fold(0, u64::saturating_add);
    sum
}

/// Nanoseconds since the Unix epoch as RFC 3339, to the second; `None` for 0.
fn rfc3339(at_ns: u64) -> Option<String> {
    let seconds = i64::try_from(at_ns / 1_000_000_000)
        .ok()
        .filter(|s| *s != 0)?;
    Timestamp::from_second(seconds)
        .ok()
        .map(|at| at.to_string())
}

//! `status`: a verdict, then the figures behind it.

mod flows;

use comfy_table::Cell;

use super::{Column, LEFT, RIGHT, Style, Tone, cell, columns, count, or_dash, plain};
use crate::lbctl::{
    devices::DeviceRow,
    status::{MapFill, NodeStatus, Program},
    words::span,
};

pub fn text(status: &NodeStatus, style: Style) -> String {
    let sections = [
        verdict(status, style),
        summary(status, style),
        programs(&status.programs, style),
        devices(status, style),
        maps(&status.maps, style),
        connections(status, style),
        flows::flows(&status.flows, style),
        flows::collector(&status.collector, style),
    ];
    let sections = sections.into_iter().filter(|text| !text.is_empty());
    sections.collect::<Vec<_>>().join("\n")
}

fn verdict(status: &NodeStatus, style: Style) -> String {
    let node = style.paint(Tone::Title, &status.node);
    let (tone, word) = if status.healthy {
        (Tone::Good, "healthy".to_owned())
    } else {
        let count = status.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        (Tone::Bad, format!("{count} problem{plural}"))
    };
    let mut text = format!("{node}: {}\n", style.paint(tone, &word));
    for problem in &status.problems {
        text.extend([&style.paint(Tone::Bad, "!"), " ", problem, "\n"]);
    }
    text
}

fn summary(status: &NodeStatus, style: Style) -> String {
    let kernel = &status.kernel;
    let mut rows = vec![
        (
            "node",
            match &status.zone {
                Some(zone) => format!("{}, zone {zone}", status.node),
                None => status.node.clone(),
            },
        ),
        ("kernel", kernel.release.clone()),
    ];
    rows.extend(
        kernel
            .degradations
            .iter()
            .map(|d| ("", format!("degraded: {d}"))),
    );
    rows.extend(status.host.iter().map(|h| ("", format!("host: {h}"))));
    let versions = &status.versions;
    let programmed = &status.programmed;
    rows.extend([
        (
            "version",
            format!(
                "controller {}, lbctl {}, ABI {}",
                versions.controller, versions.lbctl, versions.abi
            ),
        ),
        ("source", status.source.clone()),
        ("controller", controller(status)),
        ("sync", sync(status)),
        (
            "pins",
            format!("{}, epoch {}", status.pins.directory, status.pins.epoch),
        ),
        (
            "programmed",
            format!(
                "{} service ports, {} frontends, {} backends",
                programmed.service_ports, programmed.frontends, programmed.backends
            ),
        ),
    ]);
    if !status.service_ranges.is_empty() {
        let ranges = status.service_ranges.iter();
        let text = ranges.map(|range| {
            if range.service_cidr {
                range.network.clone()
            } else {
                format!("{} (seen, not set aside)", range.network)
            }
        });
        rows.push(("ClusterIPs", text.collect::<Vec<_>>().join(", ")));
    }
    let mut text = String::new();
    for (label, value) in rows {
        let label = style.paint(Tone::Dim, &format!("{label:<12}"));
        text.extend([&label, value.as_str(), "\n"]);
    }
    text
}

fn controller(status: &NodeStatus) -> String {
    let controller = &status.controller;
    let since = controller.started_ago_seconds.map(span).unwrap_or_default();
    match (controller.running, controller.pid) {
        (true, Some(pid)) => format!("running, pid {pid}, for {since}"),
        (true, None) => format!("running in another pid namespace, for {since}"),
        (false, _) => format!("not running; the last one started {since} ago"),
    }
}

fn sync(status: &NodeStatus) -> String {
    let sync = &status.sync;
    let last = match sync.last_sync_ago_seconds {
        Some(seconds) => format!("last change {} ago", span(seconds)),
        None => "no change yet".into(),
    };
    format!(
        "{}, {last}, batches applied {}, failed {}",
        sync.state, sync.syncs, sync.failed_syncs
    )
}

fn programs(programs: &[Program], style: Style) -> String {
    const COLUMNS: [Column; 5] = [
        ("PROGRAM", LEFT),
        ("STATE", LEFT),
        ("ID", RIGHT),
        ("TAG", LEFT),
        ("CGROUP", LEFT),
    ];
    let row = |program: &Program| {
        let attached = program.state == "attached";
        let cgroup = match (&program.cgroup, program.cgroup_id) {
            (None, Some(id)) => Some(format!("id {id}, not visible from here")),
            (path, _) => path.clone(),
        };
        vec![
            plain(program.name),
            cell(program.state, if attached { Tone::Good } else { Tone::Bad }),
            or_dash(program.id.map(|id| id.to_string()).as_deref()),
            or_dash(program.tag.as_deref()),
            or_dash(cgroup.as_deref()),
        ]
    };
    columns(&COLUMNS, programs.iter().map(row).collect(), style)
}

fn devices(status: &NodeStatus, style: Style) -> String {
    const COLUMNS: [Column; 8] = [
        ("DEVICE", LEFT),
        ("INDEX", RIGHT),
        ("CLASS", LEFT),
        ("MTU", RIGHT),
        ("TC", LEFT),
        ("XDP", LEFT),
        ("SNAT ADDRESSES", LEFT),
        ("REASON", LEFT),
    ];
    let row = |device: &DeviceRow| {
        let snat: Vec<_> = [&device.snat_v4, &device.snat_v6]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let how = |word: &'static str| match word {
            "none" => cell("none", Tone::Dim),
            word => cell(word, Tone::Good),
        };
        vec![
            plain(&device.name),
            plain(device.ifindex),
            plain(device.class),
            plain(device.mtu),
            how(device.tc),
            how(device.xdp),
            or_dash(Some(&snat.join(" "))),
            or_dash(device.reason.as_deref()),
        ]
    };
    columns(&COLUMNS, status.devices.iter().map(row).collect(), style)
}

fn maps(maps: &[MapFill], style: Style) -> String {
    const COLUMNS: [Column; 5] = [
        ("MAP", LEFT),
        ("USED", RIGHT),
        ("CAPACITY", RIGHT),
        ("FILL", RIGHT),
        ("KERNEL MEMORY", RIGHT),
    ];
    let number = |number: Option<u64>| or_dash(number.map(|n| n.to_string()).as_deref());
    let row = |map: &MapFill| -> Vec<Cell> {
        vec![
            plain(map.name),
            number(map.used),
            number(map.capacity),
            or_dash(map.percent.map(|p| format!("{p:.1}%")).as_deref()),
            or_dash(map.kernel_memory_bytes.map(bytes).as_deref()),
        ]
    };
    let mut rows: Vec<_> = maps.iter().map(row).collect();
    let total: u64 = maps.iter().filter_map(|map| map.kernel_memory_bytes).sum();
    let none = || plain("");
    rows.push(vec![
        plain("total"),
        none(),
        none(),
        none(),
        plain(bytes(total)),
    ]);
    columns(&COLUMNS, rows, style)
}

fn connections(status: &NodeStatus, style: Style) -> String {
    const COLUMNS: [Column; 8] = [
        ("CONNECTIONS", LEFT),
        ("OPENED", RIGHT),
        ("ACTIVE", RIGHT),
        ("AFFINITY HITS", RIGHT),
        ("REFUSED", RIGHT),
        ("DROPPED", RIGHT),
        ("SHARED BACKENDS", RIGHT),
        ("UNTRACKED", RIGHT),
    ];
    let sum = &status.connections;
    let counts = [
        sum.opened,
        sum.active,
        sum.affinity_hits,
        sum.refused,
        sum.dropped,
        sum.shared_backends,
        sum.untracked,
    ];
    let mut row = vec![plain("total")];
    row.extend(counts.map(count));
    columns(&COLUMNS, vec![row], style)
}

/// `640 B`, `8.0 KiB`, `33.1 MiB`.
fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

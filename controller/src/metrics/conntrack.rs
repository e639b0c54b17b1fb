//! Connection tracking: runs of the collector, fill of the tables, packet events.

use std::collections::BTreeMap;

use lb_ebpf::abi::{DeviceClass, PacketEvent};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tracing::warn;

use crate::{
    conntrack::{FlowSizes, Reason, Report},
    maps::Maps,
};

pub(super) const RECONCILER_DURATION: &str = "kubeproxy_conntrack_reconciler_sync_duration_seconds";
const RECONCILER_DELETED: &str = "kubeproxy_conntrack_reconciler_deleted_entries_total";
const ENTRIES: &str = "lb_conntrack_entries";
const CAPACITY: &str = "lb_conntrack_capacity_entries";
const ASKED: &str = "lb_conntrack_asked_entries";
const RUNS: &str = "lb_conntrack_gc_runs_total";
pub(super) const RUN_DURATION: &str = "lb_conntrack_gc_duration_seconds";
const LAST_RUN: &str = "lb_conntrack_gc_last_timestamp_seconds";
const DELETED: &str = "lb_conntrack_deleted_total";
const RESTORED: &str = "lb_conntrack_restored_total";
const REVIVED: &str = "lb_conntrack_revived_total";
const REFUSED: &str = "lb_conntrack_refused_total";
const EVICTED: &str = "lb_conntrack_evicted_total";
const EVENTS: &str = "lb_packet_events_total";

pub(super) fn describe() {
    describe_histogram!(
        RECONCILER_DURATION,
        "Time that one run over all flows took, in seconds"
    );
    describe_counter!(
        RECONCILER_DELETED,
        "UDP flows removed because their backend no longer serves"
    );
    describe_gauge!(ENTRIES, "Elements of the tables of flows, two a flow");
    describe_gauge!(CAPACITY, "Elements that fit in the tables of flows");
    describe_counter!(
        RUNS,
        "Runs of the collector of flows, by what asked for them"
    );
    describe_histogram!(RUN_DURATION, "Time that one run took, in seconds");
    describe_gauge!(LAST_RUN, "When the last run ended, in Unix seconds");
    describe_counter!(DELETED, "Flows removed by reason");
    describe_counter!(RESTORED, "Halves of flows made again from their mates");
    describe_counter!(
        REVIVED,
        "Flows that a packet touched while they were removed, and that stayed"
    );
    describe_counter!(
        REFUSED,
        "Halves of flows that a full table did not take back"
    );
    describe_counter!(
        EVICTED,
        "Flows that HALF_OPEN evicted for newer ones; estimated, the kernel does not count them"
    );
    describe_counter!(
        EVENTS,
        "What happened to packets; pod-facing devices are counted together"
    );
}

/// A run of the collector ended.
pub(crate) fn collected(report: &Report) {
    let took = report.took.as_secs_f64();
    // Both families are swept together, so both labels carry the same duration.
    for (family, stale) in ["IPv4", "IPv6"].into_iter().zip(report.stale) {
        histogram!(RECONCILER_DURATION, "ip_family" => family).record(took);
        counter!(RECONCILER_DELETED, "ip_family" => family).increment(stale);
    }
    let trigger = if report.triggered { "change" } else { "time" };
    counter!(RUNS, "trigger" => trigger).increment(1);
    histogram!(RUN_DURATION).record(took);
    gauge!(LAST_RUN).set(crate::datapath::now_unix_ns() as f64 / 1e9);
    for reason in Reason::ALL {
        let flows = report.deleted[reason.index()];
        counter!(DELETED, "reason" => reason.name()).increment(flows);
    }
    counter!(RESTORED).increment(report.restored);
    counter!(REVIVED).increment(report.revived);
    counter!(REFUSED).increment(report.refused);
    counter!(EVICTED).increment(report.evicted);
    for (map, fill) in [
        ("CONNTRACK", report.proven),
        ("HALF_OPEN", report.half_open),
    ] {
        gauge!(ENTRIES, "map" => map).set(fill.entries as f64);
        gauge!(CAPACITY, "map" => map).set(fill.capacity as f64);
    }
}

/// Reads what programs count of packets.
///
/// Pods come and go with their devices: one label for all of these keeps the number of
/// series bounded. What is counted at devices that are gone or not known is `other`.
pub(super) fn scrape(maps: &Maps, asked: FlowSizes) {
    for (map, entries) in [
        ("CONNTRACK", asked.conntrack),
        ("HALF_OPEN", asked.half_open),
    ] {
        gauge!(ASKED, "map" => map).set(f64::from(entries));
    }
    let (events, devices) = match (maps.events.dump(), maps.devices.dump()) {
        (Ok(events), Ok(devices)) => (events, devices),
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "packet events are not reported");
            return;
        }
    };
    let devices: BTreeMap<u32, String> = devices
        .into_iter()
        .map(|(ifindex, device)| {
            let pods = device.class == DeviceClass::PodFacing as u32;
            let name = String::from_utf8_lossy(&device.name);
            let name = name.trim_end_matches('\0');
            (ifindex, if pods { "pods" } else { name }.to_owned())
        })
        .collect();
    let mut counts: BTreeMap<(PacketEvent, &str), u64> = BTreeMap::new();
    for (key, count) in events {
        let Some(event) = PacketEvent::from_number(key.event) else {
            continue;
        };
        let device = devices.get(&key.ifindex).map_or("other", String::as_str);
        *counts.entry((event, device)).or_default() += count;
    }
    for ((event, device), count) in counts {
        let labels = [
            ("event", event.name().to_owned()),
            ("device", device.to_owned()),
        ];
        counter!(EVENTS, &labels).absolute(count);
    }
}

//! Metric names, in one place.
//!
//! kube-proxy's names (prefix `kubeproxy_`) are kept for what both measure, so that
//! existing dashboards and alerts go on working (rules J19–J25); ours have the prefix
//! `lb_`.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{
    datapath::{Datapath, Repairs, network::report::DeviceReport},
    plan::Usage,
    reconcile::Outcome,
};

mod conntrack;
mod sync;

pub(crate) use conntrack::collected;
pub(crate) use sync::{observed, settled};

const HEALTHZ: &str = "kubeproxy_proxy_healthz_total";
const LIVEZ: &str = "kubeproxy_proxy_livez_total";
const SYNCS: &str = "lb_syncs_total";
const WRITES: &str = "lb_map_writes_total";
const GROWTHS: &str = "lb_map_growths_total";
const MAP_ENTRIES: &str = "lb_map_entries";
const MAP_CAPACITY: &str = "lb_map_capacity_entries";
const CONNECTIONS: &str = "lb_connections_total";
const SOURCE_UP: &str = "lb_source_up";
const DEVICES: &str = "lb_device_info";
const REATTACHED: &str = "lb_reattached_total";
const STALE_SOCKETS: &str = "lb_stale_udp_sockets_total";

/// kube-proxy's buckets: 1 ms, doubling fifteen times (rule J19).
fn duration_buckets() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// Installs the recorder; the handle renders the text format.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for name in [
        sync::DURATION,
        sync::FULL_DURATION,
        sync::PARTIAL_DURATION,
        conntrack::RECONCILER_DURATION,
        conntrack::RUN_DURATION,
    ] {
        let name = Matcher::Full(name.into());
        builder = builder.set_buckets_for_metric(name, &duration_buckets())?;
    }
    let name = Matcher::Full(sync::NETWORK_PROGRAMMING.into());
    let handle = builder
        .set_buckets_for_metric(name, &sync::network_programming_buckets())?
        .install_recorder()?;
    sync::describe();
    describe_counter!(HEALTHZ, "Answers of /healthz by status code");
    describe_counter!(LIVEZ, "Answers of /livez by status code");
    describe_counter!(SYNCS, "Reconciliations by result");
    describe_counter!(WRITES, "Writes to BPF maps");
    describe_counter!(GROWTHS, "Times that maps were replaced by larger ones");
    describe_gauge!(MAP_ENTRIES, "Elements in use by map");
    describe_gauge!(MAP_CAPACITY, "Elements that fit by map");
    describe_counter!(
        CONNECTIONS,
        "Connections by result: opened, affinity, refused, dropped"
    );
    describe_gauge!(
        DEVICES,
        "Devices that packet programs are meant for: class, how TC and XDP run, why not better"
    );
    describe_gauge!(SOURCE_UP, "1 while the source of objects can be reached");
    describe_counter!(
        REATTACHED,
        "What was missing and was put back: programs at sockets or devices, pins of maps"
    );
    describe_counter!(
        STALE_SOCKETS,
        "Connected UDP sockets of gone backends, by what was done"
    );
    conntrack::describe();
    repaired(Repairs::default());
    Ok(handle)
}

/// A reconciliation ended.
pub(crate) fn reconciled(took: Duration, outcome: &Outcome, ok: bool) {
    sync::reconciled(took, outcome, ok);
    counter!(SYNCS, "result" => if ok { "ok" } else { "error" }).increment(1);
    counter!(WRITES).increment(outcome.writes as u64);
}

/// Maps were replaced by larger ones.
pub(crate) fn grown() {
    counter!(GROWTHS).increment(1);
}

/// Something was missing and is there again (rule K5).
pub(crate) fn repaired(repairs: Repairs) {
    for (what, number) in [
        ("sockets", repairs.sockets),
        ("devices", repairs.devices),
        ("maps", repairs.maps),
    ] {
        counter!(REATTACHED, "what" => what).increment(number as u64);
    }
}

/// Whether the source of objects can be reached.
pub fn source_up(up: bool) {
    gauge!(SOURCE_UP).set(if up { 1.0 } else { 0.0 });
}

/// A connected UDP socket of a gone backend was told.
pub fn stale_socket(action: &'static str, count: u64) {
    counter!(STALE_SOCKETS, "action" => action).increment(count);
}

/// What is true of a device, or is no longer.
pub(crate) fn device(report: &DeviceReport, present: bool) {
    gauge!(
        DEVICES,
        "device" => report.device.clone(),
        "class" => report.class,
        "tc" => report.tc,
        "xdp" => report.xdp,
        "reason" => report.reason.clone()
    )
    .set(if present { 1.0 } else { 0.0 });
}

/// A health endpoint answered.
pub fn answered(livez: bool, code: u16) {
    let name = if livez { LIVEZ } else { HEALTHZ };
    counter!(name, "code" => code.to_string()).increment(1);
}

/// Reads fill and counters from the maps, before each scrape.
pub fn scrape(datapath: &Datapath, usage: Usage) {
    let maps = datapath.maps();
    for (map, used, capacity) in [
        ("SERVICES", usage.frontends, maps.services.max_entries()),
        ("SERVICE_INFO", usage.services, maps.service_info.len()),
        ("BACKENDS", usage.backends, maps.backends.len()),
        ("MAGLEV", usage.maglev, maps.maglev.len()),
    ] {
        gauge!(MAP_ENTRIES, "map" => map).set(f64::from(used));
        gauge!(MAP_CAPACITY, "map" => map).set(f64::from(capacity));
    }
    let mut totals = [0u64; 6];
    for stats in maps.service_stats.iter() {
        let fields = [
            stats.opened,
            stats.affinity_hits,
            stats.refused,
            stats.dropped,
            stats.shared_backends,
            stats.untracked,
        ];
        for (total, field) in totals.iter_mut().zip(fields) {
            *total += field;
        }
    }
    let names = [
        "opened",
        "affinity",
        "refused",
        "dropped",
        "shared_backend",
        "untracked",
    ];
    for (name, total) in names.into_iter().zip(totals) {
        counter!(CONNECTIONS, "result" => name).absolute(total);
    }
    conntrack::scrape(maps, datapath.place().flow_sizes);
}

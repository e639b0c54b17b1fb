//! Flows and their collector, a row each.

use crate::lbctl::{
    render::{Column, LEFT, RIGHT, Style, columns, count, or_dash, plain},
    status::{Collector, Flows},
    words::span,
};

pub(super) fn flows(flows: &Flows, style: Style) -> String {
    const COLUMNS: [Column; 8] = [
        ("FLOWS", LEFT),
        ("OPENED", RIGHT),
        ("ESTABLISHED", RIGHT),
        ("HALF RESTORED", RIGHT),
        ("PORT TAKEN", RIGHT),
        ("PORTS EXHAUSTED", RIGHT),
        ("NO RECORD", RIGHT),
        ("TABLE FULL", RIGHT),
    ];
    let counts = [
        flows.opened,
        flows.established,
        flows.half_restored,
        flows.port_taken,
        flows.ports_exhausted,
        flows.no_record,
        flows.conntrack_full,
    ];
    let mut row = vec![plain("total")];
    row.extend(counts.map(count));
    columns(&COLUMNS, vec![row], style)
}

pub(super) fn collector(collector: &Collector, style: Style) -> String {
    const COLUMNS: [Column; 9] = [
        ("COLLECTOR", LEFT),
        ("RUNS", RIGHT),
        ("LAST RUN", RIGHT),
        ("TOOK", RIGHT),
        ("DELETED", RIGHT),
        ("RESTORED", RIGHT),
        ("REVIVED", RIGHT),
        ("REFUSED", RIGHT),
        ("EVICTED", RIGHT),
    ];
    let ago = collector.last_run_ago_seconds;
    let ran = ago.is_some();
    let mut row = vec![
        plain("flows"),
        count(collector.runs),
        or_dash(ago.map(|ago| format!("{} ago", span(ago))).as_deref()),
        or_dash(
            ran.then(|| format!("{} ms", collector.last_run_ms))
                .as_deref(),
        ),
    ];
    let counts = [
        collector.deleted,
        collector.restored,
        collector.revived,
        collector.refused,
    ];
    row.extend(counts.map(count));
    // The kernel does not count them.
    row.push(plain(match collector.evicted {
        0 => "0".to_owned(),
        evicted => format!("~{evicted}"),
    }));
    columns(&COLUMNS, vec![row], style)
}

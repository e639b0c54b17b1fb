//! `list --by-service`: Services with their ports, frontends and backends.
//!
//! ```text
//!   NAMESPACE/NAME  TYPE  CLUSTER IPS  POLICIES  AFFINITY  READY
//!     PORT FAMILY  COUNTERS
//!       admits SOURCE RANGES
//!       FRONTEND  KIND  TABLE or what is wrong with it, for whom, how restricted, forwarding
//!       BACKEND  STATE  …
//! ```
//!
//! Lines of one sort are aligned over the whole output: each sort is one table, whose
//! lines are then dealt out. `!` in the first column marks what wants a look.

use comfy_table::Cell;

use super::{
    Column, LEFT, Style, Tone, affinity,
    backends::{Lengths, Shown, port as port_words},
    cell, frontend_address, lines, outcome, plain,
};
use crate::lbctl::{
    LbctlError,
    cli::OutputFormat,
    view::{Backend, Counters, Frontend, NewConnections, Service, ServicePort, Services},
};

pub(in crate::lbctl) fn render(
    services: &Services,
    format: OutputFormat,
    style: Style,
) -> Result<String, LbctlError> {
    let wide = match format {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        format => return super::serialized(services, format),
    };
    let mut dealer = Dealer::new(services, wide, style);
    let mut text = String::new();
    for (index, service) in services.services.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        dealer.service(service, style, &mut text);
    }
    Ok(text)
}

/// The lines of the three tables, handed out in their order.
struct Dealer {
    ports: std::vec::IntoIter<String>,
    frontends: std::vec::IntoIter<String>,
    titles: String,
    backends: std::vec::IntoIter<String>,
}

impl Dealer {
    fn new(services: &Services, wide: bool, style: Style) -> Self {
        const UNTITLED: Column = ("", LEFT);
        let of_services = || services.services.iter().flat_map(|service| &service.ports);
        let shown = Shown {
            local: of_services().any(|port| Lengths::of(port).both()),
            wide,
        };
        let (mut ports, mut frontends, mut backends) = (Vec::new(), Vec::new(), Vec::new());
        for port in of_services() {
            ports.push(port_cells(port, wide));
            frontends.extend(port.frontends.iter().map(frontend_cells));
            let lengths = Lengths::of(port);
            let rows = port.backends.iter();
            backends.extend(rows.map(|b| shown.cells(b, lengths, port.service_id)));
        }
        let untitled = |rows: Vec<Vec<Cell>>| {
            let width = rows.iter().map(Vec::len).max().unwrap_or(1);
            let mut lines = lines(&vec![UNTITLED; width], rows, style).into_iter();
            lines.next();
            lines
        };
        let mut backends = lines(&shown.titles(), backends, style).into_iter();
        Self {
            ports: untitled(ports),
            frontends: untitled(frontends),
            titles: backends.next().unwrap_or_default(),
            backends,
        }
    }

    fn service(&mut self, service: &Service, style: Style, text: &mut String) {
        let mut line = |mark: bool, indent: usize, content: &str| {
            let gutter = if mark {
                style.paint(Tone::Bad, "!")
            } else {
                " ".into()
            };
            text.extend([&gutter, " ", &" ".repeat(indent), content, "\n"]);
        };
        line(needs_a_look(service), 0, &header(service, style));
        let mut titles = Some(&self.titles);
        for port in &service.ports {
            line(lacks_ready(port), 2, &self.ports.next().unwrap_or_default());
            if let Some(sources) = sources(port) {
                line(false, 4, &style.paint(Tone::Dim, &sources));
            }
            for frontend in &port.frontends {
                let wrong = unbalanced(frontend);
                line(wrong, 4, &self.frontends.next().unwrap_or_default());
            }
            if !port.backends.is_empty()
                && let Some(titles) = titles.take()
            {
                line(false, 6, titles);
            }
            for backend in &port.backends {
                let wrong = unready(backend);
                line(wrong, 6, &self.backends.next().unwrap_or_default());
            }
        }
    }
}

/// Whether something of the service is marked.
fn needs_a_look(service: &Service) -> bool {
    service.ports.iter().any(|port| {
        lacks_ready(port)
            || port.frontends.iter().any(unbalanced)
            || port.backends.iter().any(unready)
    })
}

/// Whether clients dial the port and no backend of it is ready.
fn lacks_ready(port: &ServicePort) -> bool {
    port.ready_backends == 0 && !port.frontends.is_empty()
}

fn unbalanced(frontend: &Frontend) -> bool {
    frontend.new_connections != NewConnections::Balanced
}

/// Not ready for another reason than that it ends.
fn unready(backend: &Backend) -> bool {
    !backend.ready && !backend.terminating
}

fn header(service: &Service, style: Style) -> String {
    let name = format!("{}/{}", service.namespace, service.name);
    let ips: Vec<_> = service
        .cluster_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut parts = vec![style.paint(Tone::Title, &name), service.r#type.to_owned()];
    if !ips.is_empty() {
        parts.push(ips.join(", "));
    }
    parts.push(policies(service));
    let affinity = affinity(service.affinity_seconds);
    parts.push(affinity.map_or("no affinity".into(), |span| format!("affinity {span}")));
    parts.push(readiness(service, style));
    parts.join("  ")
}

/// The internal policy, and the external one where it differs and means something.
fn policies(service: &Service) -> String {
    let (internal, external) = (
        service.internal_traffic_policy,
        service.external_traffic_policy,
    );
    if internal == external || (service.r#type == "ClusterIP" && external == "Cluster") {
        format!("policy {internal}")
    } else {
        format!("policy {internal}, external {external}")
    }
}

fn readiness(service: &Service, style: Style) -> String {
    let (ready, total) = service.ports.iter().fold((0, 0), |(ready, total), port| {
        (ready + port.ready_backends, total + port.total_backends)
    });
    let (tone, text) = match (ready, total) {
        (_, 0) => (Tone::Bad, "no backends".to_owned()),
        (0, _) => (Tone::Bad, format!("0/{total} ready")),
        _ if ready < total => (Tone::Warn, format!("{ready}/{total} ready")),
        _ => (Tone::Good, format!("{ready}/{total} ready")),
    };
    let mut words = style.paint(tone, &text);
    let frontends = service.ports.iter().flat_map(|port| &port.frontends);
    for bad in [NewConnections::Refused, NewConnections::Dropped] {
        if frontends.clone().any(|f| f.new_connections == bad) {
            let outcome = outcome(bad).unwrap_or_default().to_uppercase();
            words.push_str("  ");
            words.push_str(&style.paint(Tone::Bad, &outcome));
        }
    }
    words
}

fn port_cells(port: &ServicePort, wide: bool) -> Vec<Cell> {
    let Counters {
        opened,
        active,
        affinity_hits,
        refused,
        dropped,
        shared_backends,
        untracked,
    } = port.counters;
    let name = port_words(&port.name, port.port, port.protocol);
    let counted = |label: &str, number: u64, tone| {
        cell(
            format!("{label} {number}"),
            if number == 0 { Tone::Dim } else { tone },
        )
    };
    let has_affinity = port.frontends.iter().any(|f| f.affinity_seconds.is_some());
    let mut cells = vec![
        plain(format!("{name} {}", port.family)),
        counted("opened", opened, Tone::Plain),
        counted("active", active, Tone::Plain),
        counted("refused", refused, Tone::Bad),
        counted("dropped", dropped, Tone::Bad),
    ];
    if has_affinity || affinity_hits > 0 || wide {
        cells.push(counted("affinity hits", affinity_hits, Tone::Plain));
    }
    if shared_backends > 0 || wide {
        cells.push(counted("shared backends", shared_backends, Tone::Warn));
    }
    if untracked > 0 || wide {
        cells.push(counted("untracked", untracked, Tone::Warn));
    }
    cells
}

/// What restricted frontends of the port admit.
fn sources(port: &ServicePort) -> Option<String> {
    const SHOWN: usize = 6;
    if !port.frontends.iter().any(|frontend| frontend.restricted) {
        return None;
    }
    let shown: Vec<_> = port.source_ranges.iter().take(SHOWN).cloned().collect();
    let more = port.source_ranges.len().saturating_sub(SHOWN);
    Some(match (shown.is_empty(), more) {
        (true, _) => "admits nobody".into(),
        (false, 0) => format!("admits {}", shown.join(", ")),
        (false, more) => format!("admits {} and {more} more", shown.join(", ")),
    })
}

/// For whom the entry is, where there are two; whether sources are restricted, or replaced; how
/// packets go on to other nodes.
fn notes(frontend: &Frontend) -> impl Iterator<Item = &'static str> {
    let scope = match (frontend.external_differs, frontend.scope) {
        (true, _) => Some("from this node"),
        (false, "external") => Some("from outside"),
        _ => None,
    };
    let restricted = frontend.restricted.then_some("restricted");
    let masquerade = frontend.masquerade.then_some("masqueraded");
    let forwarding = frontend
        .forwarding
        .filter(|forwarding| *forwarding == "dsr");
    [scope, restricted, masquerade, forwarding]
        .into_iter()
        .flatten()
}

fn frontend_cells(frontend: &Frontend) -> Vec<Cell> {
    let (tone, met) = match frontend.new_connections {
        NewConnections::Balanced => (Tone::Dim, format!("table of {}", frontend.table_length)),
        NewConnections::Refused => (Tone::Bad, "refused: no endpoint anywhere".into()),
        NewConnections::Dropped => {
            let why = "dropped: no endpoint that the policy allows";
            (Tone::Bad, why.to_owned())
        }
    };
    let words: Vec<_> = std::iter::once(met)
        .chain(notes(frontend).map(str::to_owned))
        .collect();
    vec![
        plain(frontend_address(frontend)),
        plain(frontend.kind),
        cell(words.join(", "), tone),
    ]
}

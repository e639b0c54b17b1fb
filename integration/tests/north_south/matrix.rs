//! Every combination of how packets are taken from the device, how pods are attached, where the
//! backend is, which address is dialled, which policy holds and which protocol is spoken.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_integration::{
    PodNetwork,
    agent::{
        dial::{Dial, Dialed},
        socket::ErrorKind,
    },
    client::Client,
    cluster::CniRules,
    patience::eventually,
    workload::Service,
};

use crate::stage::{Frontends, Profile, Stage, Xdp};

/// The name of a backend says where it is, as seen from the node that the client dials.
const BACKENDS: [&str; 4] = ["near", "far", "near-host", "far-host"];

/// What one dial should give.
#[derive(Clone, Debug)]
enum Expected {
    /// The backend of this name answers, and has seen one of these as the client's address,
    /// if it matters.
    Answer(&'static str, Option<Vec<IpAddr>>),
    /// Nothing at all.
    Silence,
    /// A reset, or port unreachable.
    Refusal,
    /// Any failure.
    Failure,
}

/// One row of the matrix.
struct Row {
    what: String,
    dial: Dial,
    expected: Expected,
}

struct Published {
    service: Service,
    frontends: Frontends,
    backend: &'static str,
    local: bool,
}

// === impl Row ===

impl Row {
    /// Whether the row is right; else what was seen.
    fn check(&self, user: &mut Client) -> Result<(), String> {
        let dialed = user.dial(&self.dial);
        let kind = dialed.error.as_ref().map(|failure| failure.kind);
        let right = match &self.expected {
            Expected::Answer(name, sources) => {
                return self.answered(user, &dialed, name, sources.as_deref());
            }
            Expected::Silence => kind == Some(ErrorKind::Timeout),
            Expected::Refusal => kind == Some(ErrorKind::Refused),
            Expected::Failure => kind.is_some(),
        };
        if right {
            Ok(())
        } else {
            Err(format!("{:?} {kind:?}", dialed.reply))
        }
    }

    fn answered(
        &self,
        user: &mut Client,
        dialed: &Dialed,
        name: &str,
        sources: Option<&[IpAddr]>,
    ) -> Result<(), String> {
        if dialed.reply.as_deref() != Some(name) {
            return Err(format!("{:?} {:?}", dialed.reply, dialed.error));
        }
        if dialed.peer != Some(self.dial.to) {
            return Err(format!("a reply from {:?}", dialed.peer));
        }
        let Some(sources) = sources else {
            return Ok(());
        };
        let seen = user.dial(&self.dial.clone().request("clientip"));
        let seen: Option<SocketAddr> = seen.reply.and_then(|reply| reply.parse().ok());
        let source = seen.map(|seen| seen.ip().to_canonical());
        if source.is_some_and(|source| sources.contains(&source)) {
            Ok(())
        } else {
            Err(format!("client seen as {source:?}"))
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {:?}", self.what, self.expected)
    }
}

/// Checks rows until all are right or the proxy has had its time, and reports all that are wrong.
fn hold(user: &mut Client, heading: &str, mut rows: Vec<Row>) {
    let total = rows.len();
    // Refusals may make a round long: what was wrong in it is asked again.
    eventually(heading, || {
        let mut wrong = Vec::new();
        rows.retain(|row| match row.check(user) {
            Ok(()) => false,
            Err(seen) => {
                wrong.push(format!("{row}, but {seen}"));
                true
            }
        });
        let (count, list) = (wrong.len(), wrong.join("\n"));
        let told = || format!("{count} of {total} rows are wrong\n{list}");
        rows.is_empty().then_some(()).ok_or_else(told)
    });
}

/// How long a refusal by ICMP may take: one that arrives while connect() holds the socket, Linux
/// only reports when the repeated SYN is refused too, after a second.
const REFUSAL_MS: u64 = 1500;

/// A request by each protocol. UDP clients that must notice an ICMP error are connected; the
/// others report where the reply came from.
fn dials(to: SocketAddr, expected: &Expected) -> [(&'static str, Dial); 2] {
    let (udp, patience) = match expected {
        Expected::Answer(..) => (Dial::udp_unconnected(to), 500),
        Expected::Silence => (Dial::udp(to), 150),
        Expected::Refusal => (Dial::udp(to), REFUSAL_MS),
        Expected::Failure => (Dial::udp(to), 250),
    };
    [("TCP", Dial::tcp(to).abort()), ("UDP", udp)]
        .map(|(protocol, dial)| (protocol, dial.timeout(Duration::from_millis(patience))))
}

/// Rows for all addresses of a Service.
fn rows(stage: &Stage, of: &Published, expected: &Expected) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, to) in stage.addresses(&of.frontends) {
        for (protocol, dial) in dials(to, expected) {
            let service = of.service.name();
            rows.push(Row {
                what: format!("{service} at {kind} {to} by {protocol}"),
                dial,
                expected: expected.clone(),
            });
        }
    }
    rows
}

/// What a Service's backend should see, or that it sees nothing.
fn expectation(stage: &Stage, of: &Published) -> Expected {
    let client = stage.outside.addresses();
    let mut node = stage.cluster.node(0).addresses();
    if stage.profile.overlay {
        // The address of the device that leads to the backend.
        node.extend(["10.244.1.0", "fd00:244:1::"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
    let near = of.backend.starts_with("near");
    let sources = match (near, of.local) {
        (false, true) => return Expected::Silence,
        (true, true) => Some(client),
        (false, false) => Some(node),
        // By rule F5 kube-proxy masquerades here too; we promise the client's address.
        (true, false) => stage.is_ours().then_some(client),
    };
    Expected::Answer(of.backend, sources)
}

fn publish(stage: &mut Stage) -> Vec<Published> {
    stage.backend(0, "near");
    stage.backend(1, "far");
    stage.host_backend(0, "near-host");
    stage.host_backend(1, "far-host");
    let mut all = Vec::new();
    for backend in BACKENDS {
        for local in [false, true] {
            let policy = if local { "local" } else { "cluster" };
            let (service, frontends) = stage.service(&format!("{backend}-{policy}"), backend);
            let service = if local {
                service.external_local()
            } else {
                service
            };
            stage.apply(&service);
            all.push(Published {
                service,
                frontends,
                backend,
                local,
            });
        }
    }
    all
}

/// The whole matrix on one kind of cluster: with and without the packet filter of a CNI plugin,
/// then without endpoints, then without Services.
fn whole(xdp: Xdp, pods: PodNetwork) {
    hold_throughout(Profile {
        xdp,
        pods,
        ..Profile::default()
    });
}

fn hold_throughout(profile: Profile) {
    let mut stage = Stage::new(profile, &[]);
    let all = publish(&mut stage);
    let expected: Vec<Row> = all
        .iter()
        .flat_map(|of| rows(&stage, of, &expectation(&stage, of)))
        .collect();
    hold(&mut stage.user, "plain nodes", expected);
    if stage.is_ours() {
        is_attached(&stage, profile.xdp);
    }
    {
        let nodes = stage.cluster.nodes().iter();
        let rules: Vec<_> = nodes.map(|node| CniRules::install(node).unwrap()).collect();
        let answered = all
            .iter()
            .flat_map(|of| rows_with_answers(&stage, of))
            .collect();
        hold(&mut stage.user, "nodes with a CNI's rules", answered);
        if stage.is_ours() {
            // Netfilter sees both directions of a flow with the same addresses, or neither.
            for rules in &rules {
                assert_eq!(rules.dropped("invalid").unwrap(), 0);
                assert_eq!(rules.dropped("stranger").unwrap(), 0);
            }
        }
    }
    stage.withdraw(&BACKENDS);
    let refused = all
        .iter()
        .flat_map(|of| rows(&stage, of, &Expected::Refusal))
        .collect();
    hold(&mut stage.user, "no endpoints", refused);
    for of in &all {
        stage.delete(&of.service);
    }
    // Packets to an address that nobody holds go in circles, for a number of hops.
    let gone = all[..2]
        .iter()
        .flat_map(|of| rows(&stage, of, &Expected::Failure))
        .collect();
    hold(&mut stage.user, "no Services", gone);
}

fn rows_with_answers(stage: &Stage, of: &Published) -> Vec<Row> {
    // What passes through the stack of a node on its way to another host is neither to nor from
    // a pod; only a proxy that takes it past the stack needs no accepting rule.
    if of.backend == "far-host" && !stage.is_ours() {
        return Vec::new();
    }
    match expectation(stage, of) {
        expected @ Expected::Answer(..) => rows(stage, of, &expected),
        _ => Vec::new(),
    }
}

/// The program is at the uplink in the mode that was asked for, and in native mode the device
/// itself counts what it has sent and redirected.
fn is_attached(stage: &Stage, xdp: Xdp) {
    let node = stage.cluster.node(0).netns();
    let link = node
        .tool_output("ip", &["-j", "link", "show", "eth0"])
        .unwrap();
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    // XDP_ATTACHED_DRV and XDP_ATTACHED_SKB.
    let mode = match xdp {
        Xdp::Native => Some(1),
        Xdp::Generic => Some(2),
        Xdp::Off => None,
    };
    assert_eq!(link[0]["xdp"]["mode"].as_u64(), mode, "{link}");
    if xdp == Xdp::Native {
        let counters = node.tool_output("ethtool", &["-S", "eth0"]).unwrap();
        let sent: u64 = counters
            .lines()
            .filter(|line| line.contains("rx_queue_"))
            .filter_map(|line| {
                line.split_once("_xdp_tx:")
                    .or(line.split_once("_xdp_redirect:"))
            })
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum();
        assert!(sent > 0, "XDP has forwarded nothing:\n{counters}");
    }
}

#[test]
fn outside_clients_are_served_by_native_xdp_with_routed_pods() {
    whole(Xdp::Native, PodNetwork::Routed);
}

#[test]
fn outside_clients_are_served_by_native_xdp_with_bridged_pods() {
    whole(Xdp::Native, PodNetwork::Bridged);
}

#[test]
fn outside_clients_are_served_by_generic_xdp_with_routed_pods() {
    whole(Xdp::Generic, PodNetwork::Routed);
}

#[test]
fn outside_clients_are_served_by_generic_xdp_with_bridged_pods() {
    whole(Xdp::Generic, PodNetwork::Bridged);
}

#[test]
fn outside_clients_are_served_by_tc_with_routed_pods() {
    whole(Xdp::Off, PodNetwork::Routed);
}

#[test]
fn outside_clients_are_served_by_tc_with_bridged_pods() {
    whole(Xdp::Off, PodNetwork::Bridged);
}

#[test]
fn outside_clients_are_served_through_a_tunnel() {
    hold_throughout(Profile {
        xdp: Xdp::Native,
        pods: PodNetwork::Bridged,
        overlay: true,
        ..Profile::default()
    });
}

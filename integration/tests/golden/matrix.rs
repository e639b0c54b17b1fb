//! The matrix of rule F8: every source and every kind of address of three Services.
//!
//! A cell names the backends that answer (A: all, L: those of the client's node, –: none) and,
//! after it, for which of them the source is the node's instead of the client's own.

use std::{collections::BTreeSet, net::SocketAddr};

use lb_integration::PodNetwork;

use crate::stage::{Address, Place, Policies, SeenAs, Stage, node_port};

/// Which backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    All,
    Local,
}

/// For which backends a connection is masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Masquerade {
    No,
    Yes,
    /// For those of other nodes.
    Remote,
}

/// Why a source differs from kube-proxy's, which rule F5 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It does not.
    Same,
    /// A pod's connection is translated at the pod, where replies come back in any case.
    TranslatedAtThePod,
    /// A backend of this node answers through this node: only those elsewhere need to see its
    /// address to do so.
    AnswersThroughUs,
    /// A process of this host has the host's address already.
    IsTheHost,
}

type Cell = (Set, Masquerade);
/// kube-proxy's cell, ours, and why they differ.
type Both = (Cell, Cell, Why);

/// Columns: for each Service the ClusterIP, the node port, the load balancer.
type Row = [Both; 9];

const fn same(set: Set, masquerade: Masquerade) -> Both {
    ((set, masquerade), (set, masquerade), Why::Same)
}

const fn other(set: Set, theirs: Masquerade, ours: Masquerade, why: Why) -> Both {
    ((set, theirs), (set, ours), why)
}

use Masquerade::{No, Remote, Yes};
use Set::{All, Local};

const AT_POD: Both = other(All, Yes, No, Why::TranslatedAtThePod);
const POD: Row = [
    same(All, No),
    AT_POD,
    AT_POD,
    same(All, No),
    same(All, No),
    same(All, No),
    same(Local, No),
    AT_POD,
    AT_POD,
];

const HOST: Both = other(All, Yes, No, Why::IsTheHost);
const NODE: Row = [
    HOST,
    HOST,
    HOST,
    HOST,
    HOST,
    HOST,
    other(Local, Yes, No, Why::IsTheHost),
    HOST,
    HOST,
];

const NEEDED: Both = other(All, Yes, Remote, Why::AnswersThroughUs);
const OUTSIDE: Row = [
    NEEDED,
    NEEDED,
    NEEDED,
    NEEDED,
    same(Local, No),
    same(Local, No),
    other(Local, Yes, No, Why::AnswersThroughUs),
    NEEDED,
    NEEDED,
];

/// What changes without a detector: pods count as clients outside under policy Local, and
/// kube-proxy does not masquerade clients of ClusterIPs.
const POD_UNDETECTED: Row = [
    same(All, No),
    AT_POD,
    AT_POD,
    same(All, No),
    same(Local, No),
    same(Local, No),
    same(Local, No),
    AT_POD,
    AT_POD,
];

/// A row with these cells for ClusterIPs instead: with masqueradeAll all that come by packet are
/// masqueraded there, and nothing changes elsewhere (rule G4).
const fn masqueraded(mut row: Row) -> Row {
    row[0] = same(All, Yes);
    row[3] = same(All, Yes);
    row[6] = same(Local, Yes);
    row
}

const COLUMNS: [Address; 3] = [Address::ClusterIp, Address::NodePort, Address::LoadBalancer];

fn check(stage: &mut Stage, place: Place, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    let columns = Policies::ALL
        .into_iter()
        .flat_map(|policies| COLUMNS.map(|address| (policies, address)));
    for ((policies, address), (theirs, ours, why)) in columns.zip(row) {
        assert_eq!(theirs.0, ours.0, "the backends are kube-proxy's");
        assert_eq!(theirs.1 == ours.1, *why == Why::Same);
        let names: &[&str] = match ours.0 {
            All => &["local", "remote"],
            Local => &["local"],
        };
        let wanted: BTreeSet<_> = names.iter().map(|&name| name.to_owned()).collect();
        for to in stage.at(policies, address) {
            let seen = stage.answers(place, to, &wanted);
            let source = |name: &str| match ours.1 {
                Yes => SeenAs::Node,
                Remote if name == "remote" => SeenAs::Node,
                No | Remote => SeenAs::Own,
            };
            let expected = wanted.iter().map(|name| (name.clone(), source(name)));
            if !seen.iter().map(|(n, s)| (n.clone(), *s)).eq(expected) {
                wrong.push(format!(
                    "{place:?} → {policies:?} {address:?} {to}: {seen:?}"
                ));
            }
        }
    }
    wrong
}

fn holds(stage: &mut Stage, rows: &[(Place, &Row)]) {
    let wrong: Vec<_> = rows
        .iter()
        .flat_map(|(place, row)| check(stage, *place, row))
        .collect();
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        stage.explain()
    );
}

#[test]
fn f8_every_source_meets_the_backends_that_kube_proxy_gives_it() {
    let mut stage = Stage::new(PodNetwork::Routed, &[]);
    let rows = [
        (Place::Pod, &POD),
        (Place::PodWithoutHooks, &POD),
        (Place::Node, &NODE),
        (Place::Outside, &OUTSIDE),
    ];
    holds(&mut stage, &rows);
    loopback_holds(&mut stage);
}

/// The row of 127.0.0.1, which has node ports only; kube-proxy masquerades, and the host's
/// address is what backends see here, too. ::1 has them here alone.
fn loopback_holds(stage: &mut Stage) {
    let both = ["local", "remote"].map(str::to_owned).into();
    for policies in Policies::ALL {
        for ip in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(ip.parse().unwrap(), node_port(policies));
            let seen = stage.answers(Place::Node, to, &both);
            let own = seen.values().all(|source| *source == SeenAs::Own);
            assert!(seen.len() == 2 && own, "{policies:?} {to}: {seen:?}");
        }
    }
}

#[test]
fn g4_masquerade_all_hides_clients_of_cluster_ips_behind_the_node() {
    let rows = [
        (Place::Pod, &masqueraded(POD)),
        (Place::PodWithoutHooks, &masqueraded(POD)),
        (Place::Node, &NODE),
        (Place::Outside, &masqueraded(OUTSIDE)),
    ];
    for network in [PodNetwork::Routed, PodNetwork::Bridged] {
        let mut stage = Stage::new(network, &["--masquerade-all"]);
        holds(&mut stage, &rows);
        let listed = stage.lbctl(&["list", "--by-service"]);
        let entry = "10.96.1.1:80/TCP        ClusterIP     table of 211, masqueraded\n";
        assert!(listed.contains(entry), "{listed}");
    }
}

#[test]
fn f4_without_a_detector_pods_count_as_clients_outside() {
    let mode = ["--detect-local-mode", "ClusterCIDR"];
    let mut stage = Stage::new(PodNetwork::Routed, &mode);
    let rows = [
        (Place::Pod, &POD_UNDETECTED),
        (Place::PodWithoutHooks, &POD_UNDETECTED),
        (Place::Node, &NODE),
        (Place::Outside, &OUTSIDE),
    ];
    holds(&mut stage, &rows);
}

//! `conntrack`, `nat`, `affinity`, `maglev` and `drops` of fixed records, compared with
//! files.

use std::net::IpAddr;

use clap::Parser;
use lb_controller::{
    conntrack::Clock,
    lbctl::{
        Answer,
        affinity::{self, AffinityFilter, AffinityVerb},
        cli::{Cli, Command, OutputFormat},
        conntrack::{self, ConntrackVerb},
        drops::drops,
        flows::{FlowFilter, Gatherer},
        nat::{self, NatVerb},
        render::Style,
        snapshot::Snapshot,
    },
};
use lb_ebpf::abi::{
    Addr, AffinityEntry, AffinityKey, ClientKind, ConntrackEntry, ConntrackFlags, ConntrackKey,
    ConntrackState, NextHop, Port, Protocol,
};

use proptest::{collection::vec, prelude::*};

use crate::{
    hostile::elements,
    snapshot::{USUAL, cluster},
    text::{run, same_as_file},
};

const CLOCK: Clock = Clock {
    now: 10_000,
    lifetimes: [56, 80_467, 3353, 10, 28, 168],
};
const PROVEN: u32 = ConntrackState::REPLIED | ConntrackState::ESTABLISHED;

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().expect("an address of the test"))
}

/// Where a flow goes: protocol, client, frontend, what the backend sees, slot.
type Ends<'a> = (
    Protocol,
    (&'a str, u16),
    (&'a str, u16),
    (&'a str, u16),
    u32,
);

fn half(snapshot: &Snapshot, ends: Ends<'_>, flags: u32) -> (ConntrackKey, ConntrackEntry) {
    let (protocol, client, frontend, seen_as, slot) = ends;
    let key = ConntrackKey {
        src: addr(client.0),
        dst: addr(frontend.0),
        src_port: Port::new(client.1),
        dst_port: Port::new(frontend.1),
        protocol: protocol as u8,
        reserved: [0; 3],
    };
    let backend = snapshot.backends[slot as usize];
    let encapsulated = flags & ConntrackFlags::ENCAPSULATE != 0;
    let entry = ConntrackEntry {
        src: addr(seen_as.0),
        dst: if encapsulated { key.dst } else { backend.addr },
        src_port: Port::new(seen_as.1),
        dst_port: if encapsulated {
            key.dst_port
        } else {
            backend.port
        },
        flags: ConntrackFlags::INITIATOR | flags,
        state: 0,
        last_seen: CLOCK.now,
        created: CLOCK.now - 500,
        service_id: backend.service_id,
        slot,
        generation: backend.generation,
        proof: 0,
        proof_end: 0,
        seal: 0,
        hop: NextHop::UNKNOWN,
        mtu: 0,
    };
    (key, entry.sealed(&key))
}

/// Flows of every kind, as (proven, key, half).
fn records(snapshot: &Snapshot) -> Vec<(bool, ConntrackKey, ConntrackEntry)> {
    const SNAT: u32 = ConntrackFlags::SNAT | ConntrackFlags::PORT_CHOSEN;
    const REMOTE: u32 = ConntrackFlags::REDIRECT | ConntrackFlags::MATE_REDIRECT;
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let client = "198.51.100.7";
    let mut out = Vec::new();
    let mut add = |proven, ends, flags, ages: [u32; 2], states: [u32; 2]| {
        let (key, entry) = half(snapshot, ends, flags);
        let at = |entry: ConntrackEntry, side: usize| ConntrackEntry {
            last_seen: CLOCK.now - ages[side],
            state: states[side],
            ..entry
        };
        let (mate_key, mate) = entry.mirror(&key);
        if entry.has(ConntrackFlags::ONE_WAY) {
            out.push((proven, key, at(entry, 0)));
        } else {
            // The responder half may be read first.
            out.push((proven, mate_key, at(mate, 1)));
            out.push((proven, key, at(entry, 0)));
        }
    };
    let vip = ("192.0.2.40", 9000);
    // Remote backend, the client's address translated.
    add(
        true,
        (tcp, (client, 40_001), vip, ("192.0.2.1", 61_001), 8),
        SNAT | REMOTE,
        [100, 3],
        [PROVEN; 2],
    );
    // The same, ended by both sides; by one side.
    let fin = PROVEN | ConntrackState::FIN;
    add(
        true,
        (tcp, (client, 40_002), vip, ("192.0.2.1", 61_002), 8),
        SNAT | REMOTE,
        [4, 4],
        [fin; 2],
    );
    // Local backend.
    add(
        true,
        (tcp, (client, 40_003), vip, (client, 40_003), 7),
        ConntrackFlags::MATE_AT_EGRESS,
        [60, 60],
        [fin, PROVEN],
    );
    // Half-open, and a datagram without an answer.
    add(
        false,
        (tcp, (client, 40_004), vip, ("192.0.2.1", 61_003), 8),
        SNAT | REMOTE,
        [1, 1],
        [0; 2],
    );
    add(
        false,
        (udp, (client, 5353), ("10.96.0.12", 53), (client, 5353), 6),
        ConntrackFlags::MATE_AT_EGRESS,
        [0, 2],
        [0; 2],
    );
    // IPv6; and DSR, at the node that forwards.
    add(
        true,
        (
            tcp,
            ("2001:db8::7", 40_001),
            ("fd00:10:96::10", 80),
            ("2001:db8::7", 40_001),
            5,
        ),
        ConntrackFlags::MATE_AT_EGRESS,
        [20, 20],
        [PROVEN; 2],
    );
    add(
        false,
        (tcp, (client, 40_005), vip, (client, 40_005), 8),
        ConntrackFlags::ENCAPSULATE | ConntrackFlags::REDIRECT | ConntrackFlags::ONE_WAY,
        [7, 7],
        [0; 2],
    );
    // Half of a flow of a service that is gone.
    let ends = (
        tcp,
        (client, 40_006),
        ("192.0.2.41", 80),
        (client, 40_006),
        0,
    );
    let (key, entry) = half(snapshot, ends, 0);
    let gone = ConntrackEntry {
        service_id: 4000,
        slot: 4000,
        ..entry
    };
    let (key, mate) = gone.mirror(&key);
    out.push((true, key, mate));
    out
}

proptest! {
    #[test]
    fn records_of_arbitrary_bytes_are_described(bytes in vec(any::<u8>(), 61..600)) {
        let mut snapshot = cluster(USUAL);
        let filter = FlowFilter::default();
        let mut gatherer = Gatherer::new(&snapshot, &filter);
        for (key, half) in elements(&bytes, 9).iter().zip(elements(&bytes[7..], 9)) {
            gatherer.add(false, key, &half);
        }
        let flows = gatherer.finish(Clock { now: u32::MAX, lifetimes: [u32::MAX; 6] });
        let wide = Some(OutputFormat::Wide);
        let style = Style::Plain;
        let text = conntrack::list(&flows, &filter, wide, style).expect("an answer").text;
        prop_assert_eq!(text.lines().count(), flows.len() + 1);
        let (keys, entries) = (elements(&bytes, 9), elements(&bytes[3..], 9));
        let records: Vec<_> = keys.into_iter().zip(entries).collect();
        let filter = AffinityFilter::default();
        let clients = affinity::remembered(&snapshot, &records, &filter, u64::MAX);
        affinity::list(&clients, &filter, wide, style).expect("an answer");
        let keys = elements(&bytes, 9).into_iter();
        snapshot.events = keys.zip(elements(&bytes, 9)).collect();
        snapshot.devices = (0..).zip(elements(&bytes, 3)).collect();
        drops(&snapshot, true, wide, style).expect("an answer");
    }
}

/// What a command line prints of the fixed records.
fn answer(arguments: &str) -> Answer {
    let snapshot = cluster(USUAL);
    let words = std::iter::once("lbctl").chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(words).expect("a valid command line");
    let flows = |filter: &FlowFilter| {
        let mut gatherer = Gatherer::new(&snapshot, filter);
        for (proven, key, half) in records(&snapshot) {
            gatherer.add(proven, &key, &half);
        }
        gatherer.finish(CLOCK)
    };
    let style = Style::Plain;
    let answer = match &cli.command {
        Command::Conntrack(ConntrackVerb::List { filter }) => {
            conntrack::list(&flows(filter), filter, cli.output, style)
        }
        Command::Nat(NatVerb::List { filter }) => {
            nat::list(flows(filter), filter, cli.output, style)
        }
        Command::Affinity(AffinityVerb::List { filter }) => {
            let clients = clients(&snapshot, filter);
            affinity::list(&clients, filter, cli.output, style)
        }
        _ => return run(&snapshot, arguments, style),
    };
    answer.expect("an answer")
}

fn clients(snapshot: &Snapshot, filter: &AffinityFilter) -> Vec<affinity::Remembered> {
    const NOW: u64 = 20_000_000_000_000;
    let entry = |seconds: u64, slot: u32, generation| AffinityEntry {
        last_used_ns: NOW - seconds * 1_000_000_000,
        slot,
        generation,
    };
    let key = |client: &str, service_id| AffinityKey {
        client: addr(client),
        service_id,
        kind: ClientKind::Address as u32,
    };
    let records = [
        (key("198.51.100.7", 0), entry(65, 1, 1)),
        (key("198.51.100.8", 0), entry(11_000, 0, 1)),
        (key("198.51.100.9", 0), entry(5, 0, 9)),
        (key("2001:db8::7", 1), entry(5, 5, 1)),
        (AffinityKey::netns(1 << 40, 0), entry(1, 0, 1)),
        (key("198.51.100.7", 4000), entry(1, 4000, 1)),
    ];
    affinity::remembered(snapshot, &records, filter, NOW)
}

#[test]
fn flows_are_as_in_the_files() {
    same_as_file("conntrack.txt", &answer("conntrack list").text);
    same_as_file("conntrack-wide.txt", &answer("conntrack list -o wide").text);
    let json = answer("conntrack list -o json --client 198.51.100.7:40001");
    same_as_file("conntrack.json", &json.text);
    same_as_file("nat.txt", &answer("nat list").text);
    same_as_file("nat-wide.txt", &answer("nat list -o wide").text);
}

#[test]
fn filters_of_flows_keep_what_matches_all_kinds() {
    let lines = |arguments: &str| {
        let answer = answer(&format!("conntrack list {arguments}"));
        assert_eq!(answer.text.is_empty(), !answer.notes.is_empty());
        answer.text.lines().count().saturating_sub(1)
    };
    let all = lines("");
    assert_eq!(all, 8);
    assert_eq!(lines("--protocol udp"), 1);
    assert_eq!(lines("--protocol UDP --protocol tcp"), all);
    assert_eq!(lines("--service shop/api"), 5);
    assert_eq!(lines("--service shop/api --state closed"), 1);
    assert_eq!(lines("--service shop/api --service shop/web"), 6);
    assert_eq!(lines("--client 2001:db8::7"), 1);
    assert_eq!(lines("--client 198.51.100.7"), all - 1);
    assert_eq!(lines("--backend 10.244.4.4:9000"), 4);
    assert_eq!(lines("--backend 10.244.4.4:9001"), 0);
    assert_eq!(lines("--half-open"), 3);
    assert_eq!(lines("--half-open --state half-open"), 2);
    assert_eq!(lines("--state close-wait"), 1);
}

#[test]
fn remembered_clients_are_as_in_the_files() {
    same_as_file("affinity.txt", &answer("affinity list").text);
    same_as_file("affinity-wide.txt", &answer("affinity list -o wide").text);
    let json = answer("affinity list -o json --client netns:1099511627776");
    same_as_file("affinity.json", &json.text);
    let of_backend = answer("affinity list --backend 10.244.2.7 --service shop/web");
    assert_eq!(of_backend.text.lines().count(), 2);
}

#[test]
fn tables_are_as_in_the_files() {
    same_as_file("maglev.txt", &answer("maglev show shop/api:grpc").text);
    same_as_file(
        "maglev-wide.txt",
        &answer("maglev show shop/web:80 -o wide").text,
    );
    same_as_file("maglev.json", &answer("maglev show shop/web -o json").text);
    assert_eq!(answer("maglev show shop/none").notes.len(), 1);
    assert_eq!(answer("maglev show default/empty").notes.len(), 1);
}

#[test]
fn drops_are_as_in_the_files() {
    same_as_file("drops.txt", &answer("drops").text);
    same_as_file("drops-all-wide.txt", &answer("drops --all -o wide").text);
    same_as_file("drops.json", &answer("drops -o json").text);
}

#[test]
fn a_flush_of_everything_must_be_meant() {
    let parse = |arguments: &str| {
        let words = std::iter::once("lbctl").chain(arguments.split_whitespace());
        Cli::try_parse_from(words).is_ok()
    };
    assert!(parse("conntrack flush --all"));
    assert!(!parse("conntrack flush --service web"));
    assert!(!parse("affinity flush --backend web"));
    assert!(!parse("nat flush"));
}

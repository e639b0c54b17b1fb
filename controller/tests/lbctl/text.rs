//! What `lbctl` prints of a fixed state, compared with files.
//!
//! After an intended change run the tests with `LB_BLESS=1` and read the difference.

use std::{fs, path::Path};

use clap::Parser;
use lb_controller::lbctl::{
    Answer, Facts, Filter, LinkState, NodeStatus, canonical,
    cli::{Cli, OutputFormat},
    describe,
    render::{self, Style},
    report,
    snapshot::Snapshot,
};
use lb_ebpf::{abi::Scope, hash::filter_bit};
use serde_json::Value;

use crate::snapshot::{OTHER, USUAL, cluster, facts};

pub(crate) fn run(snapshot: &Snapshot, arguments: &str, style: Style) -> Answer {
    let words = std::iter::once("lbctl").chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(words).expect("a valid command line");
    report(&cli.command, cli.output, snapshot, style).expect("an answer")
}

/// As of one version of the tool, whichever it is.
fn status_of(facts: &Facts) -> NodeStatus {
    let mut status = describe(&cluster(USUAL), facts);
    status.versions.lbctl = "0.1.0";
    status
}

fn plain(arguments: &str) -> Answer {
    run(&cluster(USUAL), arguments, Style::Plain)
}

pub(crate) fn same_as_file(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/lbctl/golden")
        .join(name);
    if std::env::var_os("LB_BLESS").is_some() {
        fs::write(&path, text).expect("the golden file is writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} differs; the output is:\n{text}",
        path.display()
    );
}

#[test]
fn list_is_as_in_the_files() {
    same_as_file("list.txt", &plain("list").text);
    same_as_file("list-wide.txt", &plain("list -o wide").text);
    same_as_file("list.json", &plain("list -o json --name web").text);
    same_as_file("list.yaml", &plain("list -o yaml --name empty").text);
}

#[test]
fn list_by_service_is_as_in_the_files() {
    same_as_file("by-service.txt", &plain("list --by-service").text);
    same_as_file(
        "by-service-wide.txt",
        &plain("list --by-service -o wide").text,
    );
    same_as_file(
        "by-service.json",
        &plain("list --by-service -o json --name api").text,
    );
    let coloured = run(&cluster(USUAL), "list --by-service", Style::Colour).text;
    same_as_file("by-service-colour.txt", &coloured);
}

#[test]
fn backends_are_as_in_the_files() {
    same_as_file("backends.txt", &plain("backends").text);
    same_as_file("backends-wide.txt", &plain("backends -o wide").text);
    same_as_file(
        "backends.json",
        &plain("backends -o json --address fd00:10:244:1::7").text,
    );
}

#[test]
fn dumps_are_as_in_the_files() {
    same_as_file("canonical.yaml", &plain("dump --canonical").text);
    same_as_file("canonical.json", &plain("dump -o json --name api").text);
    same_as_file("raw.yaml", &plain("dump --raw -n kube-system").text);
}

#[test]
fn status_is_as_in_the_files() {
    let status = status_of(&facts());
    same_as_file("status.txt", &render::status(&status, Style::Plain));
    let json = render::serialized(&status, OutputFormat::Json).expect("JSON");
    same_as_file("status.json", &json);
}

#[test]
fn status_names_what_is_wrong() {
    let mut facts = facts();
    facts.controller = None;
    facts.features.set_retval = false;
    facts.features.coarse_clock = false;
    facts.features.atomic_or = false;
    facts.features.xdp_frags = false;
    facts.programs[0].state = LinkState::Detached;
    facts.programs[0].cgroup_id = None;
    facts.programs[0].cgroup = None;
    facts.programs[1].state = LinkState::Missing;
    facts.filled.insert("CONNTRACK", (262_140, 262_144));
    facts.features.tcx = false;
    facts.devices.links[0].1 = LinkState::Detached;
    facts.devices.links[2].1 = LinkState::Unreadable;
    facts.devices.links.retain(|(pin, _)| pin.index != 7);
    let status = status_of(&facts);
    assert!(!status.healthy);
    same_as_file(
        "status-problems.txt",
        &render::status(&status, Style::Plain),
    );
}

#[test]
fn text_fits_a_terminal_of_100_columns() {
    for arguments in ["list", "list --by-service"] {
        for line in plain(arguments).text.lines() {
            assert!(line.chars().count() <= 100, "{arguments}: {line}");
        }
    }
}

#[test]
fn colours_add_escape_sequences_and_nothing_else() {
    for arguments in ["list", "backends", "list --by-service"] {
        let coloured = run(&cluster(USUAL), arguments, Style::Colour).text;
        let mut bare = String::new();
        for (index, part) in coloured.split('\u{1b}').enumerate() {
            bare.push_str(if index == 0 {
                part
            } else {
                part.split_once('m').expect("SGR").1
            });
        }
        let trimmed: Vec<_> = bare.lines().map(str::trim_end).collect();
        let expected = plain(arguments).text;
        assert_eq!(trimmed, expected.lines().collect::<Vec<_>>());
    }
}

#[test]
fn canonical_dump_does_not_depend_on_numbering() {
    let (one, other) = (cluster(USUAL), cluster(OTHER));
    let dump = |snapshot| run(snapshot, "dump", Style::Plain).text;
    assert_eq!(dump(&one), dump(&other));
    let raw = |snapshot| run(snapshot, "dump --raw", Style::Plain).text;
    assert_ne!(raw(&one), raw(&other));
}

#[test]
fn canonical_dump_shows_one_entry_that_moved() {
    let before = cluster(USUAL);
    let mut after = cluster(USUAL);
    let mut slab: Vec<u32> = (0..after.slab.entries())
        .filter_map(|index| after.slab.entry(index))
        .collect();
    slab.swap(0, 1);
    after.slab = Box::new(slab);
    let none = Filter::default();
    assert_ne!(canonical(&before, &none), canonical(&after, &none));
}

#[test]
fn contradictions_and_orphans_are_reported() {
    let mut snapshot = cluster(USUAL);
    let at = |snapshot: &Snapshot, vip: &str| {
        let vip: std::net::IpAddr = vip.parse().expect("an address of the test");
        let keys = snapshot.frontends.iter().map(|(key, _)| key.addr.to_ip());
        keys.enumerate()
            .find(|(_, ip)| *ip == vip)
            .expect("a frontend")
            .0
    };
    let web = at(&snapshot, "10.96.0.10");
    let (word, bit) = filter_bit(&snapshot.frontends[web].0);
    snapshot.filter[word as usize] &= !bit;
    let empty = at(&snapshot, "10.96.0.11");
    snapshot.frontends[empty].1.seal ^= 1;
    snapshot.backends[0].service_id = 60;
    let orphan = snapshot.frontends.len() - 1;
    let (key, entry) = &mut snapshot.frontends[orphan];
    entry.service_id = 61;
    *entry = entry.sealed(key);

    let dump = canonical(&snapshot, &Filter::default());
    assert_eq!(dump.orphans.backends.len(), 1);
    assert_eq!(dump.orphans.frontends.len(), 1);
    assert_eq!(
        dump.inconsistencies,
        [
            "frontend 10.96.0.10:80/TCP (internal): its bit is clear: nothing reaches it",
            "frontend 10.96.0.11:80/TCP (internal): its seal does not fit: it is not used",
            "shop/web:80/TCP: 4 entries of the cluster table lead elsewhere",
        ]
    );
    let notes = run(&snapshot, "list", Style::Plain).notes;
    assert!(notes[0].starts_with("1 frontends and 1 backends belong to no service"));
}

#[test]
fn contradictions_of_external_frontends_are_reported() {
    let mut snapshot = cluster(USUAL);
    snapshot.node_ports.fill(0);
    snapshot.source_ranges[0].range.service_id = 61;
    snapshot.source_ranges.truncate(1);
    snapshot.local_backends[0].1 += 1;
    let last = snapshot
        .frontends
        .iter()
        .rposition(|(key, _)| key.scope == Scope::External as u8 && !key.addr.is_unspecified());
    snapshot.frontends.remove(last.expect("an external entry"));
    assert_eq!(
        canonical(&snapshot, &Filter::default()).inconsistencies,
        [
            "1 source ranges belong to no service",
            "frontend 0.0.0.0:30900/TCP (external): its bit is clear: nothing reaches it",
            "frontend 0.0.0.0:30900/TCP (internal): its bit is clear: nothing reaches it",
            "frontend 192.0.2.40:9000/TCP (internal): it is restricted, but admits no source",
            "frontend 192.0.2.40:9000/TCP (internal): the external entry that it refers to is \
             missing",
            "shop/api:9000/TCP: DSR backend 10.244.1.9 leads elsewhere",
        ]
    );
}

#[test]
fn filters_keep_exactly_what_they_document() {
    let names = |arguments: &str| {
        let text = plain(&format!("{arguments} -o json")).text;
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let list = value.as_object().and_then(|o| o.values().next()).cloned();
        let rows = list
            .and_then(|list| list.as_array().cloned())
            .expect("a list");
        let row = |row: &Value| {
            row["address"]
                .as_str()
                .or(row["name"].as_str())
                .map(str::to_owned)
        };
        rows.iter().filter_map(row).collect::<Vec<_>>()
    };
    assert_eq!(names("list -n default"), ["10.96.0.11"]);
    assert_eq!(
        names("list -n default -n kube-system"),
        ["10.96.0.11", "10.96.0.12"]
    );
    assert_eq!(names("list -n default --name web"), [""; 0]);
    assert_eq!(names("list --name we"), [""; 0]);
    // A frontend by its own address, or by a backend's; one row a scope.
    let both = ["192.0.2.40"; 2];
    assert_eq!(names("list --address 192.0.2.40"), both);
    let all = [["0.0.0.0"; 2].as_slice(), &["10.96.0.13"], &both].concat();
    assert_eq!(names("list --address ::ffff:10.244.4.4"), all);
    assert_eq!(
        names("list --address [fd00:10:244:1:0:0:0:7]"),
        ["fd00:10:96::10"]
    );
    // A backend by its own address, or by a frontend's.
    assert_eq!(names("backends --address 10.244.4.4"), ["10.244.4.4"]);
    assert_eq!(
        names("backends --address 192.0.2.40"),
        ["10.244.1.9", "10.244.4.4"]
    );
    // Whole ports.
    assert_eq!(names("list --by-service --address 10.244.4.4"), ["api"]);
}

#[test]
fn without_a_match_output_is_empty_and_a_note_says_so() {
    for arguments in ["list", "backends", "list --by-service"] {
        let answer = plain(&format!("{arguments} -n nowhere"));
        assert_eq!(answer.text, "");
        assert_eq!(answer.notes, ["nothing matches the filters"]);
    }
    assert_eq!(plain("list -n nowhere -o yaml").text, "frontends: []\n");
    assert_eq!(
        plain("dump -n nowhere").notes,
        ["nothing matches the filters"]
    );
}

//! Reports of all three kinds, of one run with every result.

use super::*;
use crate::conformance::{Case, all};

fn case(name: &str) -> &'static Case {
    all().find(|case| case.name == name).unwrap()
}

fn result(name: &str, outcome: Outcome) -> CaseResult {
    let (case, took) = (case(name), Duration::from_millis(1500));
    CaseResult {
        case,
        outcome,
        took,
    }
}

fn report() -> Report {
    let failed = Outcome::Failed {
        message: "pod-3 answered <at once>".to_owned(),
        explanation: "--- proxy of node-1:\nout of memory".to_owned(),
    };
    let empty = Report {
        site: "netns".to_owned(),
        families: "dual".to_owned(),
        source: "files".to_owned(),
        proxy: "lb-controller".to_owned(),
        started: "2026-11-27T12:00:00Z".to_owned(),
        took: Duration::from_secs(61),
        counts: Counts::default(),
        cases: Vec::new(),
        not_covered: not_covered(),
        upstream: Vec::new(),
    };
    empty.with_results(vec![
        result(
            "s8_creates_a_functioning_node_port_service",
            Outcome::Passed,
        ),
        result("s1_serves_a_basic_endpoint_from_pods", failed),
        result(
            "m5_v4_mapped_sockets_are_served_as_ipv4",
            Outcome::Skipped("the site netns has no IPv4".to_owned()),
        ),
    ])
}

#[test]
fn text_has_every_case_and_every_row_without_one() {
    let text = text::write(&report(), false).unwrap();
    assert!(text.starts_with("lb-controller on netns, dual, objects by files: 61 s\n"));
    let passed = "passed   S8     should be able to create a functioning NodePort service [Conformance] (1.5 s)";
    assert!(text.contains(passed), "{text}");
    assert!(text.contains("skipped  M5     v4-mapped IPv6 sockets are served as IPv4\n           the site netns has no IPv4"));
    assert!(text.contains(
        "S34a   should prevent NodePort collisions\n           not covered: the API server"
    ));
    let failure = text
        .split("---- S1 s1_serves_a_basic_endpoint_from_pods ----\n")
        .nth(1);
    assert!(
        failure
            .unwrap()
            .starts_with("pod-3 answered <at once>\n--- proxy of node-1:\nout of memory")
    );
}

#[test]
fn text_names_the_functions_on_request() {
    let text = text::write(&report(), true).unwrap();
    assert!(text.contains("s8_creates_a_functioning_node_port_service (rules E6 E13)"));
}

#[test]
fn sections_keep_their_order_and_ours_is_the_last() {
    let sections = report().sections();
    assert_eq!(sections[..2], ["Services", "EndpointSlice"]);
    assert_eq!(*sections.last().unwrap(), OWN_SECTION);
}

#[test]
fn json_is_for_programs() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(
        json["counts"],
        serde_json::json!({"passed": 1, "failed": 1, "skipped": 1})
    );
    assert_eq!(json["seconds"], 61.0);
    let failed = &json["cases"][1];
    assert_eq!(failed["result"], "failed");
    assert_eq!(failed["rows"], serde_json::json!(["S1"]));
    assert_eq!(failed["seconds"], 1.5);
    assert!(json["cases"][0].get("message").is_none());
    let uncovered = json["not_covered"].as_array().unwrap();
    assert!(uncovered.iter().any(|row| row["row"] == "S34a"));
}

#[test]
fn junit_counts_rows_without_a_case_as_skipped() {
    let xml = junit::write(&report()).unwrap();
    let cases = 3 + not_covered().len();
    assert!(xml.contains(&format!("tests=\"{cases}\"")), "{xml}");
    assert!(xml.contains("failures=\"1\""));
    assert!(xml.contains("pod-3 answered &lt;at once&gt;"));
    assert!(xml.contains("classname=\"s8_creates_a_functioning_node_port_service\""));
    assert_eq!(xml.matches("<skipped").count(), cases - 2);
}

#[test]
fn counts_close_a_run() {
    assert_eq!(report().counts.to_string(), "1 passed, 1 failed, 1 skipped");
}

#[test]
fn upstreams_own_results_are_in_every_form_and_counted() {
    let results = [("passed", ""), ("failed", "<late>")].map(|(result, message)| RowResult {
        row: Some("S2"),
        title: "[sig-network] Services should serve".to_owned(),
        result,
        message: message.to_owned(),
        took: Duration::from_secs(12),
    });
    let report = report().with_upstream(results.to_vec());
    assert_eq!(report.counts.to_string(), "2 passed, 2 failed, 1 skipped");
    let text = text::write(&report, false).unwrap();
    let lines =
        "Upstream's own tests\n  passed   S2     [sig-network] Services should serve (12.0 s)";
    assert!(text.contains(lines), "{text}");
    assert!(text.contains("(12.0 s)\n           <late>"), "{text}");
    let xml = junit::write(&report).unwrap();
    assert_eq!(xml.matches("classname=\"upstream\"").count(), 2);
    assert!(xml.contains("failures=\"2\"") && xml.contains("&lt;late&gt;"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["upstream"][1]["seconds"], 12.0);
}

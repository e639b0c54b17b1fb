//! Upstream's tests by our rows.

use std::{path::Path, process::Command};

use lb_integration::{
    binaries,
    conformance::rows::{ROWS, row},
    kind::upstream::{IMAGE, Run, SKIP, focus, not_run, read},
};
use regex::Regex;

/// As Ginkgo writes it, by hand.
const JUNIT: &str = include_str!("ginkgo.xml");

#[test]
fn results_are_found_by_title_whatever_the_tags_in_the_order_of_rows() {
    let results = read(JUNIT).unwrap();
    let short: Vec<_> = results
        .iter()
        .map(|result| (result.row, result.result, result.took.as_secs()))
        .collect();
    assert_eq!(
        short,
        [
            (Some("S1"), "failed", 150),
            (Some("S2"), "passed", 12),
            (Some("S8r"), "skipped", 2),
            (Some("DS10"), "passed", 40),
            // Not one of ours, but it was run.
            (None, "passed", 1),
        ]
    );
    assert!(results[0].message.contains("not reachable within 2m0s"));
    assert_eq!(results[2].message, "Test requires kube-proxy pods");
    assert!(
        results[1]
            .title
            .starts_with("[sig-network] Services should serve multiport")
    );
}

#[test]
fn rows_without_a_result_are_not_run_even_if_ginkgo_lists_them_as_skipped() {
    let results = read(JUNIT).unwrap();
    let missing: Vec<&str> = not_run(&results).iter().map(|row| row.id).collect();
    assert!(missing.contains(&"S8") && missing.contains(&"S3"));
    assert!(!missing.contains(&"S1") && !missing.contains(&"S8r"));
    assert_eq!(missing.len(), ROWS.len() - 4);
}

#[test]
fn a_file_that_is_no_junit_is_an_error() {
    assert!(read("").is_err());
    assert!(read("<testsuites><testcase").is_err());
}

#[test]
fn focus_matches_rows_with_any_tags_and_no_longer_titles() {
    let rows = [*row("S8").unwrap(), *row("DS10").unwrap()];
    let focus = Regex::new(&focus(&rows)).unwrap();
    for title in [
        "[sig-network] Services should be able to create a functioning NodePort service [Conformance]",
        "[sig-network] Services should be able to create a functioning NodePort service",
        "[sig-network] [Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family \
         [LinuxOnly] should function for pod-Service: http",
    ] {
        assert!(focus.is_match(title), "{title}");
    }
    for title in [
        "[sig-network] Services should be able to create a functioning NodePort service for Windows",
        "[sig-network] Services should serve a basic endpoint from pods [Conformance]",
        "[sig-network] Networking Granular Checks: Services should function for pod-Service: http",
    ] {
        assert!(!focus.is_match(title), "{title}");
    }
}

#[test]
fn the_focus_of_all_rows_is_an_expression() {
    let all = focus(&ROWS);
    Regex::new(&all).unwrap();
    Regex::new(SKIP).unwrap();
    // An environment variable has its limits.
    assert!(all.len() < 100_000, "{}", all.len());
}

#[test]
fn the_image_is_run_beside_the_nodes_with_focus_and_skip() {
    let run = Run {
        image: IMAGE,
        focus: Some("a b"),
        skip: "c",
        results: Path::new("/r"),
        dry_run: true,
    };
    assert_eq!(
        run.invocation().to_string(),
        format!(
            "docker run --rm --network kind --volume /r:/tmp/results \
             --env KUBECONFIG=/tmp/results/kubeconfig --env RESULTS_DIR=/tmp/results \
             --env E2E_PROVIDER=skeleton --env 'E2E_FOCUS=a b' --env E2E_SKIP=c \
             --env E2E_DRYRUN=true {IMAGE}"
        )
    );
}

#[test]
fn lb_kind_tells_rows_from_a_junit_file_and_exits_1_if_one_failed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("junit.xml");
    std::fs::write(&file, JUNIT).unwrap();
    let mut command = Command::new(binaries::find("lb-kind").unwrap());
    // Reading takes no tools.
    command
        .args(["upstream", "--junit"])
        .arg(&file)
        .env("PATH", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        out.lines().next().unwrap().starts_with("failed   S1 "),
        "{out}"
    );
    assert!(
        out.lines().last().unwrap().starts_with("not run: S3 "),
        "{out}"
    );
}

//! Upstream's tests by our rows.

use std::{
    path::Path,
    process::{Command, Output},
};

use lb_integration::{
    binaries,
    conformance::{
        rows::{ROWS, row},
        upstream::{focus, not_run, read},
    },
    kind::upstream::{IMAGE, Run, SKIP},
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
    };
    assert_eq!(
        run.invocation().to_string(),
        format!(
            "docker run --rm --network kind --volume /r:/tmp/results \
             --env KUBECONFIG=/tmp/results/kubeconfig --env RESULTS_DIR=/tmp/results \
             --env E2E_PROVIDER=skeleton --env 'E2E_FOCUS=a b' --env E2E_SKIP=c {IMAGE}"
        )
    );
}

fn suite(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(binaries::find("lb-conformance").unwrap());
    command.args(arguments).env("PATH", path);
    command.output().unwrap()
}

#[test]
fn the_suite_takes_upstreams_results_into_its_report_and_exits_1_if_one_failed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("junit.xml");
    std::fs::write(&file, JUNIT).unwrap();
    let file = file.display().to_string();
    // Reading takes no tools.
    let output = suite(&["--upstream", "--upstream-junit", &file], directory.path());
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8_lossy(&output.stdout);
    let own = out.split("Upstream's own tests\n").nth(1).unwrap();
    assert!(own.starts_with("  failed   S1 "), "{out}");
    assert!(own.contains("  not run: S3 "), "{out}");
    assert_eq!(out.lines().last(), Some("3 passed, 1 failed, 1 skipped"));
}

#[test]
fn the_suite_prints_what_it_would_run_of_upstream() {
    let nothing = tempfile::tempdir().unwrap();
    let line =
        "--site kind --upstream --dry-run --cluster t --upstream-focus x --upstream-results /r";
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = suite(&arguments, nothing.path());
    assert!(output.status.success());
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "kind get kubeconfig --name t --internal");
    assert!(lines[1].starts_with("docker run --rm --network kind --volume /r:/tmp/results "));
    assert!(lines[1].contains(" --env E2E_FOCUS=x "), "{out}");
}

#[test]
fn the_suite_exits_4_by_name_without_kind() {
    let nothing = tempfile::tempdir().unwrap();
    for arguments in [&["--site", "kind"][..], &["--site", "kind", "--upstream"]] {
        let output = suite(arguments, nothing.path());
        assert_eq!(output.status.code(), Some(4));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("kind is not on PATH"), "{said}");
    }
}

//! System programs used by tests, demo and benchmarks, and the packages they come from.

use anyhow::Result;

use crate::setup::Scope;
use crate::setup::apt::Apt;
use crate::ui;
use crate::workspace::which;

/// One program, who needs it and whether anything fails without it.
struct Program {
    binary: &'static str,
    package: &'static str,
    why: &'static str,
    scopes: &'static [Scope],
    required: bool,
}

const BUILD: &[Scope] = &[Scope::Build];
const RUN: &[Scope] = &[Scope::Demo, Scope::Test, Scope::Bench];
const TEST: &[Scope] = &[Scope::Test];
const RULES: &[Scope] = &[Scope::Test, Scope::Bench];
const BENCH: &[Scope] = &[Scope::Bench];

const fn required(
    binary: &'static str,
    package: &'static str,
    scopes: &'static [Scope],
    why: &'static str,
) -> Program {
    Program {
        binary,
        package,
        why,
        scopes,
        required: true,
    }
}

const fn optional(
    binary: &'static str,
    package: &'static str,
    scopes: &'static [Scope],
    why: &'static str,
) -> Program {
    Program {
        binary,
        package,
        why,
        scopes,
        required: false,
    }
}

const PROGRAMS: &[Program] = &[
    required("cc", "gcc", BUILD, "links Rust programs"),
    required("c++", "g++", BUILD, "links bpf-linker with LLVM"),
    required("ip", "iproute2", RUN, "network namespaces, links, routes"),
    required("nsenter", "util-linux", RUN, "enters a node's namespace"),
    required("mount", "mount", RUN, "mounts bpffs and cgroup v2"),
    required("sysctl", "procps", RUN, "per-namespace kernel settings"),
    required("curl", "curl", TEST, "an HTTP client that is not ours"),
    required(
        "iptables",
        "iptables",
        RULES,
        "the reference proxy's iptables rules",
    ),
    required(
        "nft",
        "nftables",
        RULES,
        "the reference proxy's nftables rules",
    ),
    required(
        "conntrack",
        "conntrack",
        TEST,
        "what the kernel's NAT has seen",
    ),
    required("ethtool", "ethtool", RUN, "offloads of virtual devices"),
    optional(
        "nc",
        "netcat-openbsd",
        TEST,
        "a UDP client that is not ours",
    ),
    optional("iperf3", "iperf3", BENCH, "throughput"),
    optional(
        "bpftool",
        "bpftool",
        RULES,
        "looks at programs and maps by hand",
    ),
    optional("tcpdump", "tcpdump", TEST, "packets, when a test fails"),
];

/// Installs the missing programs of `scopes`; only a required one is an error.
pub(crate) fn ensure(apt: &mut Apt<'_>, scopes: &[Scope]) -> Result<()> {
    let wanted = wanted(scopes);
    let needed = missing(&wanted, true);
    if !needed.is_empty() {
        apt.install(
            &packages(&needed),
            &format!("programs ({})", purpose(&needed)),
        )?;
    }
    let useful = missing(&wanted, false);
    if !useful.is_empty()
        && apt
            .install(&packages(&useful), "optional programs")
            .is_err()
    {
        // One package this release does not have must not cost the others.
        for program in &useful {
            let _ = apt.install(&packages(&[*program]), program.binary);
        }
    }
    for program in missing(&wanted, false) {
        ui::warn(format!(
            "{} ({}) is not installed: {}",
            program.binary, program.package, program.why
        ));
    }
    ui::ok(format!("programs: {}", names(&wanted)));
    Ok(())
}

/// Those of `wanted` that are not installed, required or optional ones.
fn missing(wanted: &[&'static Program], required: bool) -> Vec<&'static Program> {
    let absent = |p: &&Program| p.required == required && which(p.binary).is_none();
    wanted.iter().copied().filter(absent).collect()
}

fn wanted(scopes: &[Scope]) -> Vec<&'static Program> {
    PROGRAMS
        .iter()
        .filter(|p| p.scopes == BUILD || p.scopes.iter().any(|scope| scopes.contains(scope)))
        .collect()
}

fn packages(programs: &[&Program]) -> Vec<String> {
    programs.iter().map(|p| p.package.to_owned()).collect()
}

fn purpose(programs: &[&Program]) -> String {
    let each: Vec<String> = programs
        .iter()
        .map(|p| format!("{}: {}", p.binary, p.why))
        .collect();
    each.join("; ")
}

fn names(programs: &[&Program]) -> String {
    let present: Vec<&str> = programs
        .iter()
        .map(|p| p.binary)
        .filter(|binary| which(binary).is_some())
        .collect();
    present.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_binary_is_listed_once() {
        let mut binaries: Vec<&str> = PROGRAMS.iter().map(|p| p.binary).collect();
        let listed = binaries.len();
        binaries.sort_unstable();
        binaries.dedup();
        assert_eq!(binaries.len(), listed);
    }

    #[test]
    fn building_needs_compilers_only() {
        let binaries: Vec<&str> = wanted(&[Scope::Build]).iter().map(|p| p.binary).collect();
        assert_eq!(binaries, ["cc", "c++"]);
    }

    #[test]
    fn every_scope_that_runs_programs_has_namespaces() {
        for scope in [Scope::Demo, Scope::Test, Scope::Bench] {
            assert!(
                wanted(&[scope]).iter().any(|p| p.binary == "ip"),
                "{scope:?}"
            );
        }
    }
}

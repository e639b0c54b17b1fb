//! What a guest says on its serial console, as far as it is meant for us: lines that begin with
//! `lb: `, and a word. The kernel's own messages may stand before or between them.

/// Begins a line that is meant for us.
const MARK: &str = "lb: ";

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
}

/// A check of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What was seen instead.
    pub(super) words: String,
}

/// A program and what the verifier made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) loaded: bool,
    /// Instructions that the verifier walked, if the kernel tells (5.16).
    pub(super) verified: u64,
}

/// All that a guest has said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// `uname -r` there.
    pub(super) release: String,
    pub(super) programs: Vec<Program>,
    pub(super) checks: Vec<Check>,
    pub(super) degradations: Vec<String>,
    /// Whether the guest came to its end.
    pub(super) complete: bool,
}

impl Report {
    pub(super) fn parse(console: &str) -> Self {
        let mut report = Self::default();
        for line in console.lines() {
            let Some((_, said)) = line.split_once(MARK) else {
                continue;
            };
            let said = said.trim();
            let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
            report.take(word, rest);
        }
        report
    }

    fn take(&mut self, word: &str, rest: &str) {
        match word {
            "kernel" => rest.clone_into(&mut self.release),
            "program" => self.programs.extend(program(rest)),
            "pass" => self.checks.push(check(Verdict::Passed, rest)),
            "fail" => self.checks.push(check(Verdict::Failed, rest)),
            "degraded" => self.degradations.push(rest.to_owned()),
            "end" => self.complete = true,
            _ => {}
        }
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.verdict == verdict).count()
    }

    pub(super) fn loaded(&self) -> usize {
        self.programs.iter().filter(|p| p.loaded).count()
    }

    /// Whether everything was tried and nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.complete
            && self.loaded() > 0
            && self.loaded() == self.programs.len()
            && self.count(Verdict::Passed) > 0
            && self.count(Verdict::Failed) == 0
    }
}

/// `NAME: WORDS`, or a name alone.
fn check(verdict: Verdict, rest: &str) -> Check {
    let (name, words) = rest.split_once(": ").unwrap_or((rest, ""));
    Check {
        name: name.to_owned(),
        verdict,
        words: words.to_owned(),
    }
}

/// `NAME loaded|refused SECONDS INSTRUCTIONS`, as `lb-load` prints it.
fn program(rest: &str) -> Option<Program> {
    let mut words = rest.split_whitespace();
    Some(Program {
        name: words.next()?.to_owned(),
        loaded: words.next()? == "loaded",
        verified: words.nth(1)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
SeaBIOS (version 1.16.2)\r
[    1.000000] lb: kernel 6.1.0-50-cloud-amd64\r
lb: program lb_xdp loaded 5.8 169534\r
lb: program lb_ingress refused 61.4 0\r
  processed 1000001 insns (limit 1000000)\r
lb: pass tcp to a ClusterIP\r
lb: fail udp to a ClusterIP: {\"ok\":false, \"error\": 1}\r
lb: degraded a refused connect returns EPERM\r
";

    #[test]
    fn marked_lines_are_read_and_others_are_not() {
        let report = Report::parse(CONSOLE);
        assert_eq!(report.release, "6.1.0-50-cloud-amd64");
        assert_eq!(report.programs.len(), 2);
        assert_eq!(report.programs[0].verified, 169_534);
        assert_eq!((report.loaded(), report.checks.len()), (1, 2));
        assert_eq!(report.checks[1].words, "{\"ok\":false, \"error\": 1}");
        assert_eq!(report.degradations, ["a refused connect returns EPERM"]);
    }

    #[test]
    fn a_guest_is_good_only_if_it_ended_and_nothing_failed() {
        assert!(!Report::parse(CONSOLE).is_good());
        let good = "lb: program a loaded 0.1 5\nlb: pass b\nlb: end\n";
        assert!(Report::parse(good).is_good());
        for bad in [
            "lb: program a loaded 0.1 5\nlb: pass b\n",
            "lb: pass b\nlb: end\n",
            "lb: program a loaded 0.1 5\nlb: end\n",
            "lb: program a loaded 0.1 5\nlb: pass b\nlb: fail c\nlb: end\n",
            "lb: program a refused 0.1 0\nlb: pass b\nlb: end\n",
            "",
        ] {
            assert!(!Report::parse(bad).is_good(), "{bad}");
        }
    }
}

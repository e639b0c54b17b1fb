//! Which cases are run: by what they are called, and by what the proxy is known to lack.

use std::collections::BTreeSet;

use regex::Regex;

use super::{Case, rows};

/// A choice of cases.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only cases that one of these matches; all, if there are none.
    pub focus: Vec<Regex>,
    /// No cases that one of these matches.
    pub skip: Vec<Regex>,
    /// Rules that the proxy does not claim to follow (`E3`): no case that proves one of them.
    pub lacks: BTreeSet<String>,
}

// === impl Selection ===

impl Selection {
    /// Why a case is not run, if it is not.
    pub fn leaves_out(&self, case: &Case) -> Option<String> {
        if !self.focus.is_empty() && !self.focus.iter().any(|regex| matches(regex, case)) {
            return Some("not in focus".to_owned());
        }
        if let Some(regex) = self.skip.iter().find(|regex| matches(regex, case)) {
            return Some(format!("left out by {regex}"));
        }
        let lacking = case.rules.iter().find(|&&rule| self.lacks.contains(rule))?;
        Some(format!("the proxy lacks rule {lacking}"))
    }
}

/// Whether an expression matches a case's name, one of its rows, or one of its titles.
fn matches(regex: &Regex, case: &Case) -> bool {
    let of_row = |id: &&str| {
        let row = rows::row(id);
        regex.is_match(id) || row.is_some_and(|row| regex.is_match(&row.full_title()))
    };
    regex.is_match(case.name) || regex.is_match(case.own) || case.rows.iter().any(of_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> &'static Case {
        crate::conformance::all()
            .find(|case| case.name == name)
            .unwrap()
    }

    fn regexes(texts: &[&str]) -> Vec<Regex> {
        texts.iter().map(|text| Regex::new(text).unwrap()).collect()
    }

    #[test]
    fn focus_matches_names_rows_and_titles() {
        let s8 = case("s8_creates_a_functioning_node_port_service");
        for focus in [
            "functioning_node",
            "^S8$",
            "Services should.*NodePort",
            "^s8_",
        ] {
            let selection = Selection {
                focus: regexes(&["^nothing$", focus]),
                ..Selection::default()
            };
            assert_eq!(selection.leaves_out(s8), None, "{focus}");
        }
        let selection = Selection {
            focus: regexes(&["^S9"]),
            ..Selection::default()
        };
        assert_eq!(selection.leaves_out(s8).unwrap(), "not in focus");
    }

    #[test]
    fn skip_wins_over_focus() {
        let selection = Selection {
            focus: regexes(&["s8"]),
            skip: regexes(&["node_port"]),
            ..Selection::default()
        };
        let reason = selection.leaves_out(case("s8_creates_a_functioning_node_port_service"));
        assert_eq!(reason.unwrap(), "left out by node_port");
    }

    #[test]
    fn cases_of_rules_that_the_proxy_lacks_are_left_out() {
        let selection = Selection {
            lacks: ["E13".to_owned()].into(),
            ..Selection::default()
        };
        let reason = selection.leaves_out(case("s8_creates_a_functioning_node_port_service"));
        assert_eq!(reason.unwrap(), "the proxy lacks rule E13");
        assert_eq!(
            selection.leaves_out(case("s1_serves_a_basic_endpoint_from_pods")),
            None
        );
    }

    #[test]
    fn own_cases_are_found_by_their_sentence() {
        let selection = Selection {
            focus: regexes(&["v4-mapped"]),
            ..Selection::default()
        };
        assert_eq!(
            selection.leaves_out(case("m5_v4_mapped_sockets_are_served_as_ipv4")),
            None
        );
    }
}

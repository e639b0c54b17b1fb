//! The cases as they would run, for `--list`.

use std::fmt::{self, Write};

use crate::conformance::{
    Case,
    rows::{Row, row},
    selection::Selection,
};

/// A line for each case: row or rule, name, title, and why it would be skipped.
pub fn write(cases: &[&Case], selection: &Selection) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for case in cases {
        let id = case.rows.first().or(case.rules.first()).copied();
        let title = case.rows.first().and_then(|id| row(id));
        let title = title.map_or_else(|| case.own.to_owned(), Row::full_title);
        write!(text, "{:6} {}: {title}", id.unwrap_or_default(), case.name)?;
        match selection.leaves_out(case) {
            Some(reason) => writeln!(text, " (skipped: {reason})")?,
            None => writeln!(text)?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::all;

    #[test]
    fn every_case_is_listed_with_its_title() {
        let cases: Vec<&Case> = all().collect();
        let text = write(&cases, &Selection::default()).unwrap();
        assert_eq!(text.lines().count(), cases.len());
        let line = "S8     s8_creates_a_functioning_node_port_service: Services should be able to create a functioning NodePort service\n";
        assert!(text.contains(line));
        assert!(text.contains("M5     m5_v4_mapped_sockets_are_served_as_ipv4: v4-mapped IPv6"));
    }
}

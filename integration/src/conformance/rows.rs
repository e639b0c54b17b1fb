//! Every test of upstream's end-to-end suite (Kubernetes 1.36, `test/e2e/network`) that goes
//! through a service proxy or looks as if it did.
//!
//! The table is `rows.tsv`. Reports show all of it, so that nothing upstream asks is missing
//! without a word: a row is covered by cases, or the table says why it is not.

use std::sync::LazyLock;

/// One test of upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name here and in `RULES.md`: `S8`.
    pub id: &'static str,
    /// The Ginkgo container it is in.
    pub describe: &'static str,
    /// Its `It` text.
    pub title: &'static str,
    /// The release that made it a conformance test (`yes`: an unknown one); empty if it is none.
    pub conformance: &'static str,
    /// What the proxy has to do with its result.
    pub proxy: Share,
    /// Why no case covers it; empty if some do.
    pub not_covered: &'static str,
}

impl Row {
    /// Container and title, as a run of upstream's suite prints them.
    pub fn full_title(&self) -> String {
        format!("{} {}", self.describe, self.title)
    }
}

/// How far a service proxy decides the result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The test is about the proxy.
    Decides,
    /// The test needs a proxy that works.
    Needed,
    /// The test passes without a proxy.
    None,
}

/// All rows, in upstream's order.
pub static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    include_str!("rows.tsv")
        .lines()
        .skip(1)
        .map(parse)
        .collect()
});

/// The row of this name.
pub fn row(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.id == id)
}

fn parse(line: &'static str) -> Row {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_default();
    Row {
        id: next(),
        describe: next(),
        title: next(),
        conformance: next(),
        proxy: match next() {
            "P" => Share::Decides,
            "p" => Share::Needed,
            _ => Share::None,
        },
        not_covered: next(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::conformance;

    #[test]
    fn every_row_is_covered_or_says_why_it_is_not() {
        let covered: BTreeSet<&str> = conformance::all()
            .flat_map(|case| case.rows)
            .copied()
            .collect();
        let mut seen = BTreeSet::new();
        for row in ROWS.iter() {
            assert!(seen.insert(row.id), "{} is there twice", row.id);
            assert!(!row.describe.is_empty() && !row.title.is_empty(), "{row:?}");
            assert_ne!(
                covered.contains(row.id),
                !row.not_covered.is_empty(),
                "{row:?}"
            );
        }
        assert!(seen.is_superset(&covered));
    }

    #[test]
    fn full_titles_are_what_upstream_prints() {
        let full = row("ES1").unwrap().full_title();
        assert!(full.starts_with("EndpointSlice should create and delete"));
    }

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let row = row("S8").unwrap();
        assert_eq!(row.describe, "Services");
        assert_eq!(
            row.title,
            "should be able to create a functioning NodePort service"
        );
        assert_eq!((row.conformance, row.proxy), ("v1.16", Share::Decides));
    }
}

//! `integration/mutants.md`: sections between markers, each replaced by the run that made it.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

const HEAD: &str = "# What the tests notice\n\n\
    Made by `cargo xtask mutants`. A mutant changes one expression; a fault takes one rule of the\n\
    datapath away. What no test notices is listed with the reason why that is as it should be, or\n\
    with what is missing.\n";

/// Puts `body` in place of the section `name`.
pub(super) fn replace(workspace: &Workspace, name: &str, body: &str) -> Result<()> {
    let path = workspace.root.join("integration/mutants.md");
    let old = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    let new = with_section(&old, name, body);
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// `text` with `body` between the markers of section `name`; what stands outside of markers,
/// such as reasons, stays.
fn with_section(text: &str, name: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let section = format!("{begin}{body}{end}");
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            let (before, after) = (&text[..from], &text[to + end.len()..]);
            format!("{before}{section}{after}")
        }
        _ => format!("{text}\n## {name}\n\n{section}"),
    }
}

#[cfg(test)]
mod tests {
    use super::with_section;

    #[test]
    fn a_section_is_added_then_replaced_and_the_rest_stays() {
        let once = with_section("# head\n", "x", "one\n");
        assert_eq!(once, "# head\n\n## x\n\n<!-- x -->\none\n<!-- /x -->\n");
        let more = once + "reasons\n";
        let twice = with_section(&more, "x", "two\n");
        assert_eq!(
            twice,
            "# head\n\n## x\n\n<!-- x -->\ntwo\n<!-- /x -->\nreasons\n"
        );
    }
}

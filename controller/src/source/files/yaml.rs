//! Cutting YAML text into pieces that are parsed one at a time.
//!
//! Input: the text of a file. Output: its documents, and the items of a `List` document
//! as `kubectl get -o yaml` prints it, each with its line. A parser that is given a
//! dump of a cluster in one piece needs fifteen times its size of memory.
#![forbid(unsafe_code)]

/// A part of a text, and the number of its first line in the file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// A list in kubectl's layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List<'a> {
    /// Everything but the items: the text before and after them.
    pub(super) frame: [&'a str; 2],
    pub(super) items: Vec<Piece<'a>>,
}

/// The documents of `text`, without those that hold nothing but comments.
///
/// A marker at the start of a line separates documents wherever it stands: nothing
/// inside a document may look like it (YAML 1.2.2, section 9.1.2).
pub(super) fn documents(text: &str) -> Vec<Piece<'_>> {
    let pieces = cut(text, 1, |line| {
        let rest = line
            .strip_prefix("---")
            .or_else(|| line.strip_prefix("..."));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    });
    pieces
        .into_iter()
        .filter(|piece| piece.text.lines().any(has_content))
        .collect()
}

/// The items of `document`, if it has the layout that kubectl prints: a line `items:`,
/// each item begun by a dash in the first column, everything else of it indented.
pub(super) fn list(document: Piece<'_>) -> Option<List<'_>> {
    // An alias may refer to another item.
    if document.text.contains(": &") || document.text.contains("- &") {
        return None;
    }
    let lines = cut(document.text, document.line, |_| true);
    let start = lines
        .iter()
        .position(|line| line.text.trim_end() == "items:")?
        + 1;
    let belongs = |line: &&Piece<'_>| line.text.starts_with(['-', ' ', '\r', '\n', '#']);
    let count = lines[start..].iter().take_while(belongs).count();
    let of_items = &lines[start..start + count];
    let first = of_items.first()?;
    if !first.text.starts_with("- ") || of_items.iter().any(is_odd_dash) {
        return None;
    }
    let length = |lines: &[Piece<'_>]| lines.iter().map(|line| line.text.len()).sum::<usize>();
    let (head, rest) = document.text.split_at(length(&lines[..start]));
    let (body, tail) = rest.split_at(length(of_items));
    let items = cut(body, first.line, |line| line.starts_with("- "));
    Some(List {
        frame: [head, tail],
        items,
    })
}

/// A dash that does not begin an item on its own line.
fn is_odd_dash(line: &Piece<'_>) -> bool {
    line.text.starts_with('-') && !line.text.starts_with("- ")
}

/// Comments, directives and markers are no content.
fn has_content(line: &str) -> bool {
    let line = line
        .strip_prefix("---")
        .or_else(|| line.strip_prefix("..."))
        .unwrap_or(line);
    let line = line.trim();
    !(line.is_empty() || line.starts_with(['#', '%', '\u{feff}']))
}

/// Cuts before every line that `begins` a piece.
fn cut(text: &str, first: usize, begins: impl Fn(&str) -> bool) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut start_line) = (0, first);
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if at > start && begins(line) {
            pieces.push(Piece {
                text: &text[start..at],
                line: start_line,
            });
            (start, start_line) = (at, first + number);
        }
        at += line.len();
    }
    if at > start {
        pieces.push(Piece {
            text: &text[start..at],
            line: start_line,
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<(&str, usize)> {
        documents(text)
            .iter()
            .map(|piece| (piece.text, piece.line))
            .collect()
    }

    #[test]
    fn markers_separate_documents() {
        assert_eq!(
            pieces("# top\n---\na: 1\n---\n# none\n--- \nb: |\n  ---\n...\nc: 3"),
            [
                ("---\na: 1\n", 2),
                ("--- \nb: |\n  ---\n", 6),
                ("...\nc: 3", 9)
            ]
        );
        assert_eq!(
            pieces("--- {a: 1}\n---x: 2\n"),
            [("--- {a: 1}\n---x: 2\n", 1)]
        );
        assert_eq!(pieces("\n%YAML 1.2\n---\n"), []);
    }

    #[test]
    fn kubectls_lists_are_cut_into_items() {
        let text = "kind: List\nitems:\n- a: 1\n  b: |\n\n    - x\n- c: 3\nmetadata:\n  d: 4\n";
        let list = list(Piece { text, line: 10 }).unwrap();
        assert_eq!(list.frame, ["kind: List\nitems:\n", "metadata:\n  d: 4\n"]);
        let items: Vec<_> = list
            .items
            .iter()
            .map(|item| (item.text, item.line))
            .collect();
        assert_eq!(
            items,
            [("- a: 1\n  b: |\n\n    - x\n", 12), ("- c: 3\n", 16)]
        );
    }

    #[test]
    fn other_layouts_are_left_whole() {
        for text in [
            "kind: Service\nspec: {}\n",
            "items: []\n",
            "items:\n",
            "items:\n  - a: 1\n",
            "items:\n-\n  a: 1\n",
            "items:\n- a: &x 1\n- a: *x\n",
        ] {
            assert_eq!(list(Piece { text, line: 1 }), None, "{text:?}");
        }
    }
}

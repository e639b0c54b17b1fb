//! The mutants of a package, as cargo-mutants lists them.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

/// A mutant: a change of a range of a file.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    /// Its file in the package.
    pub(super) file: String,
    /// What is changed, without the place.
    pub(super) what: String,
    /// The line that it is in, from 1.
    pub(super) line: usize,
    /// That line.
    pub(super) code: String,
    /// Bytes that are replaced.
    pub(super) span: Range<usize>,
    /// What they become.
    pub(super) replacement: String,
    /// The body of its function, braces and all; `None` for one of a constant.
    pub(super) body: Option<Range<usize>>,
    /// The same for the same mutant of the same function, wherever it has moved.
    pub(super) key: String,
}

/// `json` is what `cargo mutants --list --json` says of the package in `dir`.
pub(super) fn read(dir: &Path, json: &str) -> Result<Vec<Mutant>> {
    let list: Value = serde_json::from_str(json).context("the list of mutants")?;
    let mut texts = BTreeMap::new();
    let mut mutants = Vec::new();
    for item in list.as_array().context("a list")? {
        let file = item["file"].as_str().context("a file")?;
        if !texts.contains_key(file) {
            let text = fs::read_to_string(dir.join(file)).with_context(|| file.to_owned())?;
            texts.insert(file.to_owned(), text);
        }
        mutants.push(mutant(item, file, &texts[file]).context("a mutant")?);
    }
    Ok(mutants)
}

fn mutant(item: &Value, file: &str, text: &str) -> Option<Mutant> {
    let span = range(&item["span"], text)?;
    let name = item["name"].as_str()?;
    // `file:line:column: what`
    let what = name.split_once(": ")?.1.to_owned();
    let line = item["span"]["start"]["line"].as_u64()? as usize;
    let code = text.lines().nth(line - 1)?.trim().to_owned();
    let body = match &item["function"] {
        Value::Null => None,
        function => body(function, text),
    };
    // Of a constant, its line.
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let about = body.clone().map_or(code.as_str(), |body| &text[body]);
    let place = span.start - body.as_ref().map_or(line_start, |body| body.start);
    let key = format!("{file}: {what} #{place} {:08x}", fnv(about));
    Some(Mutant {
        file: file.to_owned(),
        what,
        line,
        code,
        span,
        replacement: item["replacement"].as_str()?.to_owned(),
        body,
        key,
    })
}

/// From the brace behind the function's name to its end.
fn body(function: &Value, text: &str) -> Option<Range<usize>> {
    let all = range(&function["span"], text)?;
    let path = function["function_name"].as_str()?;
    let name = path.rsplit("::").next()?;
    let at = text[all.clone()].find(&format!("fn {name}"))?;
    let brace = text[all.start + at..all.end].find('{')?;
    Some(all.start + at + brace..all.end)
}

/// Lines and columns count from 1, columns in characters.
fn range(span: &Value, text: &str) -> Option<Range<usize>> {
    let at = |place: &Value| {
        let line = place["line"].as_u64()? as usize - 1;
        let column = place["column"].as_u64()? as usize - 1;
        let before = text.split_inclusive('\n').take(line).map(str::len);
        let start: usize = before.sum();
        let chars = text[start..].chars().take(column).map(char::len_utf8);
        Some(start + chars.sum::<usize>())
    };
    Some(at(&span["start"])?..at(&span["end"])?)
}

/// FNV-1a: enough to see that a function has changed.
fn fnv(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_keeps_its_key_where_its_function_moves_and_loses_it_where_that_changes() {
        let item = |line: u32, end: u32| {
            serde_json::json!({
                "file": "src/a.rs", "name": format!("src/a.rs:{line}:5: replace + with - in f"),
                "replacement": "-",
                "span": {"start": {"line": line, "column": 7}, "end": {"line": line, "column": 8}},
                "function": {"function_name": "A::f", "span": {
                    "start": {"line": line - 1, "column": 1}, "end": {"line": end, "column": 2}}},
            })
        };
        let text = "fn f() -> u32 {\n    a + b\n}\n";
        let one = mutant(&item(2, 3), "src/a.rs", text).expect("a mutant");
        assert_eq!((&text[one.span.clone()], one.code.as_str()), ("+", "a + b"));
        assert_eq!(one.body, Some(14..text.len() - 1));
        assert_eq!(one.what, "replace + with - in f");
        let moved = mutant(&item(4, 5), "src/a.rs", &format!("// é\n\n{text}"));
        assert_eq!(moved.expect("a mutant").key, one.key);
        let changed = mutant(&item(2, 3), "src/a.rs", &text.replace('b', "c"));
        assert_ne!(changed.expect("a mutant").key, one.key);
    }
}

//! All mutants of a file in one text: each function becomes a `match` over the number of the
//! active mutant, with a changed copy of its body for each of its mutants.
//!
//! One build then serves all mutants; what remains per mutant is a run of the tests.

use std::{collections::BTreeMap, fmt::Write as _, ops::Range};

use super::list::Mutant;

/// What a range of the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The changed body of this mutant.
    Mutant(u32),
    /// A function with these mutants, switch and all.
    Function(Vec<u32>),
}

/// A text and its parts, functions before what is in them.
#[derive(Debug, Default)]
pub(super) struct Switched {
    pub(super) text: String,
    pub(super) parts: Vec<(Range<usize>, Part)>,
}

/// Puts the mutants, all of one file and each with its number, into its text.
pub(super) fn switched(text: &str, mutants: &[(u32, &Mutant)]) -> Switched {
    // Bodies many times as long are not to be inlined.
    let text = text.replace("#[inline(always)]", "#[inline(never )]");
    let mut bodies: BTreeMap<(usize, usize), Vec<(u32, &Mutant)>> = BTreeMap::new();
    for (number, mutant) in mutants {
        if let Some(body) = &mutant.body {
            let of_body = bodies.entry((body.start, body.end)).or_default();
            of_body.push((*number, mutant));
        }
    }
    let mut out = Switched::default();
    let writer = Writer {
        text: &text,
        bodies: &bodies,
    };
    writer.range(0..text.len(), &mut out);
    out
}

struct Writer<'a> {
    text: &'a str,
    bodies: &'a BTreeMap<(usize, usize), Vec<(u32, &'a Mutant)>>,
}

impl Writer<'_> {
    /// A range with the functions in it switched.
    fn range(&self, range: Range<usize>, out: &mut Switched) {
        let mut at = range.start;
        for ((start, end), mutants) in self.bodies {
            // Functions in functions are reached from the outer one.
            if *start < at || *end > range.end {
                continue;
            }
            out.text += &self.text[at..*start];
            self.function(*start..*end, mutants, out);
            at = *end;
        }
        out.text += &self.text[at..range.end];
    }

    fn function(&self, body: Range<usize>, mutants: &[(u32, &Mutant)], out: &mut Switched) {
        let (from, place) = (out.text.len(), out.parts.len());
        let numbers = mutants.iter().map(|(number, _)| *number).collect();
        out.parts.push((from..from, Part::Function(numbers)));
        out.text += "{ match crate::active::active() {\n";
        for (number, mutant) in mutants {
            // Writing to a string cannot fail.
            let _ = write!(out.text, "{number} => ");
            let from = out.text.len();
            out.text += &self.text[body.start..mutant.span.start];
            out.text.extend([" ", &mutant.replacement, " "]);
            out.text += &self.text[mutant.span.end..body.end];
            let range = from..out.text.len();
            out.parts.push((range, Part::Mutant(*number)));
            out.text += ",\n";
        }
        out.text += "_ => {";
        // Past its own brace, or it would be found again.
        self.range(body.start + 1..body.end, out);
        out.text += "} }";
        out.parts[place].0.end = out.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_becomes_a_choice_among_its_bodies() {
        let text = "const fn f() -> u32 { 1 + 2 }\n";
        let mutant = |replacement: &str| Mutant {
            file: String::new(),
            what: String::new(),
            line: 1,
            code: String::new(),
            span: 24..25,
            replacement: replacement.to_owned(),
            body: Some(20..29),
            key: String::new(),
        };
        let (minus, times) = (mutant("-"), mutant("*"));
        let switched = switched(text, &[(3, &minus), (4, &times)]);
        let expected = "const fn f() -> u32 { match crate::active::active() {\n\
                        3 => { 1  -  2 },\n4 => { 1  *  2 },\n_ => { 1 + 2 }} }\n";
        assert_eq!(switched.text, expected);
        let parts = switched
            .parts
            .iter()
            .map(|(range, part)| (&expected[range.clone()], part));
        let parts: Vec<_> = parts.skip(1).collect();
        let two = [
            ("{ 1  -  2 }", &Part::Mutant(3)),
            ("{ 1  *  2 }", &Part::Mutant(4)),
        ];
        assert_eq!(parts, two);
    }
}

//! Keeps the kernel from giving ports of the SNAT range to sockets, through
//! `ip_local_reserved_ports` of this network namespace. What others reserve stays.

use std::{fs, io, ops::RangeInclusive};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Reserves `ports`.
pub fn reserve(ports: &RangeInclusive<u16>) -> io::Result<()> {
    let mut reserved = parse(&fs::read_to_string(RESERVED)?);
    if !contains(&reserved, ports) {
        reserved.push(ports.clone());
        fs::write(RESERVED, format(&reserved))?;
    }
    Ok(())
}

/// Gives `ports` back.
pub fn release(ports: &RangeInclusive<u16>) -> io::Result<()> {
    let reserved = parse(&fs::read_to_string(RESERVED)?);
    let rest = without(reserved, ports);
    // An empty line would be ignored; an empty list is written as a line end.
    fs::write(RESERVED, format(&rest) + "\n")
}

/// The ports that sockets get by themselves, if `ports` has some of them.
pub(super) fn overlap(ephemeral: &str, ports: &RangeInclusive<u16>) -> Option<(u16, u16)> {
    let mut numbers = ephemeral.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first <= *ports.end() && *ports.start() <= last).then_some((first, last))
}

/// `1-5,7`, as the kernel writes it: sorted, merged.
fn parse(line: &str) -> Vec<RangeInclusive<u16>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    line.trim().split(',').filter_map(range).collect()
}

fn format(ranges: &[RangeInclusive<u16>]) -> String {
    let words = ranges
        .iter()
        .map(|range| format!("{}-{}", range.start(), range.end()));
    words.collect::<Vec<_>>().join(",")
}

fn contains(ranges: &[RangeInclusive<u16>], ports: &RangeInclusive<u16>) -> bool {
    ranges
        .iter()
        .any(|range| range.start() <= ports.start() && ports.end() <= range.end())
}

fn without(
    ranges: Vec<RangeInclusive<u16>>,
    ports: &RangeInclusive<u16>,
) -> Vec<RangeInclusive<u16>> {
    let (first, last) = (*ports.start(), *ports.end());
    ranges
        .into_iter()
        .flat_map(|range| {
            let below = first
                .checked_sub(1)
                .map(|end| *range.start()..=end.min(*range.end()));
            let above = last
                .checked_add(1)
                .map(|start| start.max(*range.start())..=*range.end());
            [below, above]
        })
        .flatten()
        .filter(|range| !range.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_others_stay_reserved() {
        let snat = 20_000..=29_999;
        let mut reserved = parse("8080,30000-32767\n");
        assert!(!contains(&reserved, &snat));
        reserved.push(snat.clone());
        assert_eq!(format(&reserved), "8080-8080,30000-32767,20000-29999");
        // The kernel merges neighbours.
        let merged = parse("8080,20000-32767");
        assert!(contains(&merged, &snat));
        assert_eq!(format(&without(merged, &snat)), "8080-8080,30000-32767");
        assert_eq!(without(parse("20000-29999"), &snat), []);
        assert_eq!(parse("\n"), []);
    }

    #[test]
    fn ephemeral_ports_in_the_range_are_noticed() {
        assert_eq!(overlap("32768\t60999\n", &(20_000..=29_999)), None);
        assert_eq!(
            overlap("29999\t60999\n", &(20_000..=29_999)),
            Some((29_999, 60_999))
        );
        assert_eq!(overlap("", &(1..=2)), None);
    }
}

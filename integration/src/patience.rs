//! Waiting for a state to come, on machines that may be busy.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, thread,
    time::{Duration, Instant},
};

/// How long a proxy may take to follow a change. Upstream's tests allow half a minute for a change
/// of endpoints and two minutes for one of a Service.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How many findings are told of a wait that was in vain.
const TOLD: usize = 5;

/// What was seen instead of what was waited for.
#[derive(Debug)]
pub struct Late {
    took: Duration,
    looks: u32,
    /// The last of them, oldest first.
    findings: VecDeque<Finding>,
}

/// Looks in a row that found the same.
#[derive(Debug)]
struct Finding {
    since: Duration,
    times: u32,
    what: String,
}

/// Looks until a look succeeds, and returns what it found.
///
/// # Errors
///
/// If none does that begins within `limit`, nor the one after it: what slows a look down, such as
/// a machine that stands still for a while, must not make it the last.
pub fn wait<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, Late> {
    let start = Instant::now();
    let mut late = Late {
        took: Duration::ZERO,
        looks: 0,
        findings: VecDeque::new(),
    };
    loop {
        let since = start.elapsed();
        match look() {
            Ok(found) => return Ok(found),
            Err(what) => late.add(since, what),
        }
        if since > limit {
            late.took = start.elapsed();
            return Err(late);
        }
        thread::sleep(PAUSE);
    }
}

/// [`wait`]s for as long as a proxy may take; panics if it was in vain.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    match wait(CHANGE_LIMIT, look) {
        Ok(found) => found,
        Err(late) => panic!("{what}: {late}"),
    }
}

/// [`eventually`] for what is or is not so.
#[track_caller]
pub fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || {
        is_so().then_some(()).ok_or_else(|| "not yet".to_owned())
    });
}

// === impl Late ===

impl Late {
    fn add(&mut self, since: Duration, what: String) {
        self.looks += 1;
        match self.findings.back_mut() {
            Some(last) if last.what == what => last.times += 1,
            _ => self.findings.push_back(Finding {
                since,
                times: 1,
                what,
            }),
        }
        if self.findings.len() > TOLD {
            self.findings.pop_front();
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "late after {:.1?} and {} looks", self.took, self.looks)?;
        for Finding { since, times, what } in &self.findings {
            write!(f, "; from {since:.1?}: {what} ({times} times)")?;
        }
        Ok(())
    }
}

impl Error for Late {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_success_ends_the_wait() {
        let mut looks = 0;
        let found = wait(CHANGE_LIMIT, || {
            looks += 1;
            (looks == 3).then_some(looks).ok_or_else(String::new)
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_slow_look_is_not_the_last() {
        let mut looks = 0;
        let found = wait(Duration::from_millis(1), || {
            looks += 1;
            thread::sleep(Duration::from_millis(5));
            (looks == 2).then_some(()).ok_or_else(String::new)
        });
        assert!(found.is_ok());
    }

    #[test]
    fn a_wait_in_vain_tells_what_was_seen_and_how_often() {
        let mut looks = 0;
        let late = wait(Duration::from_millis(60), || -> Result<(), String> {
            looks += 1;
            let what = if looks == 1 {
                "a timeout"
            } else {
                "pod-3 answered"
            };
            Err(what.to_owned())
        });
        let told = late.unwrap_err().to_string();
        assert!(told.contains("a timeout (1 times); from "), "{told}");
        assert!(
            told.ends_with(&format!("pod-3 answered ({} times)", looks - 1)),
            "{told}"
        );
    }
}

//! Runs the tests with one mutant after the other active.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{list::Mutant, records::Outcome};

const POLL: Duration = Duration::from_millis(10);
/// What a program may use, in KiB: mutants that grow without end shall not take the machine.
const MEMORY: u32 = 4 << 20;
/// Property tests are meant to find what nobody thought of; what a mutant changes, few cases
/// show.
const CASES: &str = "32";

/// How tests are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For one run.
    pub(super) timeout: Duration,
    /// Runs at the same time.
    pub(super) jobs: usize,
}

/// The environment of tests that a mutant is active in.
pub(super) fn environment(command: &mut Command, number: u32) {
    command
        .env("LB_MUTANT", number.to_string())
        .env("PROPTEST_CASES", CASES)
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}

/// Runs the program once for each of `numbers` and says what came of each. The program has to
/// succeed without a mutant.
pub(super) fn all(
    program: &Path,
    numbers: &[u32],
    limits: Limits,
    said: &(impl Fn(u32, Outcome) + Sync),
) -> Result<()> {
    if once(program, 0, limits.timeout)? != Outcome::Missed {
        bail!("the tests fail without any mutant: {}", program.display());
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            said(*number, once(program, *number, limits.timeout)?);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..limits.jobs).map(|_| scope.spawn(work)).collect();
        for job in jobs {
            job.join().expect("a job that does not panic")?;
        }
        Ok(())
    })
}

fn once(program: &Path, number: u32, timeout: Duration) -> Result<Outcome> {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")])
        .arg(program);
    environment(&mut command, number);
    within(command, timeout)
}

/// Runs tests and kills them when they take too long.
fn within(mut command: Command, timeout: Duration) -> Result<Outcome> {
    let mut child = command.spawn().context("cannot start the tests")?;
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            let caught = !status.success();
            return Ok(if caught {
                Outcome::Caught
            } else {
                Outcome::Missed
            });
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::TimedOut);
        }
        thread::sleep(POLL);
    }
}

/// Builds one mutant into the package in `dir` and runs its tests.
pub(super) fn alone(
    dir: &Path,
    mut cargo: impl FnMut(&Path) -> Command,
    mutant: &Mutant,
    timeout: Duration,
) -> Result<Outcome> {
    let file = dir.join(&mutant.file);
    let text = fs::read_to_string(&file)?;
    let (before, after) = (&text[..mutant.span.start], &text[mutant.span.end..]);
    fs::write(&file, format!("{before} {} {after}", mutant.replacement))?;
    let built = cargo(dir)
        .arg("--no-run")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let outcome = match built {
        Ok(status) if status.success() => {
            let mut tests = cargo(dir);
            // Any number: no switch is in the package.
            environment(&mut tests, 1);
            within(tests, timeout)
        }
        Ok(_) => Ok(Outcome::Unviable),
        Err(error) => Err(error.into()),
    };
    fs::write(&file, text)?;
    outcome
}

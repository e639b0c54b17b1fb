//! Running other programs: visibly, silently into a log, or for their output.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::exit::{self, STEP};
use crate::ui::Ticker;
use crate::workspace::Workspace;

/// Lines of a failed step's log that are shown.
const TAIL: usize = 30;
/// How often a silent step is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Runs `command` with its output shown; an error with exit code `code` unless it succeeds.
pub(crate) fn visibly(command: &mut Command, code: u8, what: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    Err(exit::failure(code, format!("{what} failed ({status})")))
}

/// Runs `command` with its output in `log`, showing the time it takes; kills it after
/// `limit`. On failure the error carries the end of the log.
pub(crate) fn logged(
    command: &mut Command,
    label: &str,
    log: &Path,
    limit: Duration,
) -> Result<Duration> {
    let dir = log.parent().context("a log file has a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut ticker = Ticker::new(label);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if ticker.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        sleep(POLL);
        ticker.tick();
    };
    let time = ticker.finish();
    judge(ended, label, log, limit)?;
    Ok(time)
}

fn judge(ended: Option<ExitStatus>, label: &str, log: &Path, limit: Duration) -> Result<()> {
    let how = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("failed ({status})"),
        None => format!("took longer than {} s and was stopped", limit.as_secs()),
    };
    let text = fs::read_to_string(log).unwrap_or_default();
    let message = format!(
        "{label}: {how}; the end of {}:\n{}",
        log.display(),
        tail(&text)
    );
    Err(exit::failure(STEP, message))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Standard output of `command`; an error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !out.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    String::from_utf8(out.stdout).with_context(|| format!("{program} did not print UTF-8"))
}

/// Starts a program of the target directory instead of this process: the terminal's signals
/// and the exit code are its own. Comes back only if that fails.
pub(crate) fn in_our_place(
    workspace: &Workspace,
    program: &str,
    arguments: &[OsString],
) -> Result<()> {
    let program = workspace.target.join(program);
    let error = Command::new(&program).args(arguments).exec();
    Err(exit::failure(
        STEP,
        format!("cannot start {}: {error}", workspace.show(&program)),
    ))
}

/// Whether `file` contains one of `needles`.
pub(crate) fn file_contains(file: &Path, needles: &[Vec<u8>]) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|mut f| f.read_to_end(&mut bytes));
    read.is_ok()
        && needles
            .iter()
            .any(|needle| bytes.windows(needle.len()).any(|window| window == needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_lines() {
        let lines: Vec<String> = (0..100).map(|n: u32| n.to_string()).collect();
        let end = tail(&lines.join("\n"));
        assert_eq!(end.lines().count(), TAIL);
        assert!(end.ends_with("99"));
    }

    #[test]
    fn a_step_over_its_limit_is_stopped() {
        let log = std::env::temp_dir().join(format!("xtask-limit-{}.log", std::process::id()));
        let limit = Duration::from_millis(200);
        let error = logged(Command::new("sleep").arg("60"), "sleeping", &log, limit)
            .expect_err("sleep 60 cannot end in 200 ms");
        assert!(error.to_string().contains("was stopped"), "{error}");
        fs::remove_file(&log).expect("the log exists");
    }
}

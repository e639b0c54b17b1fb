//! How a verb fails: the exit codes and the error type that carries one.

use std::fmt;
use std::process::ExitCode;

use crate::ui;

/// A check failed: a test, a lint, a benchmark.
pub(crate) const CHECK: u8 = 1;
/// The machine lacks something that only its owner can provide; the message says what.
pub(crate) const MACHINE: u8 = 2;
/// A step could not be carried out: compilation, installation, or anything unforeseen.
pub(crate) const STEP: u8 = 3;
/// The command line was not understood (`EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;

pub(crate) const HELP: &str = "\
Exit codes:
  0   success
  1   a test, lint or benchmark failed
  2   the machine lacks something; the message says what to install or allow
  3   a step such as compiling failed
  64  wrong usage
  `demo` and `conformance` end with the exit codes of their programs.";

/// An error with the exit code it ends the process with.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

/// The error that ends the process with exit code `code`.
pub(crate) fn failure(code: u8, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failure {
        code,
        message: message.into(),
    })
}

/// The machine lacks something: [`failure`] with [`MACHINE`].
pub(crate) fn machine(message: impl Into<String>) -> anyhow::Error {
    failure(MACHINE, message)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code `error` stands for.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Failure>().map_or(STEP, |f| f.code)
}

/// Prints `error` as one message and returns its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    ui::error(&format!("{error:#}"));
    ExitCode::from(code(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_keeps_its_code_under_context() {
        let error = machine("no apt-get").context("while setting up");
        assert_eq!(code(&error), MACHINE);
    }

    #[test]
    fn any_other_error_is_a_failed_step() {
        assert_eq!(code(&anyhow::anyhow!("disk full")), STEP);
    }
}

//! Shows what is programmed on this node. See `lbctl --help`.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use lb_controller::lbctl::{
    self, LbctlError,
    cli::{Cli, Command},
    render::Style,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough, as `head` does.
        Err(LbctlError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lbctl: {error}");
            ExitCode::from(error.exit())
        }
    }
}

fn execute(cli: &Cli) -> Result<(), LbctlError> {
    let mut out = io::stdout().lock();
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "lbctl", &mut script);
        return Ok(out.write_all(&script)?);
    }
    let answer = lbctl::answer(cli, style())?;
    out.write_all(answer.text.as_bytes())?;
    out.flush()?;
    for note in answer.notes {
        eprintln!("lbctl: {note}");
    }
    Ok(())
}

/// Colours on a terminal only; see <https://no-color.org>.
fn style() -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if io::stdout().is_terminal() && !refused && !dumb {
        Style::Colour
    } else {
        Style::Plain
    }
}

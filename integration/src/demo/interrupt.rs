//! Ctrl-C at any time leaves nothing behind and no noise.
//!
//! The demo runs in a child process. Its parent outlives it whatever happens, and then removes
//! what the child could not: a signal may hit between the making of a thing and its removal.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::teardown;

/// Set in the environment of the child.
const CHILD: &str = "LB_DEMO_CHILD";

static PENDING: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT or SIGTERM has arrived.
pub(super) fn pending() -> bool {
    PENDING.load(Ordering::Relaxed)
}

/// Whether this process is the child that runs the demo.
pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Makes the child end with its parent, and note signals before anything else reacts to them.
pub fn prepare_child() -> Result<()> {
    set_pdeathsig(Signal::SIGTERM).context("asking to end with the parent")?;
    let spawned = thread::Builder::new()
        .name("demo-signals".into())
        .spawn(|| {
            if wait_for_signal().is_ok() {
                PENDING.store(true, Ordering::Relaxed);
            }
        });
    spawned.context("starting a thread").map(drop)
}

/// Runs this program again as the child, passes signals on, sweeps when it has ended, and ends
/// as it did.
pub fn supervise() -> Result<ExitCode> {
    let program = env::current_exe().context("finding this executable")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let status = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = tokio::process::Command::from(again(&program)).spawn()?;
        let pid = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status,
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
            };
            // A child that has just ended is what the next turn of the loop finds out.
            let _ = pid.map(|pid| kill(pid, signal));
        }
    })?;
    teardown::sweep()?;
    Ok(ExitCode::from(code_of(status)))
}

fn again(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(CHILD, "1");
    command
}

/// A shell's rule: 128 and the number of the signal.
fn code_of(status: ExitStatus) -> u8 {
    let by_signal = |signal| u8::try_from(128 + signal).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => {
            if signal == Signal::SIGINT as i32 || signal == Signal::SIGTERM as i32 {
                eprintln!("\ninterrupted: everything has been removed");
            }
            by_signal(signal)
        }
        (None, None) => u8::MAX,
    }
}

fn wait_for_signal() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(())
        })
}

//! Starts processes inside a node or pod.
//!
//! A process joins its cgroup and network namespace between fork and exec, so that every socket
//! it ever makes belongs to the right cgroup: socket hooks go by the cgroup a socket's creator
//! was in when it made it. Output goes to files and is shown when the test fails.

#![expect(
    unsafe_code,
    reason = "pre_exec, atexit and resetting a signal have no safe form"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, sigprocmask},
    },
    unistd::{Pid, getpid, getppid},
};

use crate::{netns::Netns, panics::note, prefix::Prefix, teardown::working_directory};

/// Where a process runs: which namespace, which cgroup. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The network namespace.
    pub netns: Netns,
    /// The cgroup directory; it must exist.
    pub cgroup: PathBuf,
    /// Directory for captured output.
    pub logs: PathBuf,
}

/// How to start a process, where the default (captured output, dies with the test) is not meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave stdin and stdout as pipes for the caller.
    pub piped: bool,
    /// Go on running when this process dies (a kept demo).
    pub outlive: bool,
}

/// Captured output lives in the cluster's working directory, until teardown.
pub(crate) fn log_directory(prefix: &Prefix) -> PathBuf {
    working_directory(prefix).join("logs")
}

// === impl Placement ===

impl Placement {
    /// Starts `command` here with captured output; it is killed when the handle is dropped and
    /// when this process dies.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        self.spawn_with(command, Options::default())
    }

    /// Starts `command` here as `options` say.
    pub fn spawn_with(&self, mut command: Command, options: Options) -> Result<Process> {
        self.enter_before_exec(&mut command, options.outlive)?;
        Process::start(command, options, &self.logs).with_context(|| {
            let (netns, cgroup) = (self.netns.name(), self.cgroup.display());
            format!("in {netns} and {cgroup}")
        })
    }

    /// Runs `command` to its end and returns its exit status, stdout and stderr.
    pub fn output(&self, command: Command, limit: Duration) -> Result<Output> {
        let mut process = self.spawn(command)?;
        let status = process.wait(limit)?;
        Ok(Output {
            status,
            stdout: process.stdout(),
            stderr: process.stderr(),
        })
    }

    /// Arranges that the child of `command` moves here before it becomes another program.
    fn enter_before_exec(&self, command: &mut Command, outlive: bool) -> Result<()> {
        let netns = self.netns.open()?;
        let procs = self.cgroup.join("cgroup.procs");
        let mut procs = OpenOptions::new()
            .write(true)
            .open(&procs)
            .with_context(|| format!("opening {}", procs.display()))?;
        let parent = getpid();
        let enter = move || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            // "0" is the writer itself.
            procs.write_all(b"0")?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            if !outlive {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above.
                if getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are allowed: `enter` makes
        // plain system calls on descriptors opened before, and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

/// What a finished process left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

/// A running process; dropping it kills it, unless it was started to outlive the test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    outlive: bool,
}

// === impl Process ===

impl Process {
    /// Starts a process where this one runs, as `options` say; its output goes to `logs`.
    pub fn start(mut command: Command, options: Options, logs: &Path) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let program = PathBuf::from(command.get_program());
        let name = program
            .file_name()
            .map_or_else(Default::default, |n| n.to_string_lossy());
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        fs::create_dir_all(logs)?;
        let log = |stream| logs.join(format!("{name}-{number}.{stream}"));
        let (stdout, stderr) = (log("stdout"), log("stderr"));
        command.stderr(File::create(&stderr).context("creating a log file")?);
        if options.piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(File::create(&stdout)?);
        }
        let line = format!("{command:?}");
        let child =
            spawn_from_lasting_thread(command).with_context(|| format!("starting {line}"))?;
        Ok(Self {
            child,
            line,
            stdout,
            stderr,
            outlive: options.outlive,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command line, for messages.
    pub fn command_line(&self) -> &str {
        &self.line
    }

    /// What it has written to stdout so far (nothing, if stdout is piped).
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// The ends of its pipes, once, if it was started with [`Options::piped`].
    pub fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// Whether it has ended, and how.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end; kills it and fails after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                bail!(
                    "{} still ran after {limit:?}; stderr:\n{}",
                    self.line,
                    self.stderr()
                );
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("signalling {}", self.line))
    }

    /// SIGTERM, then SIGKILL if it has not ended within `patience`.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(patience)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            note(&format!("--- {} (pid {})", self.line, self.pid()));
            for (stream, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                if !text.is_empty() {
                    let last = tail(&text, 40);
                    note(&format!("--- {stream}, last lines:\n{last}"));
                }
            }
        }
        if !self.outlive {
            self.kill();
        }
    }
}

/// The last `count` lines of `text`.
pub(crate) fn tail(text: &str, count: usize) -> &str {
    let cut = text
        .trim_end()
        .rmatch_indices('\n')
        .nth(count.saturating_sub(1));
    cut.map_or(text, |(at, _)| &text[at + 1..])
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, and test threads end with their
/// test. So all children are forked from one thread that lives as long as the process.
fn spawn_from_lasting_thread(mut command: Command) -> Result<Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    });
    let (reply, child) = channel();
    let job = Box::new(move || {
        // The receiver waits below; it cannot be gone.
        let _ = reply.send(command.spawn());
    });
    spawner
        .send(job)
        .map_err(|_| anyhow!("the spawning thread is gone"))?;
    Ok(child.recv().context("the spawning thread is gone")??)
}

/// Has `handler` called when the process ends by `exit` or by returning from `main`.
pub(crate) fn register_exit_handler(handler: extern "C" fn()) {
    // SAFETY: `handler` is a plain function that lives as long as the program.
    if unsafe { libc::atexit(handler) } != 0 {
        tracing::warn!("no teardown on exit: atexit refused");
    }
}

/// Gives `signal` its default action back.
pub(crate) fn restore_default(signal: Signal) {
    // SAFETY: the default action runs no code of ours.
    let restored = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    if let Err(error) = restored {
        tracing::warn!("cannot restore {signal}: {error}");
    }
}

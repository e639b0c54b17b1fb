//! `lb-controller` as a process of its own, fed from manifests.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lb_controller::synthetic;
use lb_integration::binaries;

use crate::{
    arena::Arena,
    procfs::{self, Memory},
};

/// How often a server is asked: asking costs the controller a little CPU time.
const POLL: Duration = Duration::from_millis(10);
/// What nothing here should take.
const LIMIT: Duration = Duration::from_secs(120);

/// A running controller, killed when dropped. What it pinned stays.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    healthz: SocketAddr,
    metrics: SocketAddr,
    started: Instant,
}

/// What it took to become healthy.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// From exec to the first 200 of /healthz.
    pub wall: Duration,
    /// User and system time up to then.
    pub cpu: Duration,
}

/// Some of its metrics, since its start.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// Reconciliations.
    pub syncs: u64,
    /// Time that they took, in seconds.
    pub sync_seconds: f64,
    /// Writes to maps; a table counts as one.
    pub writes: u64,
}

impl Controller {
    /// Starts it for the cgroup and pins `name` of the arena; its log goes to a file.
    pub fn start(arena: &Arena, name: &str, manifests: &Path) -> Result<Self> {
        let (healthz, metrics) = (free_address()?, free_address()?);
        let pins = arena.pins(name);
        std::fs::create_dir_all(&pins)?;
        let log = File::create(arena.dir().join(format!("{name}.log")))?;
        let mut command = Command::new(binaries::find("lb-controller")?);
        command
            .args(["run", "--node-name", synthetic::NODE])
            // It runs in the machine's own network namespace, whose devices are no concern.
            .args(["--uplink-devices", "!*", "--pod-devices", "!*"])
            .arg("--source-files")
            .arg(manifests)
            .arg("--cgroup")
            .arg(arena.cgroup(name)?)
            .arg("--bpffs")
            .arg(&pins)
            .args(["--healthz-bind-address", &healthz.to_string()])
            .args(["--metrics-bind-address", &metrics.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command.spawn().context("starting lb-controller")?;
        Ok(Self {
            child,
            healthz,
            metrics,
            started,
        })
    }

    /// Waits until /healthz answers 200.
    pub fn wait_healthy(&mut self) -> Result<Start> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("lb-controller ended with {status}");
            }
            if let Ok((200, _)) = get(self.healthz, "/healthz") {
                return Ok(Start {
                    wall: self.started.elapsed(),
                    cpu: procfs::cpu_time(self.child.id())?,
                });
            }
            if self.started.elapsed() > LIMIT {
                bail!("lb-controller is not healthy after {LIMIT:?}");
            }
            thread::sleep(POLL);
        }
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        procfs::memory(self.child.id())
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Result<Metrics> {
        let (_, text) = get(self.metrics, "/metrics")?;
        let value = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.with_context(|| format!("no metric {name}"))?;
            Ok(value.trim().parse()?)
        };
        let sync = "kubeproxy_sync_proxy_rules_duration_seconds";
        Ok(Metrics {
            syncs: value(&format!("{sync}_count{{ip_family=\"IPv4\"}}"))? as u64,
            sync_seconds: value(&format!("{sync}_sum{{ip_family=\"IPv4\"}}"))?,
            writes: value("lb_map_writes_total")? as u64,
        })
    }

    /// Waits for a reconciliation after `before`; returns what it took.
    pub fn wait_synced(&self, before: Metrics) -> Result<Metrics> {
        let asked = Instant::now();
        loop {
            let now = self.metrics()?;
            if now.syncs > before.syncs {
                return Ok(Metrics {
                    syncs: now.syncs - before.syncs,
                    sync_seconds: now.sync_seconds - before.sync_seconds,
                    writes: now.writes - before.writes,
                });
            }
            if asked.elapsed() > LIMIT {
                bail!("no reconciliation after {LIMIT:?}");
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Status and body of a GET.
fn get(from: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(from)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {from}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

//! Named network namespaces (`/run/netns/<name>`), the same objects `ip netns` shows.

pub(crate) mod tool;

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::ip::Batch;

/// Where iproute2 keeps named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// A namespace's name. Removal is [`crate::teardown`]'s or [`Netns::delete`]'s, not `Drop`'s:
/// the name may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates namespaces in one go and brings their loopback up.
    pub fn create_all(names: &[String]) -> Result<Vec<Self>> {
        let mut batch = Batch::new();
        for name in names {
            batch.add(format!("netns add {name}"));
        }
        batch.run(None)?;
        let all: Vec<Self> = names
            .iter()
            .map(|name| Self { name: name.clone() })
            .collect();
        for netns in &all {
            netns.prepare()?;
        }
        Ok(all)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that represents it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.name)
    }

    /// Opens the namespace, which keeps it alive as long as the file is open.
    pub fn open(&self) -> Result<File> {
        File::open(self.path()).with_context(|| format!("opening namespace {}", self.name))
    }

    /// Runs `ip` commands inside.
    pub fn ip(&self, batch: &Batch) -> Result<()> {
        batch.run(Some(&self.name))
    }

    /// Runs another configuration tool inside, to its end.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<()> {
        self.tool_with(program, arguments, "")
    }

    /// The same with `input` on its standard input.
    pub fn tool_with(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        self.run(|| tool::run(program, arguments, input))??;
        Ok(())
    }

    /// The same, for what it prints.
    pub fn tool_output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run(|| tool::run(program, arguments, ""))?
    }

    /// Runs `work` on a thread of its own inside the namespace: sockets it opens and files it
    /// reads under `/proc/sys/net` belong to the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("entering namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("work in namespace {} panicked", self.name))?
        })
    }

    /// Sets sysctls given by their path under `/proc/sys/net`.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(key, value)| {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
            })
        })?
    }

    /// Removes the name; the kernel frees the namespace when its last process and socket go.
    pub fn delete(&self) -> Result<()> {
        Batch::new()
            .add(format!("netns del {}", self.name))
            .run(None)
    }

    /// Loopback up, addresses usable at once (no duplicate detection), no router solicitation,
    /// no reverse-path filter, and ICMP errors without a rate limit, on which tests of refused
    /// UDP would otherwise wait.
    fn prepare(&self) -> Result<()> {
        self.set_sysctls(&[
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
            ("ipv6/conf/all/disable_ipv6", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/all/accept_ra", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
        ])?;
        self.ip(Batch::new().add("link set lo up"))
    }
}

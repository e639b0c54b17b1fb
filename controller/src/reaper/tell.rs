//! Destroys sockets where their namespace can be entered, and notifies the others.

use std::{io, ops::ControlFlow};

use tracing::{debug, warn};

use super::{diag::Diag, namespaces, notify::Notifier, target::Target};
use crate::sys;

/// What became of the sockets.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Ended: their owners get ECONNABORTED.
    pub(crate) destroyed: Vec<Target>,
    /// Sent a port-unreachable, which gives ECONNREFUSED if it arrives.
    pub(crate) notified: Vec<Target>,
    /// Neither.
    pub(crate) failed: Vec<Target>,
}

/// The two ways to tell a socket.
#[derive(Debug)]
pub(crate) struct Teller {
    walk: bool,
    notifier: Option<Notifier>,
}

impl Teller {
    /// For this process's network namespace; `walk` is whether others may be entered.
    pub(crate) fn new(walk: bool) -> Self {
        let notifier = Notifier::open()
            .inspect_err(|error| warn!(%error, "UDP sockets cannot be told by ICMP"))
            .ok();
        Self { walk, notifier }
    }

    /// Tells these sockets.
    pub(crate) fn tell(&self, targets: Vec<Target>) -> Outcome {
        let mut work = Work {
            waiting: targets,
            ..Work::default()
        };
        if self.walk && !work.waiting.is_empty() {
            self.everywhere(&mut work, |work, diag, netns| {
                work.destroy_those_of(diag, netns);
                if work.waiting.is_empty() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        self.finish(work)
    }

    /// Tells the sockets, of every namespace that can be entered, for which `wanted`
    /// holds; at most `limit`.
    pub(crate) fn tell_all(
        &self,
        wanted: impl Fn(&Target) -> bool + Sync,
        limit: usize,
    ) -> Outcome {
        let mut work = Work::default();
        self.everywhere(&mut work, |work, diag, netns| {
            let room = limit - work.len();
            match diag.list(netns.unwrap_or(0), room, &wanted) {
                Ok(found) => work.waiting.extend(found),
                Err(error) => debug!(%error, "cannot list sockets"),
            }
            work.destroy_those_of(diag, None);
            work.undestroyed.append(&mut work.waiting);
            ControlFlow::Continue(())
        });
        self.finish(work)
    }

    /// Calls `visit` in every namespace that can be entered, with its cookie.
    fn everywhere(
        &self,
        work: &mut Work,
        visit: impl Fn(&mut Work, &mut Diag, Option<u64>) -> ControlFlow<()> + Sync,
    ) {
        let mut visit = || match Diag::open() {
            Ok(mut diag) => {
                let netns = sys::netns_cookie(diag.socket()).ok();
                visit(work, &mut diag, netns)
            }
            Err(error) => {
                debug!(%error, "no NETLINK_SOCK_DIAG here");
                ControlFlow::Continue(())
            }
        };
        if self.walk {
            namespaces::walk(visit);
        } else {
            let _ = visit();
        }
    }

    fn finish(&self, work: Work) -> Outcome {
        let mut outcome = Outcome {
            destroyed: work.destroyed,
            ..Outcome::default()
        };
        for target in work.waiting.into_iter().chain(work.undestroyed) {
            let sent = match &self.notifier {
                Some(notifier) => notifier.notify(&target),
                None => Err(io::ErrorKind::Unsupported.into()),
            };
            match sent {
                Ok(()) => outcome.notified.push(target),
                Err(error) => {
                    debug!(socket = %target.source, %error, "cannot tell");
                    outcome.failed.push(target);
                }
            }
        }
        outcome
    }
}

/// Sockets on their way.
#[derive(Debug, Default)]
struct Work {
    /// Not met yet.
    waiting: Vec<Target>,
    destroyed: Vec<Target>,
    /// Met, but not destroyed.
    undestroyed: Vec<Target>,
}

impl Work {
    fn len(&self) -> usize {
        self.waiting.len() + self.destroyed.len() + self.undestroyed.len()
    }

    /// Destroys those that wait for the namespace with this cookie. If the kernel cannot
    /// tell cookies (before 5.14), every socket is tried in every namespace: address,
    /// port and the socket's cookie say which it is.
    fn destroy_those_of(&mut self, diag: &mut Diag, netns: Option<u64>) {
        let here = |target: &mut Target| netns.is_none_or(|netns| netns == target.netns);
        let mut elsewhere = Vec::new();
        for target in self.waiting.extract_if(.., here) {
            match diag.destroy(&target) {
                Ok(()) => self.destroyed.push(target),
                Err(error) => {
                    debug!(socket = %target.source, %error, "not destroyed");
                    if netns.is_none() {
                        elsewhere.push(target);
                    } else {
                        self.undestroyed.push(target);
                    }
                }
            }
        }
        self.waiting.append(&mut elsewhere);
    }
}

//! A client that knows what tests wait for: who answers, who does not, and how.
//!
//! Every method waits for a state and panics when it does not come: after a change that the test
//! has made, the proxy is given [`CHANGE_LIMIT`](crate::patience::CHANGE_LIMIT) to follow.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;

use crate::{
    agent::{
        dial::{Dial, Dialed},
        http::Reply,
        socket::{ErrorKind, Protocol},
    },
    cluster::Pod,
    control::{Control, SocketId},
    patience::eventually,
};

/// How soon a failure shows that is no refusal.
const FAILURE: Duration = Duration::from_millis(250);

/// How soon a refusal shows. Of one by ICMP, which arrives while connect() holds the socket, Linux
/// only tells when the repeated SYN is refused too, after a second.
const REFUSAL: Duration = Duration::from_secs(2);

/// A server's patience with a machine that is busy.
const HTTP: Duration = Duration::from_secs(5);

const ALIVE: &str = "the client process answers";

/// A client in a pod, on a host or outside.
#[derive(Debug)]
pub struct Client {
    /// Its process.
    pub control: Control,
    /// The pod it lives in and owns.
    pub pod: Option<Pod>,
}

// === impl Client ===

impl Client {
    /// A client that is nobody's pod.
    pub fn new(control: Control) -> Self {
        Self { control, pod: None }
    }

    /// A client in a pod of its own.
    pub fn in_pod(pod: Pod) -> Result<Self> {
        let control = pod.control()?;
        Ok(Self {
            control,
            pod: Some(pod),
        })
    }

    /// One request over a new socket.
    pub fn dial(&mut self, dial: &Dial) -> Dialed {
        self.control.dial(dial).expect(ALIVE)
    }

    /// Waits until requests are answered by exactly these backends: every one within upstream's
    /// number of tries, no other, no failure, and always under the dialled address.
    pub fn reaches(&mut self, dial: &Dial, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        // Upstream's MaxTries.
        let tries = names.len() * names.len() + 30;
        let what = format!("{dial:?} should reach exactly {wanted:?}");
        eventually(&what, || self.collect(dial, &wanted, tries));
    }

    /// The same for several addresses.
    pub fn reaches_all(&mut self, dials: &[Dial], names: &[&str]) {
        for dial in dials {
            self.reaches(dial, names);
        }
    }

    fn collect(
        &mut self,
        dial: &Dial,
        wanted: &BTreeSet<String>,
        tries: usize,
    ) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        // All of them: a backend too many that takes its share is met, and not by luck only.
        for _ in 0..tries {
            let dialed = self.dial(dial);
            match dialed.reply {
                Some(name) if wanted.contains(&name) => seen.insert(name),
                Some(name) => return Err(format!("{name} answered")),
                None => return Err(format!("there was {:?}", dialed.error)),
            };
            if dialed.peer != Some(dial.expected_peer()) {
                return Err(format!("the peer was reported as {:?}", dialed.peer));
            }
        }
        if seen == *wanted {
            Ok(())
        } else {
            Err(format!("only {seen:?} answered"))
        }
    }

    /// Waits until requests fail, whatever the error, five times in a row.
    pub fn fails(&mut self, dial: &Dial) {
        self.fails_with(dial, FAILURE, 5, |_| true);
    }

    /// Waits until requests are refused, five times in a row.
    pub fn is_refused(&mut self, dial: &Dial) {
        self.fails_with(dial, REFUSAL, 5, |kind| kind == ErrorKind::Refused);
    }

    /// Waits until requests fail, and not as if nobody served: a Service whose policy leaves no
    /// endpoint here is dropped, not refused (rule C12).
    pub fn is_dropped_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.fails_with(dial, FAILURE, 5, |kind| kind != ErrorKind::Refused);
            // Time enough for a refusal to show.
            self.fails_with(dial, REFUSAL, 1, |kind| kind != ErrorKind::Refused);
        }
    }

    /// [`Client::fails`] for several addresses.
    pub fn fails_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.fails(dial);
        }
    }

    /// [`Client::is_refused`] for several addresses.
    pub fn is_refused_all(&mut self, dials: &[Dial]) {
        for dial in dials {
            self.is_refused(dial);
        }
    }

    fn fails_with(
        &mut self,
        dial: &Dial,
        limit: Duration,
        times: u32,
        expected: impl Fn(ErrorKind) -> bool,
    ) {
        let dial = dial.clone().timeout(limit);
        eventually(&format!("{dial:?} should fail"), || {
            (0..times).try_for_each(|_| {
                let dialed = self.dial(&dial);
                match &dialed.error {
                    Some(failure) if expected(failure.kind) => Ok(()),
                    _ => Err(format!("{:?}, {:?}", dialed.reply, dialed.error)),
                }
            })
        });
    }

    /// Requests `count` times and returns the hostnames that answered; none may fail.
    pub fn hostnames(&mut self, dial: &Dial, count: u64) -> BTreeSet<String> {
        let summary = self.control.dial_many(dial, count).expect(ALIVE);
        assert_eq!(summary.failed(), 0, "{dial:?}: {summary:?}");
        summary.replies.into_keys().collect()
    }

    /// The reply to one request over a new socket; the request must not fail.
    pub fn ask(&mut self, dial: &Dial) -> String {
        let dialed = self.dial(dial);
        dialed
            .reply
            .unwrap_or_else(|| panic!("{dial:?} gave {:?}", dialed.error))
    }

    /// The source address that the server sees.
    pub fn source_seen(&mut self, dial: &Dial) -> IpAddr {
        let seen = self.ask(&dial.clone().request("clientip"));
        let seen: SocketAddr = seen.parse().expect("a server answers with an address");
        seen.ip().to_canonical()
    }

    /// Waits until the server sees the client under one of these addresses.
    pub fn is_seen_as(&mut self, dial: &Dial, addresses: &[IpAddr]) {
        let what = format!("{dial:?} should be seen as from {addresses:?}");
        eventually(&what, || {
            let seen = self.source_seen(dial);
            let right = addresses.contains(&seen);
            right.then_some(()).ok_or_else(|| format!("from {seen}"))
        });
    }

    /// Waits until a GET is answered as it should be, and returns the answer.
    pub fn gets(&mut self, to: SocketAddr, path: &str, right: impl Fn(&Reply) -> bool) -> Reply {
        eventually(&format!("the answer to {path} at {to}"), || {
            let outcome = self.control.http_get(to, path, HTTP).expect(ALIVE);
            match outcome {
                Ok(reply) if right(&reply) => Ok(reply),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Waits until a GET is answered with this status, and returns the answer.
    pub fn gets_status(&mut self, to: SocketAddr, path: &str, status: u16) -> Reply {
        self.gets(to, path, |reply| reply.status == status)
    }

    /// A TCP connection whose server sends every line back.
    pub fn stream(&mut self, to: SocketAddr) -> SocketId {
        let connected = self.control.connect_new(Protocol::Tcp, to).expect(ALIVE);
        let stream = connected.unwrap_or_else(|failure| panic!("no stream to {to}: {failure}"));
        self.echoes(stream, "stream", "streaming");
        stream
    }

    /// The stream carries a line there and back.
    pub fn stream_works(&mut self, stream: SocketId, line: &str) {
        self.echoes(stream, line, line);
    }

    fn echoes(&mut self, socket: SocketId, line: &str, reply: &str) {
        let answer = self.control.ask(socket, line).expect(ALIVE);
        let answer = answer.unwrap_or_else(|failure| panic!("{socket:?} broke: {failure}"));
        assert_eq!(answer.data, reply, "{socket:?}");
    }
}

/// A TCP request with a second's patience.
pub fn tcp(to: SocketAddr) -> Dial {
    Dial::tcp(to).abort().timeout(Duration::from_secs(1))
}

/// A request over a connected UDP socket.
pub fn udp(to: SocketAddr) -> Dial {
    Dial::udp(to).timeout(Duration::from_millis(500))
}

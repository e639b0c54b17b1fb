//! HTTP requests by processes of pods, hosts and outside, hooks included.

use std::{net::SocketAddr, process::Command, time::Duration};

use lb_integration::{patience::wait, process::Placement};

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status, and everything after it.
    Status(u16, String),
    /// Nobody listens.
    Refused,
    /// Anything else, in the words of the client.
    Other(String),
}

/// GETs `path` in a shell of its own there.
pub(crate) fn get(from: &Placement, to: SocketAddr, path: &str) -> Answer {
    let (ip, port) = (to.ip(), to.port());
    let script = format!(
        "exec 3<>/dev/tcp/{ip}/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    );
    let mut command = Command::new("timeout");
    command.args(["5", "bash", "-c", &script]);
    let output = from.output(command, Duration::from_secs(20)).unwrap();
    let code = output.stdout.split(' ').nth(1);
    match code.and_then(|code| code.parse().ok()) {
        Some(code) => Answer::Status(code, output.stdout),
        None if output.stderr.contains("refused") => Answer::Refused,
        None => Answer::Other(output.stderr),
    }
}

/// Waits until each of these is answered with this status from everywhere named.
pub(crate) fn answers(from: &[&Placement], to: &[SocketAddr], path: &str, code: u16) {
    each(
        from,
        to,
        path,
        |answer| matches!(answer, Answer::Status(status, _) if *status == code),
    );
}

/// Waits until each of these refuses connections from everywhere named.
pub(crate) fn refuses(from: &[&Placement], to: &[SocketAddr]) {
    each(from, to, "/", |answer| *answer == Answer::Refused);
}

fn each(from: &[&Placement], to: &[SocketAddr], path: &str, right: impl Fn(&Answer) -> bool) {
    for from in from {
        for to in to {
            let what = format!("{path} at {to} from {}", from.netns.name());
            let mut last = None;
            eventually_or(
                || {
                    let answer = last.insert(get(from, *to, path));
                    right(answer)
                        .then_some(())
                        .ok_or_else(|| format!("{answer:?}"))
                },
                &what,
            );
        }
    }
}

/// Waits until something is so; busy machines take half a minute to load the programs.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually_or(|| is_so().then_some(()).ok_or_else(String::new), what);
}

fn eventually_or(attempt: impl FnMut() -> Result<(), String>, what: &str) {
    if let Err(late) = wait(Duration::from_secs(90), attempt) {
        panic!("{what}: {late}");
    }
}

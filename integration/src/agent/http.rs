//! As much HTTP/1.1 as curl and health checks need: GET, one request per connection.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::socket::Failure;

/// The request of the line protocol that an HTTP request line stands for.
///
/// `GET /echo?msg=a%20b HTTP/1.1` is `echo a b`; `GET /` and unknown paths are `None`.
pub fn as_request(request_line: &str) -> Option<String> {
    let path = request_line.split(' ').nth(1)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    match path {
        "/hostname" | "/clientip" | "/serverport" | "/serveraddr" => Some(path[1..].to_owned()),
        "/echo" => {
            let message = query.split('&').find_map(|pair| pair.strip_prefix("msg="));
            Some(format!(
                "echo {}",
                percent_decoded(message.unwrap_or_default())
            ))
        }
        _ => None,
    }
}

/// A complete response.
pub fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A response as a client got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Headers, in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self {
            status,
            headers,
            body: body.to_owned(),
        })
    }
}

/// GETs `path`. HTTP/1.0, so that no server answers in chunks.
pub fn fetch(address: SocketAddr, path: &str, limit: Duration) -> Result<Reply, Failure> {
    let connected = TcpStream::connect_timeout(&address, limit);
    let mut stream = connected.map_err(|e| Failure::new("connect", &e))?;
    let timed = stream.set_read_timeout(Some(limit));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let sent = timed.and_then(|()| stream.write_all(request.as_bytes()));
    sent.map_err(|e| Failure::new("send", &e))?;
    let mut bytes = Vec::new();
    let received = stream.read_to_end(&mut bytes);
    received.map_err(|e| Failure::new("receive", &e))?;
    let no_http = || io::Error::from(io::ErrorKind::InvalidData);
    Reply::parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| Failure::new("receive", &no_http()))
}

/// GET `path`: the status code and the body.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<(u16, String)> {
    let reply = fetch(address, path, limit).with_context(|| format!("GET {address}{path}"))?;
    Ok((reply.status, reply.body))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (other, _) => {
                bytes.push(if other == b'+' { b' ' } else { other });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_a_status_headers_and_a_body() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nX-Weight: 0\r\n\r\na: b\r\n\r\nc";
        let reply = Reply::parse(text).unwrap();
        assert_eq!((reply.status, reply.header("x-weight")), (503, Some("0")));
        assert_eq!(reply.body, "a: b\r\n\r\nc");
        assert_eq!(reply.header("a"), None);
        assert_eq!(Reply::parse("hello"), None);
        assert_eq!(Reply::parse("SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn paths_become_requests() {
        let request = |line: &str| as_request(&format!("GET {line} HTTP/1.1"));
        assert_eq!(request("/hostname").as_deref(), Some("hostname"));
        assert_eq!(
            request("/echo?msg=a%20b+c%2").as_deref(),
            Some("echo a b c%2")
        );
        assert_eq!(request("/"), None);
    }
}

//! As much HTTP/1.1 as curl and health checks need: GET, one request per connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

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

/// GET `path`: the status code and the body.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading from {address}{path}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP response")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .context("no status")?;
    Ok((status, body.to_owned()))
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

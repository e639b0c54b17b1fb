//! The traffic server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{READY, ServeOptions, http};

/// Serves until SIGTERM or SIGINT, and `delay_shutdown` longer.
pub async fn run(options: ServeOptions) -> Result<()> {
    let name: Arc<str> = options.name.into();
    // Before announcing readiness: a signal that comes at once must be seen.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for address in options.tcp {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("TCP {address}"))?;
        tokio::spawn(accept(listener, Arc::clone(&name)));
    }
    for address in options.udp {
        let socket = UdpSocket::bind(address)
            .await
            .with_context(|| format!("UDP {address}"))?;
        tokio::spawn(answer_datagrams(socket, Arc::clone(&name)));
    }
    say_ready()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sleep(options.delay_shutdown).await;
    Ok(())
}

fn say_ready() -> Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    Ok(stdout.flush()?)
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let name = Arc::clone(&name);
                tokio::spawn(async move {
                    // A client that hangs up is not the server's failure.
                    let _ = converse(stream, peer, &name).await;
                });
            }
            // Out of descriptors, most likely: let some connections end.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, name: &str) -> std::io::Result<()> {
    let local = stream.local_addr()?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut streaming = false;
    while let Some(line) = lines.next_line().await? {
        if streaming {
            writer.write_all(format!("{line}\n").as_bytes()).await?;
            continue;
        }
        if line.starts_with("GET ") {
            while lines
                .next_line()
                .await?
                .is_some_and(|header| !header.is_empty())
            {}
            let body = http::as_request(&line).map(|request| answer(&request, peer, local, name));
            let response = match body {
                Some(body) => http::response("200 OK", &body),
                None => http::response("404 Not Found", "unknown path\n"),
            };
            return writer.write_all(response.as_bytes()).await;
        }
        streaming = line == "stream";
        let reply = if streaming {
            "streaming".into()
        } else {
            answer(&line, peer, local, name)
        };
        writer.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket, name: Arc<str>) {
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let mut buffer = vec![0; 65_535];
    loop {
        // An error here is an ICMP answer to an earlier reply; the next request is unaffected.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let request = String::from_utf8_lossy(&buffer[..length]);
        let reply = answer(request.trim_end(), peer, local, &name);
        let _ = socket.send_to(reply.as_bytes(), peer).await;
    }
}

/// The reply to one request of the protocol.
fn answer(request: &str, peer: SocketAddr, local: SocketAddr, name: &str) -> String {
    match request.split_once(' ') {
        Some(("echo", data)) => data.to_owned(),
        Some(("body", length)) => "x".repeat(length.parse().unwrap_or_default()),
        Some(("length", data)) => data.len().to_string(),
        _ => match request {
            "hostname" => name.to_owned(),
            "clientip" => peer.to_string(),
            "serverport" => local.port().to_string(),
            "serveraddr" => local.to_string(),
            _ => format!("unknown request: {request}"),
        },
    }
}

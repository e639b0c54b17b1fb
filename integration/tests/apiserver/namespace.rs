//! A server behind a socket of another network namespace.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
};

use lb_integration::apiserver::{ApiServer, Listen, Options};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

const ADDRESS: &str = "127.0.0.1:6443";

fn ready() -> Result<String, ErrorKind> {
    let mut stream = TcpStream::connect(ADDRESS).map_err(|error| error.kind())?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Ok(answer)
}

#[test]
fn socket_of_another_network_namespace_survives_an_outage() {
    // The server's thread stays in the namespace the test began in.
    std::thread::spawn(|| {
        let (give, take) = std::sync::mpsc::channel::<TcpListener>();
        let (answer, server) = std::sync::mpsc::channel();
        let outside = std::thread::spawn(move || {
            let Ok(socket) = take.recv() else { return };
            let options = Options {
                listen: Listen::Socket(socket),
                ..Options::default()
            };
            answer
                .send(ApiServer::start_on_thread(options).unwrap())
                .unwrap();
        });
        match unshare(CloneFlags::CLONE_NEWNET) {
            Err(Errno::EPERM) => return eprintln!("skipped: needs CAP_SYS_ADMIN for a namespace"),
            result => result.unwrap(),
        }
        assert!(
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .unwrap()
                .success()
        );
        give.send(TcpListener::bind(ADDRESS).unwrap()).unwrap();
        let server = server.recv().unwrap();
        outside.join().unwrap();
        assert!(ready().unwrap().ends_with("ok"));
        server.begin_outage().unwrap();
        assert_eq!(ready(), Err(ErrorKind::ConnectionRefused));
        server.resume().unwrap();
        assert!(ready().unwrap().ends_with("ok"));
    })
    .join()
    .unwrap();
}

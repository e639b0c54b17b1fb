//! `lb-agent`: a traffic server and client for tests, demos and people at a shell.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use lb_integration::agent::{ServeOptions, dial::Dial, serve, session, socket::Protocol};

/// Traffic server and client.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer requests (hostname, clientip, serverport, serveraddr, echo DATA, stream) over TCP,
    /// UDP, and HTTP on the TCP ports (GET /hostname, /clientip, /echo?msg=TEXT).
    Serve {
        /// The answer to `hostname`.
        #[arg(long)]
        name: String,
        /// TCP address to listen on; may be repeated.
        #[arg(long, value_name = "ADDR:PORT")]
        tcp: Vec<SocketAddr>,
        /// UDP address to answer from; may be repeated.
        #[arg(long, value_name = "ADDR:PORT")]
        udp: Vec<SocketAddr>,
        /// Address for --tcp-port and --udp-port; may be repeated, or a list (`$(POD_IPS)`).
        #[arg(long, value_name = "ADDR", value_delimiter = ',')]
        address: Vec<IpAddr>,
        /// TCP port to listen on at each --address; may be repeated.
        #[arg(long, value_name = "PORT", requires = "address")]
        tcp_port: Vec<u16>,
        /// UDP port to answer from at each --address; may be repeated.
        #[arg(long, value_name = "PORT", requires = "address")]
        udp_port: Vec<u16>,
        /// Seconds to go on serving after SIGTERM.
        #[arg(long, default_value_t = 0.0)]
        delay_shutdown: f64,
    },
    /// Make requests, each over a new socket, and print one JSON line per request.
    Dial(DialArguments),
    /// Hold sockets and do what JSON lines on stdin say; answers are JSON lines on stdout.
    Control,
}

#[derive(clap::Args)]
struct DialArguments {
    protocol: Transport,
    /// Destination address and port (IPv6 in brackets).
    to: SocketAddr,
    /// The request to send.
    #[arg(long, default_value = "hostname")]
    request: String,
    /// How many requests.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Milliseconds between requests.
    #[arg(long, default_value_t = 0)]
    interval: u64,
    /// Milliseconds to wait for the connection and again for the reply.
    #[arg(long, default_value_t = 2000)]
    timeout: u64,
    /// Local address and port (0: any).
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Option<SocketAddr>,
    /// UDP: use sendto and recvfrom instead of connecting the socket.
    #[arg(long)]
    unconnected: bool,
    /// Use an IPv6 socket and the v4-mapped form of an IPv4 destination.
    #[arg(long)]
    v4mapped: bool,
    /// Print one summary instead of a line per request.
    #[arg(long)]
    summary: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Verb::Serve {
            name,
            mut tcp,
            mut udp,
            address,
            tcp_port,
            udp_port,
            delay_shutdown,
        } => {
            tcp.extend(at_each(&address, &tcp_port));
            udp.extend(at_each(&address, &udp_port));
            let delay_shutdown = Duration::try_from_secs_f64(delay_shutdown)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(serve::run(ServeOptions {
                name,
                tcp,
                udp,
                delay_shutdown,
            }))
        }
        Verb::Dial(arguments) => dial(arguments),
        Verb::Control => Ok(session::run(io::stdin().lock(), io::stdout().lock())?),
    }
}

/// Every port at every address.
fn at_each(addresses: &[IpAddr], ports: &[u16]) -> impl Iterator<Item = SocketAddr> {
    addresses.iter().flat_map(|&address| {
        ports
            .iter()
            .map(move |&port| SocketAddr::new(address, port))
    })
}

fn dial(arguments: DialArguments) -> Result<()> {
    let dial = Dial {
        protocol: match arguments.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        },
        to: arguments.to,
        bind: arguments.bind,
        v4mapped: arguments.v4mapped,
        unconnected: arguments.unconnected,
        abort: false,
        request: arguments.request,
        timeout_ms: arguments.timeout,
    };
    let interval = Duration::from_millis(arguments.interval);
    let print = |line: String| {
        use io::Write;
        writeln!(io::stdout(), "{line}")
    };
    if arguments.summary {
        let summary = dial.run_many(arguments.count, interval, None);
        return Ok(print(serde_json::to_string(&summary)?)?);
    }
    for number in 0..arguments.count {
        if number > 0 {
            std::thread::sleep(interval);
        }
        print(serde_json::to_string(&dial.run())?)?;
    }
    Ok(())
}

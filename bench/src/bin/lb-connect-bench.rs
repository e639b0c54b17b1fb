//! connect() and datagrams: straight to a backend, through lb, and through kube-proxy's rules,
//! with clients of each kind taking turns in one run.

use std::net::IpAddr;

use anyhow::{Context, Result};
use aya::sys::{Stats, enable_stats};
use clap::{Parser, Subcommand};
use lb_bench::{
    arena::Arena,
    cluster::{self, PORTS, Size, cluster_ip, endpoint_ip},
    connect::{
        client,
        coordinator::{Client, Path, Place},
        kube_proxy::{self, Mode},
        protocol::{Request, Work},
        rounds::{self, Measured, Series, Turn},
    },
    kernel,
    report::{Format, Report},
};
use lb_controller::reconcile::Reconciler;

/// Measures connections and datagrams through a ClusterIP against direct ones.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Numbers of Services to measure lb with
    #[arg(long, value_delimiter = ',', default_values_t = [10, 10_000, 100_000])]
    services: Vec<usize>,
    /// Numbers of Services to measure kube-proxy's rules with; 0 for none
    #[arg(long, value_delimiter = ',', default_values_t = [10, 10_000])]
    kube_proxy_services: Vec<usize>,
    /// kube-proxy's modes
    #[arg(long, value_enum, value_delimiter = ',',
        default_values_t = [Mode::IptablesLegacy, Mode::Nftables])]
    kube_proxy: Vec<Mode>,
    /// Endpoints of each Service
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Rounds of 50 connections (or datagrams) of each kind
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// CPU of all clients
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// The way to the endpoints: to a pod, or the least that a connection can cost
    #[arg(long, value_enum, default_value_t = Path::Veth)]
    path: Path,
    /// At most 10,000 Services, no large sets of rules, 60 rounds
    #[arg(long)]
    quick: bool,
    /// How figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

impl Cli {
    fn place(&self) -> Place {
        Place {
            cpu: self.cpu,
            path: self.path,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A client, started by the coordinator.
    #[command(hide = true)]
    Client(client::Args),
}

const BATCH: usize = 50;
/// How many ClusterIPs a client uses that does not stay with one.
const MANY: usize = 256;

/// Everyone who takes turns, and what must live as long as they do.
struct Stage {
    clients: Vec<Client>,
    turns: Vec<Turn>,
    endpoints: usize,
    nodes: Vec<Node>,
}

/// A node on which lb runs.
struct Node {
    name: String,
    client: usize,
    services: usize,
    _reconciler: Reconciler,
}

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if let Some(Role::Client(args)) = &cli.role {
        return client::run(args);
    }
    if cli.quick {
        cli.services.retain(|services| *services <= 10_000);
        cli.kube_proxy_services.retain(|services| *services <= 1000);
        cli.rounds = cli.rounds.min(60);
    }
    let arena = Arena::new()?;
    let mut report = Report::new();
    let mut stage = Stage::set(&arena, &cli)?;
    let turns = std::mem::take(&mut stage.turns);
    let (tcp, udp): (Vec<_>, Vec<_>) = turns
        .into_iter()
        .partition(|turn| turn.request.work == Work::Tcp);
    eprintln!("measuring TCP: {} kinds, {} rounds", tcp.len(), cli.rounds);
    let measured = rounds::run(&mut stage.clients, &tcp, cli.rounds)?;
    report_tcp(&mut report, &measured, &cli)?;
    eprintln!("measuring UDP: {} kinds, {} rounds", udp.len(), cli.rounds);
    let measured = rounds::run(&mut stage.clients, &udp, cli.rounds)?;
    report_udp(&mut report, &measured);
    report_programs(&mut report, &arena, &mut stage)?;
    report.print(cli.output)?;
    Ok(())
}

impl Stage {
    fn set(arena: &Arena, cli: &Cli) -> Result<Self> {
        let mut stage = Self {
            clients: Vec::new(),
            turns: Vec::new(),
            endpoints: cli.endpoints,
            nodes: Vec::new(),
        };
        stage.direct(arena, cli)?;
        for &services in &cli.services {
            stage.node(arena, cli, services)?;
        }
        for &mode in &cli.kube_proxy {
            for &services in cli.kube_proxy_services.iter().filter(|n| **n > 0) {
                stage.kube_proxy(arena, cli, mode, services)?;
            }
        }
        Ok(stage)
    }

    /// Addresses of the endpoints of the last of `services` Services.
    fn backends(&self, services: usize) -> Vec<IpAddr> {
        let last = (services - 1) * self.endpoints;
        (last..last + self.endpoints).map(endpoint_ip).collect()
    }

    fn turn(&mut self, name: &str, client: usize, work: Work, to: &[IpAddr], services: usize) {
        let direct = to == self.backends(services);
        let request = Request {
            work,
            times: BATCH,
            to: to.to_vec(),
            port: if direct { PORTS.1 } else { PORTS.0 },
            servers: self.backends(services),
        };
        let name = name.to_owned();
        self.turns.push(Turn {
            name,
            client,
            request,
        });
    }

    /// The base of every ratio: no programs, no rules.
    fn direct(&mut self, arena: &Arena, cli: &Cli) -> Result<()> {
        let client = self.clients.len();
        self.clients
            .push(Client::start(arena, "direct", "plain", &cli.place())?);
        let to = self.backends(10);
        for work in [
            Work::Tcp,
            Work::FirstDatagram,
            Work::UdpConnect,
            Work::Datagrams,
        ] {
            self.turn("direct", client, work, &to, 10);
        }
        // The same once more: what two equal kinds differ by is the error of the rest.
        self.turn("direct again", client, Work::Tcp, &to, 10);
        Ok(())
    }

    fn node(&mut self, arena: &Arena, cli: &Cli, services: usize) -> Result<()> {
        eprintln!("programming {services} Services");
        let name = format!("lb{services}");
        let size = Size {
            services,
            endpoints: self.endpoints,
        };
        let (reconciler, _) = cluster::program(arena, &name, size, true)?;
        let client = self.clients.len();
        self.clients
            .push(Client::start(arena, &name, &name, &cli.place())?);
        let vip = [cluster_ip(services - 1)];
        let through = format!("lb, {services} Services");
        for work in [Work::Tcp, Work::FirstDatagram, Work::Datagrams] {
            self.turn(&through, client, work, &vip, services);
        }
        if services > MANY {
            self.any(client, services);
        }
        let to = self.backends(services);
        let bystander = format!("no VIP, {services} Services");
        for work in [Work::Tcp, Work::UdpConnect, Work::Datagrams] {
            self.turn(&bystander, client, work, &to, services);
        }
        self.nodes.push(Node {
            name,
            client,
            services,
            _reconciler: reconciler,
        });
        Ok(())
    }

    /// A client that uses another Service each time: caches are colder for lb, and for
    /// whom goes to the same pods directly.
    fn any(&mut self, client: usize, services: usize) {
        let chosen: Vec<_> = (0..MANY).map(|_| fastrand::usize(0..services)).collect();
        let vips: Vec<_> = chosen.iter().map(|service| cluster_ip(*service)).collect();
        let name = format!("lb, any of {services} Services");
        self.turn(&name, client, Work::Tcp, &vips, services);
        let endpoints = self.endpoints;
        let pods = chosen
            .iter()
            .map(|service| endpoint_ip(service * endpoints));
        let request = Request {
            work: Work::Tcp,
            times: BATCH,
            to: pods.collect(),
            port: PORTS.1,
            servers: Vec::new(),
        };
        self.turns.push(Turn {
            name: format!("direct, any of {services} Services"),
            client: 0,
            request,
        });
    }

    fn kube_proxy(&mut self, arena: &Arena, cli: &Cli, mode: Mode, services: usize) -> Result<()> {
        let name = mode.name();
        eprintln!("loading {name} rules for {services} Services");
        let client = self.clients.len();
        let netns = format!("kp{}{services}", mode as u8);
        let started = Client::start(arena, &netns, "plain", &cli.place())?;
        let size = Size {
            services,
            endpoints: self.endpoints,
        };
        kube_proxy::load(started.netns(), mode, size)?;
        self.clients.push(started);
        let vip = [cluster_ip(services - 1)];
        let through = format!("{name}, {services} Services");
        self.turn(&through, client, Work::Tcp, &vip, services);
        let to = self.backends(services);
        let bystander = format!("no VIP, {name}, {services} Services");
        self.turn(&bystander, client, Work::Tcp, &to, services);
        Ok(())
    }
}

fn find<'a>(measured: &'a [Measured], name: &str) -> Result<&'a Measured> {
    let found = measured.iter().find(|measured| measured.name == name);
    found.with_context(|| format!("nothing measured as {name:?}"))
}

/// What `one` is compared with: direct connections to the same pods.
fn base_of<'a>(measured: &'a [Measured], one: &Measured, direct: &'a Measured) -> &'a Measured {
    let same = one.name.strip_prefix("lb, any");
    let same = same.and_then(|rest| find(measured, &format!("direct, any{rest}")).ok());
    same.unwrap_or(direct)
}

fn report_tcp(report: &mut Report, measured: &[Measured], cli: &Cli) -> Result<()> {
    let direct = find(measured, "direct")?;
    let others = || measured.iter().filter(|one| one.name != "direct");
    report.section("TCP connect()");
    for one in measured {
        report.note(
            format!("{}: median", one.name),
            one.first.all.median(),
            "ns",
        );
        report.note("  p99", one.first.all.p99(), "ns");
    }
    report.section("TCP connect(), ratio to direct (median of paired rounds; p99 of all)");
    for one in others() {
        let base = base_of(measured, one, direct);
        let median = one.first.ratio(&base.first);
        let p99 = one.first.all.p99() / base.first.all.p99();
        if one.name.starts_with("lb") {
            report.most(format!("{}: median", one.name), median, "×", 1.05);
            report.most("  p99", p99, "×", 1.10);
        } else {
            report.note(format!("{}: median", one.name), median, "×");
            report.note("  p99", p99, "×");
        }
    }
    let lb = |services: &usize| find(measured, &format!("lb, {services} Services"));
    if let (Some(few), Some(many)) = (cli.services.iter().min(), cli.services.iter().max()) {
        let ratio = lb(many)?.first.ratio(&lb(few)?.first);
        report.most(format!("{many} to {few} Services"), ratio, "×", 1.10);
    }
    report.section("new connections/s on one CPU: socket, connect, accept, close");
    report.note("direct", 1e9 / direct.whole.all.median(), "/s");
    for one in others() {
        let base = base_of(measured, one, direct);
        let rate = one.whole.ratio(&base.whole).recip();
        let what = format!("{}, ratio to direct", one.name);
        if one.name.starts_with("lb") {
            report.least(what, rate, "×", 0.97);
        } else {
            report.note(what, rate, "×");
        }
    }
    Ok(())
}

/// Most nanoseconds that lb may add.
struct Added {
    /// Through a VIP.
    vip: f64,
    /// To a socket that has nothing to do with VIPs.
    bystander: f64,
}

fn report_udp(report: &mut Report, measured: &[Measured]) {
    let kinds = [
        (
            Work::FirstDatagram,
            "UDP, connected socket: connect() and first send()",
            Added {
                vip: 400.0,
                bystander: 80.0,
            },
        ),
        (
            Work::Datagrams,
            "UDP, unconnected socket",
            Added {
                vip: 300.0,
                bystander: 30.0,
            },
        ),
        (
            Work::UdpConnect,
            "UDP, socket that never uses a VIP: connect()",
            Added {
                vip: 50.0,
                bystander: 50.0,
            },
        ),
    ];
    for (work, title, budget) in kinds {
        let these: Vec<_> = measured.iter().filter(|one| one.work == work).collect();
        let has_second = work == Work::Datagrams;
        let suffix = if has_second { ": sendto()" } else { "" };
        let first = these.iter().map(|one| (*one, &one.first));
        added(report, &format!("{title}{suffix}"), first, &budget);
        if has_second {
            let second = these
                .iter()
                .filter_map(|one| Some((*one, one.second.as_ref()?)));
            added(report, &format!("{title}: recvfrom()"), second, &budget);
        }
    }
}

fn added<'a>(
    report: &mut Report,
    title: &str,
    mut all: impl Iterator<Item = (&'a Measured, &'a Series)>,
    budget: &Added,
) {
    let Some((_, direct)) = all.next() else {
        return;
    };
    report.section(title);
    report.note("direct: median", direct.all.median(), "ns");
    for (one, series) in all {
        let most = if one.name.starts_with("lb") {
            budget.vip
        } else {
            budget.bystander
        };
        let what = format!("{}: added", one.name);
        report.most(what, series.added(direct), "ns", most);
    }
}

/// The kernel's own statistics: time inside each program, without getting there.
fn report_programs(report: &mut Report, arena: &Arena, stage: &mut Stage) -> Result<()> {
    let Some(node) = stage.nodes.iter().max_by_key(|node| node.services) else {
        return Ok(());
    };
    let pins = arena.pins(&node.name);
    let (vip, servers) = (cluster_ip(node.services - 1), stage.backends(node.services));
    // Statistics end with this descriptor.
    let _enabled = enable_stats(Stats::RunTime)?;
    for (work, to) in [
        (Work::Tcp, vec![vip]),
        (Work::Tcp, servers.clone()),
        (Work::FirstDatagram, vec![vip]),
        (Work::Datagrams, vec![vip]),
        (Work::Datagrams, servers.clone()),
    ] {
        let direct = to == servers;
        let request = Request {
            work,
            times: BATCH,
            port: if direct { PORTS.1 } else { PORTS.0 },
            to,
            servers: servers.clone(),
        };
        let before = kernel::run_times(&pins)?;
        for _ in 0..100 {
            stage.clients[node.client].ask(&request)?;
        }
        let whom = if direct { "a backend" } else { "a VIP" };
        report.section(format!(
            "time inside programs, {work:?} to {whom}, {} Services",
            node.services
        ));
        for program in kernel::run_times(&pins)? {
            let program = program.since(&before);
            if program.runs > 0 {
                let mean = program.nanos as f64 / program.runs as f64;
                report.note(
                    format!("{}: mean of {}", program.name, program.runs),
                    mean,
                    "ns",
                );
            }
        }
    }
    Ok(())
}

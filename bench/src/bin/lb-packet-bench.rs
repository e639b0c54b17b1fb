//! Nanoseconds that the XDP program takes for a packet, beside floors in the same run.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lb_bench::{
    packets::{Replay, Run, cases},
    report::{Format, Report},
    stats::Samples,
};
use lb_integration::packets::{
    kernel::{Kernel, stage::Stage},
    topology::Family,
    world::World,
};

/// Measures packets in the XDP program by `BPF_PROG_TEST_RUN`.
#[derive(Debug, Parser)]
struct Cli {
    /// Rounds in which every kind of packet has its turn
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Packets of a turn
    #[arg(long, default_value_t = 10_000)]
    packets: u32,
    /// A fifth of the rounds
    #[arg(long)]
    quick: bool,
    /// The directory with lb.o and lb-floors.o [default: bpf beside this program's directory]
    #[arg(long, value_name = "DIR")]
    objects: Option<PathBuf>,
    /// How figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

const FLOORS: [(&str, &str); 4] = [
    ("floor_return", "return"),
    ("floor_tx", "parse, checksum, send back"),
    ("floor_short_key", "the same and a lookup with 16 bytes"),
    ("floor_long_key", "the same and a lookup with 40 bytes"),
];

/// Everything that is measured: floors first, then cases, in the order of [`FLOORS`] and `cases`.
struct Bench<'a> {
    kernel: &'a mut Kernel,
    replay: Replay,
    cases: Vec<cases::Case>,
    packets: u32,
}

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if cli.quick {
        cli.rounds = cli.rounds.div_ceil(5);
    }
    let objects = match &cli.objects {
        Some(directory) => directory.clone(),
        None => beside_this_program()?,
    };
    let (datapath, floors) = (
        read(&objects.join("lb.o"))?,
        read(&objects.join("lb-floors.o"))?,
    );
    let cases: Vec<_> = Family::ALL.into_iter().flat_map(cases::all).collect();
    let mut report = Report::new();
    let (names, measured, bare) = Stage::new()?.run(&datapath, |kernel| {
        let plain = cases::plain(Family::V4).bytes();
        let mut bench = Bench {
            kernel,
            replay: Replay::load(&floors, &plain)?,
            cases,
            packets: cli.packets,
        };
        let bare = bench.bare(cli.rounds)?;
        let measured = bench.rounds(cli.rounds)?;
        Ok((bench.cases, measured, bare))
    })?;
    show(&mut report, &names, &measured, bare);
    report.print(cli.output)?;
    Ok(())
}

impl Bench<'_> {
    /// Nanoseconds of each kind (columns), round by round, with replaying.
    fn rounds(&mut self, rounds: usize) -> Result<Vec<Vec<f64>>> {
        let kinds = FLOORS.len() + self.cases.len();
        let mut order: Vec<usize> = (0..kinds).collect();
        let mut measured = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            fastrand::shuffle(&mut order);
            let mut round = vec![0.0; kinds];
            for &kind in &order {
                round[kind] = match kind.checked_sub(FLOORS.len()) {
                    None => self.floor(FLOORS[kind].0)?,
                    Some(case) => self.case(case)?,
                };
            }
            measured.push(round);
        }
        Ok(measured)
    }

    fn floor(&mut self, name: &str) -> Result<f64> {
        let frame = cases::plain(Family::V4).bytes();
        self.replay.aim_at_floor(name)?;
        let run = self
            .replay
            .run(&frame, cases::PORT.ifindex(), None, self.packets)?;
        let changed = run.frame != frame;
        ensure!(
            changed == (name != "floor_return"),
            "{name} does not do its work"
        );
        Ok(run.nanos)
    }

    fn case(&mut self, index: usize) -> Result<f64> {
        let case = &self.cases[index];
        self.kernel.install(&case.world)?;
        self.replay.aim(self.kernel.xdp()?.fd()?)?;
        let ifindex = cases::PORT.ifindex();
        let run = self
            .replay
            .run(&case.frame, ifindex, case.vary, self.packets)?;
        let to = destination(&run).context("a frame without IP")?;
        ensure!(
            run.verdict == case.verdict && to == case.to,
            "{}: return code {}, to {to}",
            case.name,
            run.verdict
        );
        let mut world = World::node();
        self.kernel.read_back(&mut world)?;
        let opened = world.service_stats.get(&1).map_or(0, |counts| counts[0]);
        let expected = case.vary.map_or(0, |_| u64::from(self.packets));
        ensure!(opened == expected, "{}: {opened} flows opened", case.name);
        Ok(run.nanos)
    }

    /// The shortest program without replaying: what a test run itself takes.
    fn bare(&mut self, rounds: usize) -> Result<f64> {
        let frame = cases::plain(Family::V4).bytes();
        let run = |_| self.replay.alone("floor_return", &frame, self.packets);
        let nanos: Result<Vec<f64>> = (0..rounds).map(run).collect();
        Ok(Samples::new(nanos?).median())
    }
}

/// Where a frame goes after the program.
fn destination(run: &Run) -> Option<IpAddr> {
    if run.frame.get(12..14)? == [0x08, 0x00] {
        let address: [u8; 4] = run.frame.get(30..34)?.try_into().ok()?;
        return Some(address.into());
    }
    let address: [u8; 16] = run.frame.get(38..54)?.try_into().ok()?;
    Some(address.into())
}

/// Medians over rounds of what a kind takes more than returning, on top of what that takes.
fn show(report: &mut Report, cases: &[cases::Case], rounds: &[Vec<f64>], bare: f64) {
    let net = |kind: usize| {
        let more = rounds.iter().map(|round| round[kind] - round[0]);
        more.collect::<Samples>().median() + bare
    };
    report.section("floors");
    for (kind, (_, name)) in FLOORS.into_iter().enumerate() {
        report.note(name, net(kind), "ns");
    }
    let replaying = rounds.iter().map(|round| round[0]).collect::<Samples>();
    report.note(
        "replaying (not in any figure)",
        replaying.median() - bare,
        "ns",
    );
    let floor = net(1);
    for (title, ratios) in [("XDP", false), ("XDP, ratio to the second floor", true)] {
        report.section(title);
        for (index, case) in cases.iter().enumerate() {
            let nanos = net(FLOORS.len() + index);
            match (ratios, case.most) {
                (false, _) => report.note(&case.name, nanos, "ns"),
                (true, Some(most)) => report.most(&case.name, nanos / floor, "×", most),
                (true, None) => report.note(&case.name, nanos / floor, "×"),
            }
        }
    }
}

/// TARGET/bpf of a program in TARGET/PROFILE.
fn beside_this_program() -> Result<PathBuf> {
    let program = env::current_exe().context("finding this executable")?;
    let target = program.ancestors().nth(2).context("no target directory")?;
    Ok(target.join("bpf"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let built = "`cargo xtask bench packets` builds it";
    fs::read(path).with_context(|| format!("{}: {built}", path.display()))
}

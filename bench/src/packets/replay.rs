//! The program of `lb-ebpf/src/bin/floors` that repeats a packet, and the floors beside it.

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};

/// Words of a packet that are put back.
const WORDS: usize = 32;

/// The words, the offset of the source port that changes (0: none does), packets so far.
type Template = [u32; WORDS + 2];

/// Keys of the floors' maps: an address, a flow.
type Short = [u32; 4];
type Long = [u32; 10];

/// Entries beside the one that is looked up.
const OTHERS: u32 = 1000;

/// The floors, and the program that calls them or others.
pub struct Replay {
    ebpf: Ebpf,
    template: Array<MapData, Template>,
    target: ProgramArray<MapData>,
    /// Programs find their entries here.
    _short: HashMap<MapData, Short, u64>,
    _long: HashMap<MapData, Long, u64>,
}

/// What came of many packets.
#[derive(Clone, Debug)]
pub struct Run {
    /// The return code for the last one.
    pub verdict: u32,
    /// The last one as the program left it.
    pub frame: Vec<u8>,
    /// Time for one of them, a whole number: the kernel's own measure, without preparations.
    pub nanos: f64,
}

impl Replay {
    /// Loads the floors, which know the flow of `frame`, a TCP packet over IPv4.
    pub fn load(object: &[u8], frame: &[u8]) -> Result<Self> {
        let mut ebpf = Ebpf::load(object).context("loading the floors")?;
        for (_, program) in ebpf.programs_mut() {
            TryInto::<&mut Xdp>::try_into(program)?.load()?;
        }
        let mut take = |name: &str| {
            let map = ebpf.take_map(name);
            map.with_context(|| format!("the floors have no map {name}"))
        };
        let template = take("TEMPLATE")?.try_into()?;
        let target = take("TARGET")?.try_into()?;
        let mut short: HashMap<_, Short, u64> = take("SHORT")?.try_into()?;
        let mut long: HashMap<_, Long, u64> = take("LONG")?.try_into()?;
        let word = |at: usize| word(frame, at).context("a packet without addresses");
        let (source, destination, ports) = (word(26)?, word(30)?, word(34)?);
        let mapped = 0xffff_0000;
        for other in 0..=OTHERS {
            let destination = destination.wrapping_add(other);
            short.insert([0, 0, mapped, destination], 1, 0)?;
            let flow = [0, 0, mapped, source, 0, 0, mapped, destination, ports, 6];
            long.insert(flow, 1, 0)?;
        }
        Ok(Self {
            ebpf,
            template,
            target,
            _short: short,
            _long: long,
        })
    }

    /// A program of the floors.
    fn floor(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name);
        let program = program.with_context(|| format!("the floors have no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// Makes this the program under test.
    pub fn aim(&mut self, program: &ProgramFd) -> Result<()> {
        Ok(self.target.set(0, program, 0)?)
    }

    /// The same for a floor.
    pub fn aim_at_floor(&mut self, name: &str) -> Result<()> {
        let program: &Xdp = self
            .ebpf
            .program(name)
            .with_context(|| format!("the floors have no program {name}"))?
            .try_into()?;
        Ok(self.target.set(0, program.fd()?, 0)?)
    }

    /// Sends `frame` through the program under test, `times` times, as it comes in at a device.
    /// `vary` is where a source port stands that is to be another one each time.
    pub fn run(
        &mut self,
        frame: &[u8],
        ifindex: u32,
        vary: Option<u32>,
        times: u32,
    ) -> Result<Run> {
        let mut template: Template = [0; WORDS + 2];
        for (index, place) in template.iter_mut().take(WORDS).enumerate() {
            *place = word(frame, index * 4).context("a packet that is too short to be repeated")?;
        }
        template[WORDS] = vary.unwrap_or(0);
        self.template.set(0, template, 0)?;
        // `struct xdp_md`: the frame's end, and the device that it came in at.
        let context: Vec<u8> = [0, frame.len() as u32, 0, ifindex, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        test_run(self.floor("replay")?, frame, Some(&context), times)
    }

    /// Nanoseconds of a floor that leaves packets as they are, without replaying.
    pub fn alone(&self, name: &str, frame: &[u8], times: u32) -> Result<f64> {
        Ok(test_run(self.floor(name)?, frame, None, times)?.nanos)
    }
}

fn test_run(program: &Xdp, frame: &[u8], context: Option<&[u8]>, times: u32) -> Result<Run> {
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: context,
        repeat: times,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options)?;
    let len = result.data_size_out as usize;
    ensure!(len <= out.len(), "a packet of {len} bytes came out");
    out.truncate(len);
    Ok(Run {
        verdict: result.return_value,
        frame: out,
        nanos: result.duration.as_nanos() as f64,
    })
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

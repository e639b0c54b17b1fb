//! `lb-load`: loads the programs of a BPF object one by one and says what this kernel's verifier
//! makes of each: a line `NAME loaded|refused SECONDS INSTRUCTIONS` and, if refused, its words.
//!
//! With names as arguments, only these. Exit code 1 if any is refused.

use std::{env, fs, process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use aya::{
    EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramError},
};
use lb_controller::{kernel::Features, loader::fit};

/// Lines of the verifier's log that are shown: its end says why.
const TAIL: usize = 10;

fn main() -> Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let object = arguments.next().context("usage: lb-load OBJECT [NAME…]")?;
    let object = fs::read(&object).with_context(|| format!("reading {object}"))?;
    let only: Vec<String> = arguments.collect();
    let mut loader = EbpfLoader::new();
    // Without a log of the way to a refusal: that takes minutes where a program is too complex.
    loader.verifier_log_level(VerifierLogLevel::STATS);
    let object = fit(&mut loader, &object, Features::probe());
    let mut ebpf = loader.load(&object).context("the object")?;
    let mut names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort_unstable();
    let mut refused = 0;
    for name in names {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let program = ebpf
            .program_mut(&name)
            .context("a program that is listed")?;
        let start = Instant::now();
        let result = load(program);
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                let verified = program.info()?.verified_instruction_count();
                println!("{name} loaded {seconds:.1} {}", verified.unwrap_or(0));
            }
            Err(error) => {
                refused += 1;
                println!("{name} refused {seconds:.1} 0");
                let words = format!("{:#}", anyhow::Error::new(error));
                let lines: Vec<_> = words.lines().collect();
                for line in &lines[lines.len().saturating_sub(TAIL)..] {
                    println!("  {line}");
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(refused > 0)))
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        Program::Iter(program) => {
            let kernel = aya::Btf::from_sys_fs().expect("BTF of the kernel");
            program.load("bpf_sk_storage_map", &kernel)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

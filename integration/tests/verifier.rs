//! What the programs cost the verifier and the kernel, against a checked-in budget.
//!
//! `lb-ebpf/verifier-budget.txt` has a line for each program. Run this test with
//! `LB_BLESS_VERIFIER=1` to record the present figures. Instruction counts depend on the
//! kernel, so they are compared on the recorded kernel only; the stack is always.

#[path = "support/object.rs"]
mod object;

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use aya::{Btf, Ebpf, EbpfLoader, programs::Program};
use aya_obj::{Object, generated::bpf_insn};

/// The kernel's limit (`MAX_BPF_STACK`).
const MAX_STACK: u32 = 512;
/// R10: the frame pointer.
const FRAME: u8 = 10;

/// What one program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    /// Instructions that the verifier walked.
    verified: u32,
    /// Bytes of the translated program.
    translated: u32,
    /// Bytes of stack.
    stack: u32,
}

fn budget_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-ebpf/verifier-budget.txt")
}

/// `MAJOR.MINOR` of the running kernel.
fn kernel() -> String {
    let release = nix::sys::utsname::uname().expect("uname");
    let release = release.release().to_string_lossy().into_owned();
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Loads every program, on maps of their own that go with `Ebpf`.
fn load(bytes: &[u8]) -> Ebpf {
    let mut ebpf = EbpfLoader::new().load(bytes).expect("the object loads");
    let kernel = Btf::from_sys_fs().expect("the kernel has BTF");
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            Program::Iter(program) => program.load("bpf_sk_storage_map", &kernel),
            _ => panic!("{name} is of an unknown type"),
        };
        loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    ebpf
}

/// Deepest byte below the frame pointer that the instructions name: directly, or through
/// a copy of the frame pointer and the constant that is added to it next.
fn stack_of(instructions: &[bpf_insn]) -> u32 {
    const ADD64_IMM: u8 = 0x07;
    const MOV64_REG: u8 = 0xbf;
    let is_load = |code: u8| code & 0x07 == 0x01;
    let is_store = |code: u8| matches!(code & 0x07, 0x02 | 0x03);
    let mut deepest = 0i32;
    let mut copy = None;
    for insn in instructions {
        let accesses_frame = is_load(insn.code) && insn.src_reg() == FRAME
            || is_store(insn.code) && insn.dst_reg() == FRAME;
        if accesses_frame {
            deepest = deepest.min(i32::from(insn.off));
        }
        if insn.code == ADD64_IMM && copy == Some(insn.dst_reg()) {
            deepest = deepest.min(insn.imm);
        }
        copy = (insn.code == MOV64_REG && insn.src_reg() == FRAME).then(|| insn.dst_reg());
    }
    deepest.unsigned_abs()
}

fn stacks(object: &Object) -> BTreeMap<String, u32> {
    let of = |function: &aya_obj::Function| stack_of(&function.instructions);
    let entries: Vec<_> = object
        .programs
        .iter()
        .map(|(name, program)| (name.clone(), (program.section_index, program.address)))
        .collect();
    // What is not inlined is called from programs: their stacks add up. The deepest one
    // stands for all; how they nest is the verifier's to judge.
    let called = object
        .functions
        .iter()
        .filter(|(key, _)| !entries.iter().any(|(_, entry)| entry == *key))
        .map(|(_, function)| of(function))
        .max()
        .unwrap_or(0);
    let depth = |key| {
        object.functions.get(key).map_or(0, |function| {
            of(function)
                + if calls(&function.instructions) {
                    called
                } else {
                    0
                }
        })
    };
    entries
        .iter()
        .map(|(name, key)| (name.clone(), depth(key)))
        .collect()
}

/// Whether a function calls another one of the object.
fn calls(instructions: &[bpf_insn]) -> bool {
    const CALL: u8 = 0x85;
    const PSEUDO_CALL: u8 = 1;
    instructions
        .iter()
        .any(|insn| insn.code == CALL && insn.src_reg() == PSEUDO_CALL)
}

fn costs() -> BTreeMap<String, Cost> {
    let bytes = object::bytes();
    let stacks = stacks(&object::parse(&bytes));
    let ebpf = load(&bytes);
    let cost = |(name, program): (&str, &Program)| {
        let info = program.info().expect("information on a loaded program");
        let cost = Cost {
            verified: info.verified_instruction_count().expect("Linux 5.16"),
            translated: info.size_translated().expect("a privileged reader"),
            stack: stacks.get(name).copied().expect("a function"),
        };
        (name.to_owned(), cost)
    };
    ebpf.programs().map(cost).collect()
}

/// The recorded kernel and costs.
fn read_budget(text: &str) -> (String, BTreeMap<String, Cost>) {
    let mut kernel = String::new();
    let mut costs = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            ["kernel", version] => version.clone_into(&mut kernel),
            [name, verified, translated, stack] => {
                let number = |text: &str| text.parse().expect("a number");
                let cost = Cost {
                    verified: number(verified),
                    translated: number(translated),
                    stack: number(stack),
                };
                costs.insert(name.to_owned(), cost);
            }
            _ => panic!("not understood: {line}"),
        }
    }
    (kernel, costs)
}

fn write_budget(costs: &BTreeMap<String, Cost>) -> String {
    let mut text = format!(
        "# program, instructions verified, bytes translated, bytes of stack\nkernel {}\n",
        kernel()
    );
    for (name, cost) in costs {
        let Cost {
            verified,
            translated,
            stack,
        } = cost;
        let _ = writeln!(text, "{name:<16} {verified:>6} {translated:>6} {stack:>4}");
    }
    text
}

/// A tenth above the budget is tolerated.
fn exceeds(present: u32, budget: u32) -> bool {
    present > budget + budget / 10
}

#[test]
fn programs_stay_within_their_budget() {
    let present = costs();
    if env::var_os("LB_BLESS_VERIFIER").is_some() {
        fs::write(budget_path(), write_budget(&present)).expect("the budget is writable");
    }
    let recorded = fs::read_to_string(budget_path()).expect("a budget is checked in");
    let (recorded_kernel, budget) = read_budget(&recorded);
    let names = |costs: &BTreeMap<String, Cost>| costs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&present), names(&budget), "programs and budget");
    let same_kernel = recorded_kernel == kernel();
    if !same_kernel {
        println!(
            "budget is of kernel {recorded_kernel}, this is {}:",
            kernel()
        );
        print!("{}", write_budget(&present));
    }
    for (name, cost) in present {
        let limit = budget[&name];
        assert!(cost.stack <= MAX_STACK, "{name}: {cost:?}");
        assert!(
            !exceeds(cost.stack, limit.stack),
            "{name} uses more stack: {cost:?}, budget {limit:?}"
        );
        let grown =
            exceeds(cost.verified, limit.verified) || exceeds(cost.translated, limit.translated);
        assert!(
            !(same_kernel && grown),
            "{name} costs more: {cost:?}, budget {limit:?}"
        );
    }
}

#[test]
fn growth_beyond_a_tenth_is_noticed() {
    assert!(!exceeds(110, 100));
    assert!(exceeds(111, 100));
    let cost = Cost {
        verified: 1,
        translated: 2,
        stack: 3,
    };
    let costs = BTreeMap::from([("lb_x".to_owned(), cost)]);
    assert_eq!(read_budget(&write_budget(&costs)), (kernel(), costs));
}

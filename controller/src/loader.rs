//! Programs: load them on the maps of an epoch, attach them, replace them.

mod device_links;
mod packet;

use std::{
    borrow::Cow,
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, MapError},
    pin::PinError,
    programs::{
        CgroupAttachMode, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};
use lb_ebpf::abi::{MAX_ZONES, map};

use crate::{
    conntrack::FlowSizes, devices::PACKET_PROGRAMS, kernel::Features, pins::Pins, plan::Capacity,
    sys,
};

pub use self::{
    device_links::{DeviceError, DeviceLinks},
    packet::detach_all,
};

/// The object, as `build.rs` found it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb.o"));

/// The object, for programs that are loaded apart from the hooks; `None` if this binary
/// was built without one.
pub(crate) fn object() -> Option<&'static [u8]> {
    (!OBJECT.is_empty()).then_some(OBJECT)
}

/// The programs at the cgroup, in the order in which they are attached: those that
/// translate come last, so that nothing is translated that would not be translated back.
pub const PROGRAMS: [&str; 9] = [
    "lb_release",
    "lb_getpeername4",
    "lb_getpeername6",
    "lb_recvmsg4",
    "lb_recvmsg6",
    "lb_sendmsg4",
    "lb_sendmsg6",
    "lb_connect4",
    "lb_connect6",
];

/// Why the programs cannot be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary was built without its BPF object.
    #[error("this binary was built without its BPF object: build it with `cargo xtask build`")]
    NoObject,
    /// The kernel refuses the object or a map.
    #[error("the kernel refuses the BPF object: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refuses a program.
    #[error("the kernel refuses the program {program}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why, with the verifier's log.
        source: ProgramError,
    },
    /// The object lacks a program.
    #[error("the BPF object has no program {0}")]
    Missing(&'static str),
    /// A link cannot be made or replaced.
    #[error("cannot attach {program}: {source}")]
    Attach {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something cannot be pinned.
    #[error("cannot pin {what}: {source}")]
    Pin {
        /// What.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What to create maps with; maps that are pinned already keep their sizes.
#[derive(Clone, Copy, Debug)]
pub struct MapSizes {
    /// Capacities that follow the number of Services and endpoints.
    pub capacity: Capacity,
    /// Entries of `AFFINITY`.
    pub affinity: u32,
    /// Entries of the maps of flows.
    pub flows: FlowSizes,
}

/// The loaded programs.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    features: Features,
}

impl Programs {
    /// Loads the object on the maps pinned in `epoch_dir`; creates and pins those that
    /// are missing there.
    pub fn load(epoch_dir: &Path, sizes: &MapSizes, features: Features) -> Result<Self, LoadError> {
        let object = object().ok_or(LoadError::NoObject)?;
        fs::create_dir_all(epoch_dir).map_err(|source| LoadError::Pin {
            what: epoch_dir.display().to_string(),
            source: source.into(),
        })?;
        let Capacity {
            services,
            frontends,
            backends,
            maglev,
        } = sizes.capacity;
        let mut object_loader = EbpfLoader::new();
        object_loader
            .map_max_entries(map::SERVICES, frontends)
            .map_max_entries(map::VIPS, frontends)
            .map_max_entries(map::MAGLEV, maglev.div_ceil(2))
            .map_max_entries(map::BACKENDS, backends)
            .map_max_entries(map::BACKEND_STATS, backends)
            .map_max_entries(map::SERVICE_STATS, services)
            .map_max_entries(map::SERVICE_INFO, services)
            .map_max_entries(map::ZONES, u32::from(MAX_ZONES))
            .map_max_entries(map::AFFINITY, sizes.affinity)
            .map_max_entries(map::CONNTRACK, sizes.flows.conntrack)
            .map_max_entries(map::HALF_OPEN, sizes.flows.half_open)
            .map_max_entries(map::FRAGMENTS, sizes.flows.fragments);
        for name in map::ALL {
            object_loader.map_pin_path(name, epoch_dir.join(name));
        }
        let object = fit(&mut object_loader, object, features);
        let mut ebpf = object_loader.load(&object)?;
        for name in PROGRAMS.into_iter().chain(PACKET_PROGRAMS) {
            let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
            let loaded = match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::CgroupSock(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                _ => return Err(LoadError::Missing(name)),
            };
            loaded.map_err(|source| LoadError::Program {
                program: name,
                source,
            })?;
        }
        Ok(Self { ebpf, features })
    }

    /// Puts every socket program into force at `cgroup`: links that are pinned are updated in
    /// place, so that there is no instant without a program; missing ones, and those
    /// at another cgroup, are made and pinned. Returns how many were made.
    pub fn attach(&mut self, pins: &Pins, cgroup: &Cgroup) -> Result<usize, LoadError> {
        let mut made = 0;
        for name in PROGRAMS {
            let path = pins.link(name);
            if self.update(name, &path, cgroup)? {
                continue;
            }
            let attach = |source| LoadError::Attach {
                program: name,
                source,
            };
            let link = self.link(name, cgroup)?;
            fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(attach)?;
            link.pin(&path).map_err(|source: PinError| LoadError::Pin {
                what: path.display().to_string(),
                source: source.into(),
            })?;
            made += 1;
        }
        Ok(made)
    }

    /// Pins the maps again whose pins are not in `epoch_dir` any more; returns how many.
    pub fn repin(&self, epoch_dir: &Path) -> Result<usize, LoadError> {
        let mut made = 0;
        for name in map::ALL {
            let path = epoch_dir.join(name);
            let Some(map) = self.ebpf.map(name).filter(|_| !path.exists()) else {
                continue;
            };
            let failed = |source| LoadError::Pin {
                what: path.display().to_string(),
                source,
            };
            fs::create_dir_all(epoch_dir).map_err(|error| failed(error.into()))?;
            map.pin(&path).map_err(|error| failed(error.into()))?;
            made += 1;
        }
        Ok(made)
    }

    /// Updates a pinned link; `false` if there is none at this cgroup.
    fn update(&self, name: &'static str, path: &Path, cgroup: &Cgroup) -> Result<bool, LoadError> {
        let attach = |source| LoadError::Attach {
            program: name,
            source,
        };
        let link = match sys::object_get(path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(attach(error)),
        };
        if sys::cgroup_link(&link).map_err(attach)?.cgroup_id != cgroup.id {
            fs::remove_file(path).map_err(attach)?;
            return Ok(false);
        }
        let program = self.ebpf.program(name).ok_or(LoadError::Missing(name))?;
        let program = program.fd().map_err(|source| LoadError::Program {
            program: name,
            source,
        })?;
        sys::link_update(&link, program.as_fd()).map_err(attach)?;
        Ok(true)
    }

    fn link(&mut self, name: &'static str, cgroup: &Cgroup) -> Result<FdLink, LoadError> {
        let failed = |source| LoadError::Program {
            program: name,
            source,
        };
        let no_link = |source: LinkError| LoadError::Attach {
            program: name,
            source: io::Error::other(source.to_string()),
        };
        // Two types with the same methods and no common trait.
        macro_rules! attached {
            ($program:expr) => {{
                let id = $program
                    .attach(&cgroup.dir, CgroupAttachMode::Single)
                    .map_err(failed)?;
                let link = $program.take_link(id).map_err(failed)?;
                link.try_into().map_err(no_link)
            }};
        }
        let program = self.ebpf.program_mut(name);
        match program.ok_or(LoadError::Missing(name))? {
            Program::CgroupSockAddr(program) => attached!(program),
            Program::CgroupSock(program) => attached!(program),
            _ => Err(LoadError::Missing(name)),
        }
    }
}

/// The object as a kernel with these features takes it. Its switches, constants to the verifier, are
/// set in the loader that is to load it.
pub fn fit<'o>(loader: &mut EbpfLoader<'_>, object: &'o [u8], features: Features) -> Cow<'o, [u8]> {
    const SWITCH: [&u32; 2] = [&0, &1];
    for (name, has) in [
        ("HAS_SET_RETVAL", features.set_retval),
        ("HAS_COARSE_CLOCK", features.coarse_clock),
        ("HAS_ATOMIC_OR", features.atomic_or),
    ] {
        loader.override_global(name, SWITCH[usize::from(has)], true);
    }
    let mut object = Cow::Borrowed(object);
    if !features.atomic_or {
        object = without_atomic_or(&object).into();
    }
    if !features.xdp_frags {
        object = single_buffer(&object).into();
    }
    object
}

/// The object with its XDP program declared for packets of a single buffer: the section's
/// name says so.
fn single_buffer(object: &[u8]) -> Vec<u8> {
    const FRAGS: &[u8] = b"xdp.frags\0";
    let mut object = object.to_vec();
    let names = object.windows(FRAGS.len());
    let found: Vec<_> = (0..)
        .zip(names)
        .filter(|(_, name)| *name == FRAGS)
        .collect();
    let starts: Vec<usize> = found.into_iter().map(|(at, _)| at).collect();
    for at in starts {
        object[at + "xdp".len()..at + FRAGS.len()].fill(0);
    }
    object
}

/// The object with a plain addition in place of each bitwise atomic. Kernels before 5.12 refuse
/// these even where they are never reached, which is where `HAS_ATOMIC_OR` leaves them.
fn without_atomic_or(object: &[u8]) -> Vec<u8> {
    /// `BPF_STX | BPF_ATOMIC | BPF_DW`; the immediate says which.
    const ATOMIC: u8 = 0xdb;
    const OR: [u8; 4] = [0x40, 0, 0, 0];
    let mut object = object.to_vec();
    // Sections of instructions are aligned to their size.
    for instruction in object.chunks_exact_mut(8) {
        if instruction[0] == ATOMIC && instruction[4..] == OR {
            instruction[4..].fill(0);
        }
    }
    object
}

/// Pins maps of one epoch in another: both then share them.
pub fn share(from: &Path, to: &Path, names: &[&str]) -> Result<(), LoadError> {
    let failed = |path: PathBuf, source: Box<dyn std::error::Error + Send + Sync>| LoadError::Pin {
        what: path.display().to_string(),
        source,
    };
    fs::create_dir_all(to).map_err(|e| failed(to.into(), e.into()))?;
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        let data =
            MapData::from_pin(&source).map_err(|error: MapError| failed(source, error.into()))?;
        data.pin(&target)
            .map_err(|error| failed(target, error.into()))?;
    }
    Ok(())
}

/// The cgroup at whose sockets the programs act.
#[derive(Debug)]
pub struct Cgroup {
    dir: File,
    id: u64,
}

impl Cgroup {
    /// Opens the directory of a cgroup v2.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let dir = File::open(path)?;
        let id = dir.metadata()?.ino();
        Ok(Self { dir, id })
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::{Object, ProgramSection};

    use super::*;

    #[test]
    fn bitwise_atomics_can_be_replaced() {
        let Some(object) = object() else {
            println!("skipped: built without the BPF object");
            return;
        };
        let bitwise = |object: &[u8]| {
            let object = Object::parse(object).unwrap();
            let functions = object.functions.values();
            let instructions = functions.flat_map(|function| &function.instructions);
            instructions
                .filter(|instruction| instruction.code == 0xdb && instruction.imm != 0)
                .count()
        };
        assert_ne!(bitwise(object), 0);
        let replaced = without_atomic_or(object);
        assert_eq!(bitwise(&replaced), 0);
        let changed = object.iter().zip(&replaced).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), bitwise(object), "nothing else changes");
    }

    #[test]
    fn xdp_program_can_be_declared_for_packets_of_one_buffer() {
        let Some(object) = object() else {
            println!("skipped: built without the BPF object");
            return;
        };
        let frags = |object: &[u8]| {
            let object = Object::parse(object).unwrap();
            match object.programs["lb_xdp"].section {
                ProgramSection::Xdp { frags, .. } => frags,
                ref other => panic!("{other:?}"),
            }
        };
        assert!(frags(object));
        assert!(!frags(&single_buffer(object)));
    }
}

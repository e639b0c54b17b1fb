//! Finds connected UDP sockets in all network namespaces at once, without entering any.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    Btf, BtfError, EbpfLoader,
    maps::{HashMap, MapData},
    programs::{Iter, ProgramError},
};
use lb_ebpf::abi::{FoundSocket, GONE_BACKENDS, SocketLayout};
use zerocopy::FromBytes;

use super::layout::{self, LayoutError};
use crate::{loader, sys};

const PROGRAM: &str = "lb_find_sockets";
const GONE: &str = "GONE";
/// Bytes asked for at a time; the kernel gives up to 32 KiB.
const BUFFER: usize = 1 << 15;
/// The kernel asks to be called again after a million sockets that yield no output.
const MAX_RETRIES: usize = 1000;

/// Why the kernel's iterator cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// The kernel does not describe its sockets.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel does not describe its iterators.
    #[error("the kernel's BTF cannot be used: {0}")]
    Btf(#[from] BtfError),
    /// The object lacks the program, or cannot be parsed.
    #[error("the BPF object cannot be used: {0}")]
    Object(String),
    /// The kernel refuses the program.
    #[error("the kernel refuses the socket iterator: {0}")]
    Refused(#[from] ProgramError),
}

/// The loaded iterator; it uses no map of an epoch, so one serves them all.
#[derive(Debug)]
pub(crate) struct Finder {
    program: OwnedFd,
    /// The backends that are looked for, while a run lasts.
    gone: HashMap<MapData, Key, u32>,
}

/// Slot and generation of a backend.
type Key = [u32; 2];

impl Finder {
    /// Loads the program; most of the time goes into reading BTF.
    pub(crate) fn load() -> Result<Self, FindError> {
        let layout = layout::of_this_kernel()?;
        let btf = Btf::from_sys_fs()?;
        let with_cookie = SocketLayout {
            has_cookie: 1,
            ..layout
        };
        // Before 5.12 there are no cookies in iterators; address and port must do.
        load(&with_cookie, &btf).or_else(|_| load(&layout, &btf))
    }

    /// The UDP sockets that are connected to `gone` backends, at most `limit`.
    ///
    /// `connected` is the map `CONNECTED`.
    pub(crate) fn find(
        &mut self,
        connected: impl AsFd,
        gone: &[Key],
        limit: usize,
    ) -> io::Result<Vec<FoundSocket>> {
        let mut out = Vec::new();
        for chunk in gone.chunks(GONE_BACKENDS as usize) {
            for key in chunk {
                self.gone.insert(key, 1, 0).map_err(io::Error::other)?;
            }
            let read = self.read(&connected, limit, &mut out);
            for key in chunk {
                self.gone.remove(key).map_err(io::Error::other)?;
            }
            read?;
        }
        Ok(out)
    }

    fn read(&self, map: impl AsFd, limit: usize, out: &mut Vec<FoundSocket>) -> io::Result<()> {
        let mut records = Records::new(sys::iterate_map(&self.program, map)?);
        while out.len() < limit
            && let Some(socket) = records.next()?
        {
            if socket.is_connected() {
                out.push(socket);
            }
        }
        Ok(())
    }
}

fn load(layout: &SocketLayout, btf: &Btf) -> Result<Finder, FindError> {
    let object = loader::object().ok_or_else(|| FindError::Object("it is empty".into()))?;
    let missing = |what: &str| FindError::Object(format!("it has no {what}"));
    let mut ebpf = EbpfLoader::new()
        .btf(Some(btf))
        .override_global("SOCKET_LAYOUT", layout, true)
        .load(object)
        .map_err(|error| FindError::Object(error.to_string()))?;
    let gone = ebpf.take_map(GONE).ok_or_else(|| missing(GONE))?;
    let program: &mut Iter = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| missing(PROGRAM))?
        .try_into()?;
    program.load("bpf_sk_storage_map", btf)?;
    let program = program.fd()?.as_fd().try_clone_to_owned();
    Ok(Finder {
        program: program.map_err(ProgramError::IOError)?,
        gone: HashMap::try_from(gone).map_err(|error| FindError::Object(error.to_string()))?,
    })
}

/// The records of an iterator's file; reads may end anywhere.
struct Records {
    file: File,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Records {
    fn new(file: File) -> Self {
        Self {
            file,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    fn next(&mut self) -> io::Result<Option<FoundSocket>> {
        loop {
            if let Ok((record, _)) =
                FoundSocket::read_from_prefix(&self.buffer[self.start..self.end])
            {
                self.start += size_of::<FoundSocket>();
                return Ok(Some(record));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let read = self.read()?;
            if read == 0 {
                return Ok(None);
            }
            self.end += read;
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        for _ in 0..MAX_RETRIES {
            match self.file.read(&mut self.buffer[self.end..]) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

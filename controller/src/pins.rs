//! Where state is pinned, and how it is found again.
//!
//! ```text
//! ROOT/abi4/7/SERVICES …              the maps of epoch 7
//! ROOT/abi4/links/lb_connect4 …       the attachments at the cgroup, one a program
//! ROOT/abi4/links/lb_ingress-tcx@3 …  the attachments at devices: how, and the ifindex
//! ```
//!
//! ROOT/abi4/reasons/3                 why not everything is attached there
//!
//! A classic TC filter is no link and stays without a pin: what is pinned in its place is
//! its program, so that it is known that the filter exists.
//!
//! An *epoch* is one complete set of maps. Growing makes the next epoch beside the
//! current one, fills it, marks it ready, moves the links over and removes the old one;
//! a crash at any point leaves at least one ready epoch, and the newest ready one counts.

mod device;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_ebpf::abi::{ABI_VERSION, StatusFlags};

pub use self::device::{DevicePin, Mechanism};
use crate::maps::{Access, Maps, MapsError};

/// The pin directory of one node.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Below `root`, a directory of a BPF file system.
    pub fn new(root: &Path) -> Self {
        Self {
            dir: root.join(format!("abi{ABI_VERSION}")),
        }
    }

    /// The directory of everything that this version pins.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of an epoch.
    pub fn epoch(&self, epoch: u32) -> PathBuf {
        self.dir.join(epoch.to_string())
    }

    /// Where the attachment of a program is pinned.
    pub fn link(&self, program: &str) -> PathBuf {
        self.dir.join("links").join(program)
    }

    /// All epochs, complete or not, newest first.
    pub fn epochs(&self) -> io::Result<Vec<u32>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut epochs: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// The newest epoch whose maps are ready; `None` if nothing is programmed.
    pub fn current(&self, access: Access) -> Result<Option<(u32, Maps)>, MapsError> {
        let epochs = self.epochs().map_err(|source| MapsError::Io {
            what: "list",
            name: "pins",
            source,
        })?;
        let mut first_error = None;
        for epoch in epochs {
            match Maps::open(&self.epoch(epoch), access) {
                Ok(maps) if maps.status.get(0).flags & StatusFlags::READY != 0 => {
                    return Ok(Some((epoch, maps)));
                }
                // Not filled yet, or left half-made by a crash.
                Ok(_) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            // A half-made epoch without a status is no error, a broken one beside
            // nothing usable is.
            Some(error @ MapsError::Layout { .. }) => Err(error),
            _ => Ok(None),
        }
    }

    /// Removes the pins of an epoch; the kernel frees its maps when no program uses them.
    pub fn remove_epoch(&self, epoch: u32) -> io::Result<()> {
        remove_dir(&self.epoch(epoch))
    }

    /// Removes what other versions have pinned beside us: their programs would translate
    /// what ours already have.
    pub fn remove_other_versions(&self) -> io::Result<()> {
        let Some(root) = self.dir.parent() else {
            return Ok(());
        };
        for entry in fs::read_dir(root)?.filter_map(Result::ok) {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("abi"));
            let other = number.and_then(|number| number.parse().ok());
            if other.is_some_and(|version: u32| version != ABI_VERSION) {
                remove_dir(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes everything: unpinning a link detaches its program.
    pub fn remove_all(&self) -> io::Result<()> {
        remove_dir(&self.dir.join("links"))?;
        remove_dir(&self.reasons_dir())?;
        for epoch in self.epochs()? {
            self.remove_epoch(epoch)?;
        }
        remove_dir(&self.dir)
    }
}

/// Removes a directory and the files in it; absent is fine.
fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

//! Pins of attachments at devices, and why some are missing.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::Pins;
use crate::devices::PACKET_PROGRAMS;

/// How a program is held at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// A TCX link (kernel 6.6).
    Tcx,
    /// A classic filter at the clsact qdisc.
    Clsact,
    /// A link to XDP in the driver.
    XdpNative,
    /// A link to XDP in the generic path.
    XdpGeneric,
}

impl Mechanism {
    const ALL: [Self; 4] = [Self::Tcx, Self::Clsact, Self::XdpNative, Self::XdpGeneric];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::XdpNative => "native",
            Self::XdpGeneric => "generic",
        }
    }
}

/// An attachment at a device, as its pin's name tells: `lb_ingress-tcx@3`.
///
/// It says the index of the device, not its name: names may have dots, which pins may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevicePin {
    /// The device's ifindex.
    pub index: u32,
    /// The program.
    pub program: &'static str,
    /// How it is held.
    pub mechanism: Mechanism,
}

impl DevicePin {
    fn parse(name: &str) -> Option<Self> {
        let (rest, index) = name.split_once('@')?;
        let (program, mechanism) = rest.split_once('-')?;
        Some(Self {
            index: index.parse().ok()?,
            program: PACKET_PROGRAMS.into_iter().find(|p| *p == program)?,
            mechanism: Mechanism::ALL
                .into_iter()
                .find(|m| m.as_str() == mechanism)?,
        })
    }
}

impl fmt::Display for DevicePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = self.mechanism.as_str();
        write!(f, "{}-{mechanism}@{}", self.program, self.index)
    }
}

impl Pins {
    /// Where an attachment at a device is pinned.
    pub fn device_link(&self, pin: &DevicePin) -> PathBuf {
        self.link(&pin.to_string())
    }

    /// All attachments at devices that are pinned.
    pub fn device_links(&self) -> io::Result<Vec<DevicePin>> {
        let entries = match fs::read_dir(self.dir.join("links")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut pins: Vec<_> = names.filter_map(|name| DevicePin::parse(&name)).collect();
        pins.sort_unstable();
        Ok(pins)
    }

    /// Keeps, by ifindex, why programs are missing at devices. The file system of pins has
    /// no files, but it has symbolic links, whose targets may be any text.
    pub fn write_reasons(&self, reasons: &BTreeMap<u32, String>) -> io::Result<()> {
        let dir = self.reasons_dir();
        fs::create_dir_all(&dir)?;
        let known = self.reasons();
        for (index, _) in known
            .iter()
            .filter(|(i, text)| reasons.get(i) != Some(text))
        {
            fs::remove_file(dir.join(index.to_string()))?;
        }
        for (index, text) in reasons
            .iter()
            .filter(|(i, text)| known.get(i) != Some(text))
        {
            symlink(Path::new(text), dir.join(index.to_string()))?;
        }
        Ok(())
    }

    /// What was kept.
    pub fn reasons(&self) -> BTreeMap<u32, String> {
        let entries = fs::read_dir(self.reasons_dir()).into_iter().flatten();
        let reason = |entry: fs::DirEntry| {
            let index = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_link(entry.path()).ok()?;
            Some((index, text.to_string_lossy().into_owned()))
        };
        entries.flatten().filter_map(reason).collect()
    }

    pub(super) fn reasons_dir(&self) -> PathBuf {
        self.dir.join("reasons")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_device_pins_are_understood_again() {
        let pin = DevicePin {
            index: 12,
            program: "lb_xdp",
            mechanism: Mechanism::XdpNative,
        };
        assert_eq!(pin.to_string(), "lb_xdp-native@12");
        assert_eq!(DevicePin::parse("lb_xdp-native@12"), Some(pin));
        for foreign in ["lb_connect4", "lb_xdp-native@", "lb_xdp@1", "other-tcx@1"] {
            assert_eq!(DevicePin::parse(foreign), None, "{foreign}");
        }
    }
}

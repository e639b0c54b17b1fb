//! The archive that a kernel unpacks as its first root: cpio, format "newc".

use std::io::{self, Write};

/// What `st_mode` says of each kind of entry.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written. A directory must be added before what is in it.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, &[])
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, content)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, &[])?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = path.len() as u32 + 1;
        // Inode, mode, uid, gid, links, mtime, size, device and special device (two each),
        // size of the name with its NUL, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        write!(self.to, "070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        write!(self.to, "{path}\0")?;
        // A header has 110 bytes; names and contents end at multiples of four.
        self.pad(110 + name_size)?;
        self.to.write_all(content)?;
        self.pad(size)
    }

    fn pad(&mut self, len: u32) -> io::Result<()> {
        let missing = len.next_multiple_of(4) - len;
        self.to.write_all(&[0; 4][..missing as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("bin").expect("a vector");
        archive.file("bin/hello", b"hello").expect("a vector");
        archive.finish().expect("a vector")
    }

    #[test]
    fn entries_begin_at_multiples_of_four_and_the_trailer_is_last() {
        let bytes = archive();
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"070701"))
            .collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let last = &bytes[starts[2] + 110..];
        assert!(last.starts_with(b"TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn headers_say_kind_and_size() {
        let bytes = archive();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let header = text.find("bin/hello").expect("the name") - 110;
        let field = |index: usize| {
            let at = header + 6 + 8 * index;
            u32::from_str_radix(&text[at..at + 8], 16).expect("a number")
        };
        assert_eq!(field(1), PROGRAM);
        assert_eq!(field(6), 5);
        assert_eq!(field(11), 10);
    }
}

//! Which manifests there are.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::super::SourceError;

/// Tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Nothing is in the file.
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Every manifest at or below `root`, sorted by path.
///
/// In a directory these are the files whose names end in `.yaml`, `.yml` or `.json`;
/// hidden files and directories are not entered: editors keep their copies, and
/// ConfigMap volumes their versions, in such. Symbolic links are followed to files.
pub(super) fn scan(root: &Path) -> Result<BTreeMap<PathBuf, Stamp>, SourceError> {
    let mut found = BTreeMap::new();
    let metadata = fs::metadata(root).map_err(unreadable(root))?;
    if metadata.is_dir() {
        scan_directory(root, &mut found)?;
    } else {
        found.insert(root.to_owned(), Stamp::of(&metadata));
    }
    Ok(found)
}

fn scan_directory(
    directory: &Path,
    found: &mut BTreeMap<PathBuf, Stamp>,
) -> Result<(), SourceError> {
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let file_type = entry.file_type().map_err(unreadable(&path))?;
        if file_type.is_dir() {
            scan_directory(&path, found)?;
        } else if is_manifest(&path) {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    found.insert(path, Stamp::of(&metadata));
                }
                // A link to a directory, a pipe, or gone since the directory was read.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path)(error)),
            }
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Puts the path into an IO error.
pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

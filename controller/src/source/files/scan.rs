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
/// ConfigMap volumes their versions, in such. Symbolic links are followed to files. What goes
/// while it is looked at is left out.
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
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        unless_gone(scan_entry(&entry, found))?;
    }
    Ok(())
}

fn scan_entry(
    entry: &fs::DirEntry,
    found: &mut BTreeMap<PathBuf, Stamp>,
) -> Result<(), SourceError> {
    let path = entry.path();
    let file_type = entry.file_type().map_err(unreadable(&path))?;
    if file_type.is_dir() {
        return scan_directory(&path, found);
    }
    if is_manifest(&path) {
        let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
        // Not a link to a directory, and not a pipe.
        if metadata.is_file() {
            found.insert(path, Stamp::of(&metadata));
        }
    }
    Ok(())
}

/// Nothing, where something has gone since its directory was read: its removal is a change of its
/// own.
pub(super) fn unless_gone<T>(result: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
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

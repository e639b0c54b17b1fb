//! Objects from YAML text, files and directories.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Why manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {source}")]
    Parse {
        path: PathBuf,
        source: serde_norway::Error,
    },
}

/// All documents of a YAML or JSON text; `List` objects are taken apart.
pub fn parse(text: &str) -> Result<Vec<Value>, serde_norway::Error> {
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        flatten(Value::deserialize(document)?, &mut objects);
    }
    Ok(objects)
}

fn flatten(document: Value, objects: &mut Vec<Value>) {
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Null => {}
        Value::Object(mut list) if is_list => {
            let items = list.remove("items").unwrap_or_default();
            for item in items.as_array().into_iter().flatten() {
                flatten(item.clone(), objects);
            }
        }
        object => objects.push(object),
    }
}

/// The objects of a file, or of every `.yaml`, `.yml` and `.json` of a directory
/// in order of name.
pub fn load(path: &Path) -> Result<Vec<Value>, ManifestError> {
    let read_error = |source| ManifestError::Read {
        path: path.to_owned(),
        source,
    };
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        return parse(&text).map_err(|source| ManifestError::Parse {
            path: path.to_owned(),
            source,
        });
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(read_error)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known))
    });
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        objects.extend(load(&file)?);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "kind: A\n---\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n";
        let kinds: Vec<_> = parse(text)
            .unwrap()
            .iter()
            .map(|o| o["kind"].clone())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }
}

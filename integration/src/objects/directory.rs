//! Objects as files: one YAML file per object in a directory that proxies watch.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{ObjectId, Objects};

/// A directory of manifests. Files are written beside it and renamed into it, so a watcher
/// never reads half an object.
#[derive(Clone, Debug)]
pub struct Directory {
    staging: PathBuf,
    manifests: PathBuf,
}

// === impl Directory ===

impl Directory {
    /// An empty directory under `root`, which must not have held one before.
    pub fn create(root: &Path) -> Result<Self> {
        let (staging, manifests) = (root.join("staging"), root.join("manifests"));
        for directory in [&staging, &manifests] {
            fs::create_dir_all(directory)
                .with_context(|| format!("creating {}", directory.display()))?;
        }
        Ok(Self { staging, manifests })
    }

    /// What the file source watches.
    pub fn path(&self) -> &Path {
        &self.manifests
    }

    fn file(id: &ObjectId) -> String {
        format!(
            "{}.{}.{}.yaml",
            id.kind.to_lowercase(),
            id.namespace,
            id.name
        )
    }
}

impl Objects for Directory {
    fn apply(&self, object: &Value) -> Result<()> {
        let id = ObjectId::of(object)?;
        let name = Self::file(&id);
        let staged = self.staging.join(&name);
        fs::write(&staged, serde_norway::to_string(object)?)
            .with_context(|| format!("writing {}", staged.display()))?;
        let target = self.manifests.join(&name);
        fs::rename(&staged, &target).with_context(|| format!("replacing {}", target.display()))
    }

    fn delete(&self, id: &ObjectId) -> Result<()> {
        match fs::remove_file(self.manifests.join(Self::file(id))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("deleting {id:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_files_until_deleted() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path()).unwrap();
        let service = json!({
            "kind": "Service", "metadata": {"namespace": "default", "name": "web"}, "spec": {"a": 1},
        });
        directory.apply(&service).unwrap();
        let file = directory.path().join("service.default.web.yaml");
        let read: Value = serde_norway::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(read, service);
        let id = ObjectId::of(&service).unwrap();
        directory.delete(&id).unwrap();
        directory.delete(&id).unwrap();
        assert!(!file.exists());
    }
}

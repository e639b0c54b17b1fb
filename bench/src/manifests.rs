//! A synthetic cluster as a directory of two manifests: everything, and beside it the one
//! EndpointSlice that changes, so that a change costs its own size to read.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use lb_controller::synthetic;
use serde_json::Value;

use crate::cluster::Size;

/// The directory.
#[derive(Debug)]
pub struct Manifests {
    dir: PathBuf,
    changing: Value,
}

impl Manifests {
    /// Writes them, as `kubectl get -o json` would print them.
    pub fn write(dir: &Path, size: Size) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut to = BufWriter::new(File::create(dir.join("all.json"))?);
        to.write_all(b"{\"apiVersion\": \"v1\", \"items\": [")?;
        let (mut changing, mut separator) = (None, "\n");
        for object in synthetic::objects(size.services, size.endpoints) {
            if changing.is_none() && object["kind"] == "EndpointSlice" {
                changing = Some(object);
                continue;
            }
            to.write_all(separator.as_bytes())?;
            separator = ",\n";
            serde_json::to_writer_pretty(&mut to, &object)?;
        }
        to.write_all(b"\n], \"kind\": \"List\", \"metadata\": {\"resourceVersion\": \"\"}}\n")?;
        to.flush()?;
        let manifests = Self {
            dir: dir.to_owned(),
            changing: changing.context("a cluster without an EndpointSlice")?,
        };
        manifests.set_ready(true)?;
        Ok(manifests)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Size of all files, in bytes.
    pub fn bytes(&self) -> Result<u64> {
        let files = std::fs::read_dir(&self.dir)?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }

    /// Rewrites the changing EndpointSlice with its first endpoint so; by a rename, as
    /// careful writers do.
    pub fn set_ready(&self, ready: bool) -> Result<()> {
        let mut object = self.changing.clone();
        let conditions = &mut object["endpoints"][0]["conditions"];
        conditions["ready"] = ready.into();
        conditions["serving"] = ready.into();
        let part = self.dir.join("slice.part");
        std::fs::write(&part, serde_json::to_vec_pretty(&object)?)?;
        std::fs::rename(part, self.dir.join("slice.json"))?;
        Ok(())
    }
}

//! Images as a docker-archive, the format of `docker save`: written without an engine.
//!
//! The same programs give the same bytes: no times, no users, one layer an image.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::dockerfile::Stage;

/// Time of everything in the images.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Writes `images` (name and contents) to `file`; a line about each.
pub(crate) fn write(
    images: &[(String, Stage)],
    context: &Path,
    file: &Path,
) -> Result<Vec<String>> {
    // Renamed into place: a reader beside us sees the old or the new archive.
    let part = file.with_extension(format!("tar.{}", std::process::id()));
    let out = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut archive = tar::Builder::new(out);
    let (mut manifest, mut lines) = (Vec::new(), Vec::new());
    for (name, stage) in images {
        let layer = layer(stage, context)?;
        let layer_digest = hex(&layer);
        let config = serde_json::to_vec(&config(stage, &layer_digest))?;
        let config_digest = hex(&config);
        let layer_file = format!("{layer_digest}.tar");
        let config_file = format!("{config_digest}.json");
        append(&mut archive, &layer_file, 0o644, &layer)?;
        append(&mut archive, &config_file, 0o644, &config)?;
        manifest.push(json!({
            "Config": config_file,
            "RepoTags": [with_version(name)],
            "Layers": [layer_file],
        }));
        let size = layer.len() / (1 << 20);
        let short = &config_digest[..12];
        lines.push(format!("{name}: {size} MiB, sha256:{short}"));
    }
    let manifest = serde_json::to_vec(&manifest)?;
    append(&mut archive, "manifest.json", 0o644, &manifest)?;
    archive.into_inner()?.flush()?;
    fs::rename(&part, file)?;
    Ok(lines)
}

/// The files of an image as a tar archive.
fn layer(stage: &Stage, context: &Path) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut made: Vec<String> = Vec::new();
    for (file, directory) in &stage.copies {
        let directory = directory.trim_matches('/');
        for (at, _) in directory.match_indices('/').chain([(directory.len(), "")]) {
            let parent = format!("{}/", &directory[..at]);
            if !made.contains(&parent) {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                layer.append_data(&mut header, &parent, &[][..])?;
                made.push(parent);
            }
        }
        let from = context.join(file);
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        append(&mut layer, &format!("{directory}/{file}"), 0o755, &bytes)?;
    }
    Ok(layer.into_inner()?)
}

/// What a runtime is told, in the format of the OCI.
fn config(stage: &Stage, layer: &str) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": stage.env,
            "Entrypoint": stage.entrypoint,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
    })
}

/// This machine's architecture by Go's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Engines file an image without a version under `latest`, archives must say it.
fn with_version(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header(bytes.len() as u64, mode);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The digest that the content is known by.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

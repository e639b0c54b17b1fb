//! A package of the controller's modules that do no IO.

use std::path::Path;

use anyhow::Result;

use super::package::copy;

/// The modules, each a file and perhaps a directory.
const MODULES: [&str; 5] = ["convert", "desired", "model", "plan", "store"];

/// What the modules use of one that does IO: its clock.
const CLOCK: &str = r"
pub mod datapath {
    pub fn now_unix_ns() -> u64 {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.as_nanos() as u64
    }
}
";

/// Copies what it takes from the workspace at `root`; the text of its `lib.rs`.
pub(super) fn fill(root: &Path, src: &Path) -> Result<String> {
    let from = root.join("controller/src");
    let mut lib = String::from("//! The controller's modules that do no IO.\n");
    for module in MODULES {
        copy(&from, src, Path::new(&format!("{module}.rs")))?;
        if from.join(module).is_dir() {
            copy(&from, src, Path::new(module))?;
        }
        lib.extend(["pub mod ", module, ";\n"]);
    }
    Ok(lib + CLOCK)
}

pub(super) fn manifest(root: &Path) -> String {
    format!(
        r#"[package]
name = "lb-pure"
version = "0.0.0"
edition = "2024"

[workspace]

[profile.dev]
debug = false
[profile.dev.package.maglev]
opt-level = 3

[dependencies]
lb-ebpf = {{ path = "{0}/lb-ebpf", features = ["user"] }}
maglev = {{ path = "{0}/maglev" }}
ipnet.workspace = true
jiff.workspace = true
k8s-openapi.workspace = true
proptest.workspace = true
serde_json.workspace = true
thiserror.workspace = true
tracing.workspace = true
"#,
        root.display()
    )
}

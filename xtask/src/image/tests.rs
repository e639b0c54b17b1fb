//! What is in the images. The programs are stand-ins, but for the last test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::archive::hex as digest;
use super::*;

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("temporary files can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-over temporary files are no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stages() -> Vec<Stage> {
    dockerfile::parse(include_str!("../../../Dockerfile")).expect("our Dockerfile")
}

fn entries(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("a tar archive");
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mode = entry.header().mode().expect("a mode");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        (path, (mode, content))
    };
    entries.map(read).collect()
}

/// Writes both images with stand-ins for programs; the archive's entries.
fn written(scratch: &Scratch) -> BTreeMap<String, (u32, Vec<u8>)> {
    for name in PROGRAMS.iter().flat_map(|(_, programs)| *programs) {
        fs::write(scratch.0.join(name), format!("program {name}")).expect("a file");
    }
    let images: Vec<_> = stages()
        .into_iter()
        .map(|stage| (engine::name_of("here/lb:1", &stage.name), stage))
        .collect();
    let file = scratch.0.join("images.tar");
    archive::write(&images, &scratch.0, &file).expect("an archive");
    entries(&fs::read(&file).expect("the archive"))
}

#[test]
fn archive_has_both_images_with_programs_and_entrypoints() {
    let entries = written(&Scratch::new("archive"));
    let manifest: Value = serde_json::from_slice(&entries["manifest.json"].1).expect("JSON");
    let images = manifest.as_array().expect("a list of images");
    let expected = [
        ("here/lb-conformance-agent:1", vec!["usr/bin/lb-agent"]),
        ("here/lb:1", vec!["usr/bin/lb-controller", "usr/bin/lbctl"]),
    ];
    assert_eq!(images.len(), expected.len());
    for (image, (name, programs)) in images.iter().zip(expected) {
        assert_eq!(image["RepoTags"][0], name);
        let config_file = image["Config"].as_str().expect("a name");
        let config = &entries[config_file].1;
        assert_eq!(config_file, format!("{}.json", digest(config)));
        let config: Value = serde_json::from_slice(config).expect("JSON");
        let layer = &entries[image["Layers"][0].as_str().expect("a name")].1;
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", digest(layer))
        );
        let files = self::entries(layer);
        for program in &programs {
            let (mode, content) = &files[*program];
            assert_eq!(*mode, 0o755, "{program}");
            assert!(content.starts_with(b"program "));
        }
        let entrypoint = config["config"]["Entrypoint"][0].as_str().expect("a path");
        assert!(files.contains_key(entrypoint.trim_start_matches('/')));
        assert_eq!(
            files.keys().filter(|name| !name.ends_with('/')).count(),
            programs.len()
        );
    }
}

#[test]
fn same_programs_give_the_same_archive() {
    let (one, two) = (Scratch::new("same-1"), Scratch::new("same-2"));
    assert_eq!(written(&one), written(&two));
}

#[test]
fn dockerfile_with_an_instruction_of_an_engine_is_refused() {
    for text in [
        "FROM debian AS lb",
        "COPY a /b/",
        "FROM scratch AS lb\nRUN true",
        "FROM scratch AS lb\nCOPY a b",
        "",
    ] {
        assert!(dockerfile::parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_the_dockerfile_copies_is_what_is_built() {
    let stages = stages();
    let copied = stages.iter().flat_map(|stage| &stage.copies);
    let mut copied: Vec<&str> = copied.map(|(file, _)| file.as_str()).collect();
    let mut built: Vec<&str> = PROGRAMS
        .iter()
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    copied.sort_unstable();
    built.sort_unstable();
    assert_eq!(copied, built);
}

#[test]
fn images_share_registry_and_version() {
    let agent = "lb-conformance-agent";
    assert_eq!(engine::name_of("lb", agent), agent);
    assert_eq!(
        engine::name_of("a.b:5/c/lb:2", agent),
        "a.b:5/c/lb-conformance-agent:2"
    );
    assert_eq!(
        engine::name_of("a.b:5/c/lb", agent),
        "a.b:5/c/lb-conformance-agent"
    );
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

/// The commands that these arguments lead to, after cargo.
fn commands(arguments: &[&str]) -> Vec<String> {
    let line = ["image"].iter().chain(arguments);
    let args = CommandLine::try_parse_from(line).expect("arguments").args;
    let workspace = Workspace::locate();
    let plan = Plan::new(&workspace, &args).expect("a plan");
    let root = format!("{}/", workspace.root.display());
    let target = format!("{}/", workspace.target.display());
    let lines = plan.commands.iter().map(super::line);
    lines
        .map(|line| line.replace(&target, "T/").replace(&root, ""))
        .collect()
}

#[test]
fn kind_gets_an_archive_and_needs_no_engine_for_it() {
    assert_eq!(
        commands(&["--load-into-kind", "k"]),
        ["kind load image-archive T/image.tar --name k"]
    );
    assert_eq!(
        commands(&["--load-into-kind", "k", "--output", "/x.tar"]),
        ["kind load image-archive /x.tar --name k"]
    );
    assert_eq!(commands(&["--output", "/x.tar"]), [""; 0]);
}

#[test]
fn engines_build_each_stage_and_push_it() {
    if crate::workspace::which("docker").is_none() {
        eprintln!("skipped: docker is not on PATH");
        return;
    }
    assert_eq!(
        commands(&["--engine", "docker", "--tag", "r.io/lb:2", "--push"]),
        [
            "docker build --target lb-conformance-agent --tag r.io/lb-conformance-agent:2 \
             --file Dockerfile T/image",
            "docker build --target lb --tag r.io/lb:2 --file Dockerfile T/image",
            "docker push r.io/lb-conformance-agent:2",
            "docker push r.io/lb:2",
        ]
    );
}

/// Unpacks the layers of an image.
fn unpack(archive: &Path, image: &str, into: &Path) {
    let mut bytes = Vec::new();
    let mut file = File::open(archive).expect("the archive");
    file.read_to_end(&mut bytes).expect("its bytes");
    let entries = entries(&bytes);
    let manifest: Value = serde_json::from_slice(&entries["manifest.json"].1).expect("JSON");
    let images = manifest.as_array().expect("a list of images");
    let wanted = |found: &&Value| {
        let name = found["RepoTags"][0].as_str().unwrap_or_default();
        name.rsplit('/')
            .next()
            .is_some_and(|name| name.split(':').next() == Some(image))
    };
    let found = images.iter().find(wanted).expect("the image");
    let layer = &entries[found["Layers"][0].as_str().expect("a name")].1;
    tar::Archive::new(layer.as_slice())
        .unpack(into)
        .expect("a layer");
}

#[test]
fn programs_of_an_image_run_with_nothing_beside_them() {
    let this = std::env::current_exe().expect("this program");
    // TARGET/debug/deps/xtask-HASH.
    let target = this.ancestors().nth(3).expect("a target directory");
    let default = target.join("image.tar");
    let archive = std::env::var_os("LB_IMAGE_ARCHIVE").map_or(default, PathBuf::from);
    if !archive.is_file() {
        eprintln!(
            "skipped: no image (cargo xtask image --output {})",
            archive.display()
        );
        return;
    }
    let scratch = Scratch::new("chroot");
    let runs = [
        (
            "lb",
            "/usr/bin/lb-controller",
            "--version",
            "lb-controller ",
        ),
        ("lb", "/usr/bin/lbctl", "--help", "Usage: lbctl"),
        (
            "lb-conformance-agent",
            "/usr/bin/lb-agent",
            "--help",
            "Usage: lb-agent",
        ),
    ];
    for (image, program, argument, says) in runs {
        let root = scratch.0.join(image);
        unpack(&archive, image, &root);
        let output = Command::new("chroot")
            .arg(&root)
            .args([program, argument])
            .output();
        let output = output.expect("chroot starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(says),
            "{program}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

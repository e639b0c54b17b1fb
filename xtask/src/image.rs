//! `cargo xtask image`: container images of static programs, by an engine or without one.
//!
//! Input: the workspace and the Dockerfile. Output: the context `<target>/image` (programs
//! alone), and from it images in an engine, in a registry, in the nodes of a kind cluster, or in
//! an archive that `docker load`, `podman load`, `ctr images import` and kind read.

mod archive;
mod dockerfile;
mod engine;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exit::STEP;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use crate::{bpf, exec, ui};

use self::dockerfile::Stage;
use self::engine::EngineName;

/// Build the container images: lb (lb-controller, lbctl) and lb-conformance-agent (lb-agent).
///
/// With an engine by default: docker or podman, whichever is there. --output and
/// --load-into-kind need none for building.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the image lb; the other one gets the same registry and version [default:
    /// lb:VERSION]
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Push both to their registry
    #[arg(long)]
    push: bool,
    /// Which engine [default: docker if it is there, else podman]
    #[arg(long, value_enum)]
    engine: Option<EngineName>,
    /// Load both into the nodes of this kind cluster
    #[arg(long, value_name = "CLUSTER")]
    load_into_kind: Option<String>,
    /// Write both to an archive, without an engine
    #[arg(long, value_name = "FILE.tar", conflicts_with = "push")]
    output: Option<PathBuf>,
    /// Programs without optimisation: for trying the images, not for use
    #[arg(long)]
    debug: bool,
    /// Print the commands instead of running them
    #[arg(long)]
    dry_run: bool,
}

/// The programs in the context, by package.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("lb-controller", &["lb-controller", "lbctl"]),
    ("lb-integration", &["lb-agent"]),
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let plan = Plan::new(workspace, args)?;
    if args.dry_run {
        println!("{}", line(&plan.cargo));
        for command in &plan.commands {
            println!("{}", line(command));
        }
        return Ok(());
    }
    // What is missing is said before minutes of compilation.
    if let Some(engine) = plan.engine {
        engine.must_run()?;
    }
    if args.load_into_kind.is_some() {
        engine::must_have_kind()?;
    }
    let tools = setup::ensure(workspace, &[Scope::Build])?;
    bpf::build(workspace, &tools)?;
    plan.carry_out(workspace)
}

/// Everything that will be done, in order.
struct Plan {
    /// Builds the programs.
    cargo: Command,
    /// The directory they are built in.
    built: PathBuf,
    /// The context.
    context: PathBuf,
    /// What is in the images, and their names.
    images: Vec<(String, Stage)>,
    /// The archive to write, if any.
    archive: Option<PathBuf>,
    /// The engine that the commands need, if any.
    engine: Option<EngineName>,
    commands: Vec<Command>,
}

impl Plan {
    fn new(workspace: &Workspace, args: &Args) -> Result<Self> {
        let file = workspace.root.join("Dockerfile");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", workspace.show(&file)))?;
        let stages = dockerfile::parse(&text)?;
        let default = format!("lb:{}", env!("CARGO_PKG_VERSION"));
        let tag = args.tag.as_ref().unwrap_or(&default);
        let images: Vec<_> = stages
            .into_iter()
            .map(|stage| (engine::name_of(tag, &stage.name), stage))
            .collect();
        let context = workspace.target.join("image");
        let archive = match (&args.output, &args.load_into_kind) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => Some(context.with_extension("tar")),
            (None, None) => None,
        };
        let engine = if archive.is_some() && !args.push {
            None
        } else {
            Some(EngineName::choose(args.engine)?)
        };
        let mut commands = Vec::new();
        if let Some(engine) = engine {
            for (name, stage) in &images {
                commands.push(engine.build(&file, &stage.name, name, &context));
            }
            for (name, _) in images.iter().filter(|_| args.push) {
                commands.push(engine.push(name));
            }
        }
        if let (Some(cluster), Some(archive)) = (&args.load_into_kind, &archive) {
            commands.push(engine::load_into_kind(cluster, archive));
        }
        let profile = if args.debug { "debug" } else { "release" };
        Ok(Self {
            cargo: cargo(workspace, args.debug),
            built: workspace.target.join(triple()).join(profile),
            context,
            images,
            archive,
            engine,
            commands,
        })
    }

    fn carry_out(mut self, workspace: &Workspace) -> Result<()> {
        let heading = ui::heading("static programs");
        exec::visibly(&mut self.cargo, STEP, "building the programs")?;
        stage(&self.built, &self.context)?;
        heading.done();
        if let Some(file) = &self.archive {
            let heading = ui::heading("archive");
            for image in archive::write(&self.images, &self.context, file)? {
                ui::ok(image);
            }
            ui::ok(workspace.show(file));
            heading.done();
        }
        for command in &mut self.commands {
            let what = line(command);
            let heading = ui::heading(&what);
            exec::visibly(command, STEP, &what)?;
            heading.done();
        }
        Ok(())
    }
}

/// Builds programs that need no library: glibc is linked in (static-pie). Since glibc 2.34 the
/// resolver is, too, so that the API server may have a name.
fn cargo(workspace: &Workspace, debug: bool) -> Command {
    let mut cargo = workspace.cargo(&["build"]);
    cargo.args(["--target", &triple()]);
    for (package, programs) in PROGRAMS {
        cargo.args(["--package", package]);
        cargo.args(programs.iter().flat_map(|name| ["--bin", name]));
    }
    if !debug {
        // Symbols stay, for backtraces.
        cargo.args([
            "--release",
            "--config",
            "profile.release.strip=\"debuginfo\"",
        ]);
    }
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        "-C\x1ftarget-feature=+crt-static",
    );
    cargo
}

/// Named, even where it is the host's: flags of a named target do not reach build scripts.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Makes the context: the programs and nothing else.
fn stage(built: &Path, context: &Path) -> Result<()> {
    if context.exists() {
        fs::remove_dir_all(context)?;
    }
    fs::create_dir_all(context)?;
    for name in PROGRAMS.iter().flat_map(|(_, programs)| *programs) {
        let from = built.join(name);
        fs::copy(&from, context.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

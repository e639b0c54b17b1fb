//! `cargo xtask VERB`: the development loop, one verb per file.
//!
//! A verb sets up what it needs itself, so a bare Debian machine with Rust and root needs
//! just the one command. Progress goes to standard error; standard output carries what the
//! programs run by a verb print there, and the closing line of `test`.
//!
//! Exit codes: [`exit`].

mod abi;
mod bench;
mod bpf;
mod build;
mod conformance;
mod demo;
mod exec;
mod exit;
mod image;
mod kernels;
mod lint;
mod mutants;
mod setup;
mod summary;
mod test;
mod ui;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Build, test and show lb. Every command first installs what it is missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Args),
    Build(build::Args),
    Test(test::Args),
    Conformance(conformance::Args),
    Lint(lint::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Image(image::Args),
    Kernels(kernels::Args),
    Mutants(mutants::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            // A closed pipe while printing help is not worth a message.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let workspace = Workspace::locate();
    let done = match &cli.verb {
        Verb::Setup(args) => setup::run(&workspace, args),
        Verb::Build(args) => build::run(&workspace, args),
        Verb::Test(args) => test::run(&workspace, args),
        Verb::Conformance(args) => conformance::run(&workspace, args),
        Verb::Lint(args) => lint::run(&workspace, args),
        Verb::Demo(args) => demo::run(&workspace, args),
        Verb::Bench(args) => bench::run(&workspace, args),
        Verb::Image(args) => image::run(&workspace, args),
        Verb::Kernels(args) => kernels::run(&workspace, args),
        Verb::Mutants(args) => mutants::run(&workspace, args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

//! The per-node controller. See `lb-controller --help`.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};
use lb_controller::{
    config::{Cli, Command, LogFormat, effective},
    daemon::{self, DaemonError},
    exit::sentence,
    prepare,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Command::Completion { shell } = cli.command {
        clap_complete::generate(
            shell,
            &mut Cli::command(),
            "lb-controller",
            &mut io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    if let Err(error) = init_logs(&cli) {
        eprintln!("lb-controller: --log {:?}: {error}", cli.log);
        return ExitCode::from(2);
    }
    match execute(&cli.command, effective(&matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-controller: {}", sentence(&error));
            error.exit().into()
        }
    }
}

fn execute(command: &Command, in_force: serde_json::Value) -> Result<(), DaemonError> {
    match command {
        Command::Run(options) => {
            // The loop runs on this thread and holds it while programs load, which takes seconds
            // on a busy node; probes and load balancers are answered by the other one.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("lb-servers")
                .enable_all()
                .build();
            let runtime = runtime.map_err(|source| DaemonError::Io {
                what: "cannot start the runtime".into(),
                source,
            })?;
            let result = runtime.block_on(daemon::run(options, in_force));
            // Watches end with the process: nothing is worth waiting for.
            runtime.shutdown_background();
            result
        }
        Command::Prepare(options) => prepare::run(options),
        Command::Cleanup(options) => daemon::cleanup(options),
        Command::Completion { .. } => Ok(()),
    }
}

fn init_logs(cli: &Cli) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::builder().parse(&cli.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match cli.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error as Box<dyn std::error::Error>)
}

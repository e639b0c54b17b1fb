//! The options in force, as text by name: defaults, environment and command line together.
#![forbid(unsafe_code)]

use clap::{ArgMatches, CommandFactory};
use serde_json::{Map, Value, json};

use super::Cli;

/// The options of `run`, from what was parsed; empty for another subcommand.
pub fn effective(matches: &ArgMatches) -> Value {
    let mut options = Map::new();
    let command = Cli::command();
    if let (Some(given), Some(run)) = (
        matches.subcommand_matches("run"),
        command.find_subcommand("run"),
    ) {
        for argument in run.get_arguments() {
            let Some(name) = argument.get_long() else {
                continue;
            };
            let values = given.try_get_raw(argument.get_id().as_str()).ok().flatten();
            let values: Vec<_> = values
                .into_iter()
                .flatten()
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            let value = if values.is_empty() {
                Value::Null
            } else {
                values.join(",").into()
            };
            options.insert(name.to_owned(), value);
        }
    }
    json!({ "lb-controller": options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_choices_are_told_alike() {
        let line = [
            "lb-controller",
            "run",
            "--sync-period",
            "7s",
            "--node-ip",
            "10.0.0.1,fd00::1",
        ];
        let matches = Cli::command().get_matches_from(line);
        let options = &effective(&matches)["lb-controller"];
        assert_eq!(options["sync-period"], "7s");
        assert_eq!(options["node-ip"], "10.0.0.1,fd00::1");
        assert_eq!(options["forwarding-mode"], "snat");
        assert_eq!(options["bind-address-hard-fail"], "false");
        assert_eq!(options["kubeconfig"], Value::Null);
    }
}

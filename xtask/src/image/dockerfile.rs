//! The Dockerfile, as far as ours goes: stages from scratch that copy programs.
//!
//! Any other instruction is an error: what an engine builds from the file and what
//! [`super::archive`] writes must be the same.

use anyhow::{Context, Result, bail, ensure};

/// An image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// Files of the context and the directory they go to.
    pub(crate) copies: Vec<(String, String)>,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
}

/// Reads a Dockerfile.
pub(crate) fn parse(text: &str) -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        instruction(&mut stages, line).with_context(|| format!("Dockerfile, line {number}"))?;
    }
    ensure!(!stages.is_empty(), "the Dockerfile has no stage");
    Ok(stages)
}

fn instruction(stages: &mut Vec<Stage>, line: &str) -> Result<()> {
    let (verb, rest) = line.split_once(' ').context("an instruction alone")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    if verb == "FROM" {
        let ["scratch", "AS", name] = words.as_slice() else {
            bail!("expected FROM scratch AS NAME");
        };
        let name = (*name).to_owned();
        stages.push(Stage {
            name,
            ..Stage::default()
        });
        return Ok(());
    }
    let stage = stages.last_mut().context("no FROM yet")?;
    match verb {
        "COPY" => {
            let (to, files) = words.split_last().context("COPY of nothing")?;
            ensure!(
                to.starts_with('/') && to.ends_with('/') && !files.is_empty(),
                "expected COPY FILE… /DIRECTORY/"
            );
            let copies = files.iter().map(|file| ((*file).into(), (*to).into()));
            stage.copies.extend(copies);
        }
        "ENV" => stage.env.push(rest.to_owned()),
        "ENTRYPOINT" => {
            stage.entrypoint = serde_json::from_str(rest).context("expected a JSON array")?;
        }
        other => bail!("{other} is not known here"),
    }
    Ok(())
}

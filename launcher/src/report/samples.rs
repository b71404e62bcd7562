//! `RUN/samples.jsonl`: what the base and the trained model answer to the same prompts, one object a line. `sirocco report --samples` has them
//! made: the newest checkpoint is exported to a place that is removed again, and `sirocco-train eval` answers with both.
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sirocco_config::{Dtype, Method};

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::programs::{TRAINER, beside, settle};
use crate::report::facts::Facts;
use crate::report::place;
use crate::train::directory::RunDirectory;

/// The file's name in a run directory.
const FILE: &str = "samples.jsonl";
/// Conversations of the file of prompts that are answered.
const MOST: &str = "20";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) prompt: String,
    /// What the file of prompts answers.
    pub(crate) reference: String,
    /// What the base answers.
    pub(crate) before: String,
    /// What the trained model answers.
    pub(crate) after: String,
    /// Steps done of the trained model.
    pub(crate) step: u64,
}

/// The samples of a run; none were taken of most.
pub(crate) fn read(directory: &RunDirectory, notes: &mut Vec<String>) -> Result<Vec<Sample>, Failure> {
    let path = directory.path().join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))?,
    };
    let samples: Vec<Sample> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let strange = text.lines().count() - samples.len();
    if strange > 0 {
        notes.push(format!("{FILE}: {strange} of {} lines are no samples: they were left out", strange + samples.len()));
    }
    Ok(samples)
}

/// Takes samples of the newest checkpoint, in place of any that were there.
pub(crate) fn take(facts: &Facts, prompts: &Path) -> Result<Vec<Sample>, Failure> {
    let directory = &facts.directory;
    let Some(step) = facts.saved.newest else {
        let message = format!("--samples: {} holds no checkpoint yet: expected a trained model to ask", directory.shown());
        return Err(Failure::usage(message).help(format_args!("sirocco train {} goes on to the first one", directory.word())));
    };
    let failed = |error| Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", directory.shown()));
    let scratch = tempfile::Builder::new().prefix(".samples-").tempdir_in(directory.path()).map_err(failed)?;
    let to = scratch.path().join("export");
    let is_lora = matches!(facts.run.method, Method::Lora { .. });
    say(format_args!("samples: asking the base, then step {step}"));
    let form = if is_lora { "--adapter" } else { "--merge" };
    ask(Command::new(beside(TRAINER)?).arg("export").arg(directory.path()).arg("--to").arg(&to).args([form, "--json"]))?;
    let base = &facts.run.model.path;
    let dtype = match facts.run.model.dtype {
        Dtype::Bf16 => "bf16",
        Dtype::Fp32 => "fp32",
    };
    let answers = |model: &Path, adapter: Option<&Path>| {
        let mut command = Command::new(beside(TRAINER)?);
        command.arg("eval").arg(model).arg("--data").arg(prompts).args(["--samples", MOST, "--dtype", dtype, "--json"]);
        adapter.map(|adapter| command.arg("--adapter").arg(adapter));
        answers_of(&ask(&mut command)?)
    };
    let before = answers(base, None)?;
    let after = if is_lora { answers(base, Some(&to))? } else { answers(&to, None)? };
    let pairs = before.into_iter().zip(after);
    let samples: Vec<Sample> = pairs
        .map(|(before, after)| Sample {
            prompt: before.prompt,
            reference: before.reference,
            before: before.answer,
            after: after.answer,
            step,
        })
        .collect();
    let lines: String =
        samples.iter().filter_map(|sample| serde_json::to_string(sample).ok()).flat_map(|line| [line, "\n".to_owned()]).collect();
    place::replace(&directory.path().join(FILE), lines.as_bytes())?;
    Ok(samples)
}

/// What `eval --json` says of one conversation.
#[derive(Deserialize)]
struct Answer {
    prompt: String,
    reference: String,
    answer: String,
}

fn answers_of(said: &Value) -> Result<Vec<Answer>, Failure> {
    let answers = said.get("samples").cloned().and_then(|samples| serde_json::from_value(samples).ok());
    answers.ok_or_else(|| Failure::new(Kind::Failed, format_args!("{TRAINER} eval --json: no samples in what it said")))
}

/// Runs the trainer; the object that it prints, or its error as our own.
fn ask(command: &mut Command) -> Result<Value, Failure> {
    let output = settle(command).output();
    let output = output.map_err(|error| Failure::new(Kind::Machine, format_args!("{TRAINER}: cannot be started: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Value = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    if output.status.success() {
        return Ok(said);
    }
    let words = |field: &str| said["error"][field].as_str().map(str::to_owned);
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    let message = words("message").unwrap_or_else(|| format!("{TRAINER}: {}: {last}", output.status));
    let failure = Failure::new(Kind::of_code(output.status.code().unwrap_or(1)), format_args!("--samples: {message}"));
    Err(match words("help") {
        Some(help) => failure.help(help),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sample_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _) = RunDirectory::for_new_run(dir.path()).unwrap();
        let mut notes = Vec::new();
        assert_eq!(read(&directory, &mut notes).unwrap(), []);
        let line = r#"{"prompt":"a","reference":"b","before":"c","after":"d","step":4}"#;
        fs::write(dir.path().join(FILE), format!("{line}\n{{\"prompt\":")).unwrap();
        assert_eq!(read(&directory, &mut notes).unwrap()[0].after, "d");
        assert_eq!(notes, ["samples.jsonl: 1 of 2 lines are no samples: they were left out"]);
    }

    #[test]
    fn the_trainers_error_is_ours() {
        let failure =
            ask(Command::new("sh").args(["-c", r#"echo '{"error":{"message":"no such model","help":"make one"}}'; exit 4"#]))
                .unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str(), failure.help.as_deref()),
            (Kind::Input, "--samples: no such model", Some("make one"))
        );
        let failure = ask(Command::new("sh").args(["-c", "echo bad luck >&2; exit 1"])).unwrap_err();
        assert!(failure.message.ends_with("bad luck"), "{failure:?}");
    }
}

//! `sirocco model`: what a model is, another layout of it, whether it is whole.
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use sirocco_checkpoint::{CheckpointError, ModelSummary, Verified, convert_consolidated, convert_gguf, inspect, verify};
use sirocco_custody::Deed;
use sirocco_custody::artefact::measured;
use sirocco_policy::{Admitted, verb};

use crate::cli::{Convert, ModelAction, OnePath};
use crate::failure::{Failure, Kind};
use crate::gate::{Measured, OwnPolicy};
use crate::output::{self, bytes, grouped};

/// The fields of `verify --json`.
#[derive(Serialize)]
struct Whole {
    ok: bool,
    #[serde(flatten)]
    verified: Verified,
    /// Of the directory, as facts have it.
    digest: String,
}

pub(crate) fn run(action: &ModelAction) -> Result<(), Failure> {
    match action {
        ModelAction::Inspect(arguments) => {
            there(&arguments.path, "a Hugging Face model directory or a GGUF file")?;
            show(&inspect(&arguments.path).map_err(named)?, arguments.json)
        }
        ModelAction::Convert(arguments) => convert(arguments),
        ModelAction::Verify(arguments) => check(arguments),
    }
}

/// Refuses a path where no model is, and says what should be there and how it gets there.
pub(crate) fn there(path: &Path, expected: &str) -> Result<(), Failure> {
    let help = "relative paths start where the command is typed; sirocco model convert FILE.gguf DIR makes a model directory";
    if path.exists() { Ok(()) } else { Err(not_there(path, expected).help(help)) }
}

fn not_there(path: &Path, expected: &str) -> Failure {
    Failure::new(Kind::Input, format_args!("{} is not there: expected {expected}", path.display()))
}

/// A file that a model directory lacks, with what such a directory holds.
fn named(error: CheckpointError) -> Failure {
    let missing = matches!(&error, CheckpointError::Io { source, .. } if source.kind() == ErrorKind::NotFound);
    let failure = Failure::from(error);
    if missing {
        return failure
            .help("a model directory holds config.json, safetensors and tokenizer.json; sirocco model convert makes one");
    }
    failure
}

fn convert(arguments: &Convert) -> Result<(), Failure> {
    let Convert { from, to, policy, json } = arguments;
    if !from.exists() {
        let failure = not_there(from, "a GGUF file, or a directory with consolidated.safetensors and params.json");
        return Err(failure.help("relative paths start where the command is typed"));
    }
    let policy = OwnPolicy::open(policy)?;
    let source = policy.admit(policy.measure(sirocco_policy::Kind::Model, from)?)?;
    converted(&source, to)?;
    let summary = inspect(to)?;
    let (thing, made) = (source.thing(), measured(to, &[])?);
    let deed = Deed::new("model.imported").input(thing.name.to_string(), thing.digest.into());
    policy.done(deed.output(format!("model:{}", to.display()), made.into()))?;
    if !json {
        output::line(format_args!("wrote {}", to.display()))?;
    }
    show(&summary, *json)
}

/// Writes another layout of what was admitted.
fn converted(source: &Admitted<verb::Import, Measured>, to: &Path) -> Result<(), Failure> {
    let from = &source.thing().path;
    if from.is_dir() {
        convert_consolidated(from, to)?
    } else {
        convert_gguf(from, to)?
    };
    Ok(())
}

fn check(arguments: &OnePath) -> Result<(), Failure> {
    there(&arguments.path, "a Hugging Face model directory")?;
    let verified = verify(&arguments.path).map_err(named)?;
    let digest = measured(&arguments.path, &[])?.to_string();
    if arguments.json {
        return output::json(&Whole { ok: true, verified, digest });
    }
    output::line(format_args!("{} is whole", arguments.path.display()))?;
    output::line(format_args!("tensors      {}", verified.tensors))?;
    output::line(format_args!("parameters   {}", grouped(verified.parameters)))?;
    output::line(format_args!("sha256       {digest}, of the directory"))
}

fn show(summary: &ModelSummary, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(summary);
    }
    let sizes = &summary.architecture;
    let dtypes: Vec<_> = summary.dtypes.iter().map(|(dtype, count)| format!("{dtype} {}", grouped(*count))).collect();
    let tied = if sizes.tied_embeddings { "the embedding, transposed" } else { "its own" };
    let rows = [
        ("architecture", sizes.class.clone()),
        ("parameters", format!("{} in {} tensors ({})", grouped(summary.parameters), summary.tensors, dtypes.join(", "))),
        ("layers", sizes.layers.to_string()),
        ("hidden size", format!("{}, feed-forward {}", sizes.hidden_size, sizes.ffn_size)),
        ("heads", format!("{} of {}, {} for keys and values", sizes.heads, sizes.head_dim, sizes.kv_heads)),
        ("context", format!("{} tokens{}, rope theta {}", sizes.context_length, window(sizes.sliding_window), sizes.rope_theta)),
        ("vocabulary", format!("{}, output head: {tied}", grouped(sizes.vocab_size as u64))),
        ("tokenizer", summary.tokenizer.clone().unwrap_or_else(|| "none".to_owned())),
    ];
    rows.iter().try_for_each(|(name, value)| output::line(format_args!("{name:14}{value}")))?;
    summary.files.iter().try_for_each(|file| {
        let name = Path::new(&file.name).display();
        output::line(format_args!("{:14}{name}, {}, SHA-256 {}", "file", bytes(file.bytes), file.sha256))
    })
}

fn window(window: Option<usize>) -> String {
    window.map_or_else(String::new, |tokens| format!(", sliding window {tokens}"))
}

//! The page of one run: what its files say, in words, for the template to lay out. The template escapes everything.
use serde::Serialize;
use serde_json::json;
use sirocco_config::{Device, Method, shell_word};

use crate::failure::Failure;
use crate::output::{bytes, count, duration, grouped, mesh};
use crate::report::curves::digits;
use crate::report::facts::{Data, Facts};
use crate::report::html::render;
use crate::report::outcome::Outcome;
use crate::report::{clock, jobs, plots};

/// A name and what it is.
pub(crate) type Row = (&'static str, String);

/// The whole page.
pub(crate) fn page(facts: &Facts, outcome: &Outcome) -> Result<String, Failure> {
    render(
        "run.html",
        json!({
            "title": facts.run.name,
            "headline": headline(facts, outcome),
            "tiles": tiles(outcome),
            "notes": facts.notes,
            "base": base(facts),
            "method": method(facts),
            "sources": sources(facts),
            "data": data_rows(facts),
            "charts": plots::of_run(facts),
            "jobs": jobs::rows(facts),
            "unfit": jobs::unfit(facts),
            "jobs_source": jobs::source(facts),
            "repeated": facts.log.repeated,
            "cost": cost(facts),
            "samples": facts.samples,
            "how_to_sample": format!("sirocco report {} --samples PROMPTS.jsonl", facts.directory.word()),
            "checkpoints": checkpoints(facts),
            "versions": versions(facts),
            "settings": facts.run_text,
            "commands": commands(facts),
        }),
    )
}

fn headline(facts: &Facts, outcome: &Outcome) -> String {
    let steps = outcome.steps.map_or_else(|| "?".to_owned(), grouped);
    let when = match facts.log.span() {
        Some((began, last)) => format!("; {} to {}", clock::show(began), clock::show(last)),
        None => String::new(),
    };
    format!("{}, step {} of {steps}{when}", outcome.state, grouped(outcome.step))
}

/// What a reader wants first.
fn tiles(outcome: &Outcome) -> Vec<(String, String)> {
    let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), digits);
    let best = outcome.best_valid_step.map_or_else(String::new, |step| format!(", best at step {step}"));
    let mut tiles = vec![
        ("loss".to_owned(), number(outcome.loss)),
        (format!("held-out loss{best}"), number(outcome.best_valid_loss)),
        ("tokens seen".to_owned(), grouped(outcome.tokens)),
        ("tokens/s".to_owned(), outcome.tokens_per_s.map_or_else(|| "none".to_owned(), |speed| format!("{speed:.0}"))),
        ("node-hours".to_owned(), outcome.cost.node_hours.words()),
    ];
    if outcome.cost.gpu_hours.value.is_some() {
        tiles.push(("GPU-hours".to_owned(), outcome.cost.gpu_hours.words()));
    }
    tiles.push(("energy, kWh".to_owned(), outcome.cost.energy_kwh.words()));
    tiles
}

fn base(facts: &Facts) -> Vec<Row> {
    let digest = facts.saved.state.as_ref().map(|state| state.model_digest.clone());
    let mut rows = vec![("directory", facts.run.model.path.display().to_string())];
    if let Some(sizes) = &facts.base {
        let tied = if sizes.tied_embeddings { "the embedding, transposed" } else { "its own" };
        let window = sizes.sliding_window.map_or_else(String::new, |tokens| format!(", sliding window {tokens}"));
        rows.extend([
            ("architecture", sizes.class.clone()),
            ("layers", sizes.layers.to_string()),
            ("hidden size", format!("{}, feed-forward {}", sizes.hidden_size, sizes.ffn_size)),
            ("heads", format!("{} of {}, {} for keys and values", sizes.heads, sizes.head_dim, sizes.kv_heads)),
            ("context", format!("{} tokens{window}, rope theta {}", sizes.context_length, sizes.rope_theta)),
            ("vocabulary", format!("{}, output head: {tied}", grouped(sizes.vocab_size as u64))),
        ]);
    }
    rows.extend(facts.parameters().map(|parameters| ("parameters", grouped(parameters))));
    let unknown = "not recorded: no checkpoint of the run can be read".to_owned();
    rows.push(("SHA-256", digest.unwrap_or(unknown)));
    rows
}

fn method(facts: &Facts) -> Vec<Row> {
    let run = &facts.run;
    let method = match &run.method {
        Method::Full => "full: every weight".to_owned(),
        Method::Lora { rank, alpha, targets } => {
            let names: Vec<_> = targets.projections().iter().map(|projection| projection.name()).collect();
            format!("LoRA of rank {rank}, alpha {alpha}, on {}", names.join(", "))
        }
    };
    let trained = match (facts.trained(), facts.parameters()) {
        (Some(trained), Some(all)) => {
            format!("{} ({:.2} % of the base's {})", grouped(trained), trained as f64 * 100.0 / all as f64, grouped(all))
        }
        _ => "not known: the base model is not there".to_owned(),
    };
    let train = &run.train;
    let [schedule, dtype, recompute] = [json!(train.schedule), json!(run.model.dtype), json!(run.parallel.recompute)]
        .map(|value| value.as_str().unwrap_or_default().to_owned());
    let device = if run.model.device == Device::Cuda { "GPUs" } else { "the CPU" };
    vec![
        ("method", method),
        ("parameters trained", trained),
        ("optimizer", format!("AdamW, betas {:?}, epsilon {}, weight decay {}", train.betas, train.epsilon, train.weight_decay)),
        ("learning rate", format!("{}, {schedule}, {} of warm-up", train.learning_rate, count(train.warmup_steps, "step"))),
        (
            "global batch",
            format!(
                "{} sequences of {} tokens, {} at a time on a rank",
                train.global_batch, run.data.sequence_length, train.micro_batch
            ),
        ),
        ("gradients", format!("scaled down above a norm of {}", train.max_grad_norm)),
        ("numbers", format!("base {dtype}, on {device}, recomputation {recompute}")),
        ("mesh", mesh(&run.parallel)),
        ("seed", run.seed.to_string()),
    ]
}

/// A line of the table of data files.
#[derive(Debug, Serialize)]
struct Source {
    side: &'static str,
    file: String,
    sha256: String,
    documents: String,
    tokens: String,
    targets: String,
    skipped: String,
}

fn sources(facts: &Facts) -> Vec<Source> {
    let of = |side: &'static str, data: &Option<Data>| -> Vec<Source> {
        let sources = data.iter().flat_map(|data| &data.sources);
        sources
            .map(|source| Source {
                side,
                file: source.file.display().to_string(),
                sha256: source.sha256.clone(),
                documents: grouped(source.documents),
                tokens: grouped(source.tokens),
                targets: grouped(source.target_tokens),
                skipped: grouped(source.skipped.count),
            })
            .collect()
    };
    [of("training", &facts.train), of("held out", &facts.valid)].into_iter().flatten().collect()
}

fn data_rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, data) in [("training tokens, SHA-256", &facts.train), ("held-out tokens, SHA-256", &facts.valid)] {
        rows.extend(data.as_ref().map(|data| (name, data.digest.clone())));
    }
    rows.extend(facts.train.as_ref().map(|data| ("tokenizer, SHA-256", data.tokenizer.clone())));
    rows.push(("tokens seen", grouped(facts.series.curve.tokens)));
    rows.push(("time of all steps", duration(facts.series.curve.seconds)));
    rows
}

/// What, how much, from where.
fn cost(facts: &Facts) -> Vec<(&'static str, String, String)> {
    let cost = &facts.cost;
    let figures = [
        ("node-hours", &cost.node_hours),
        ("GPU-hours", &cost.gpu_hours),
        ("core-hours", &cost.core_hours),
        ("energy, kWh", &cost.energy_kwh),
    ];
    figures.map(|(name, figure)| (name, figure.words(), figure.source.clone())).to_vec()
}

fn checkpoints(facts: &Facts) -> Vec<(String, String, &'static str)> {
    let newest = |step: u64| if facts.saved.newest == Some(step) { "the one to go on from" } else { "" };
    facts.saved.checkpoints.iter().map(|(step, size)| (grouped(*step), bytes(*size), newest(*step))).collect()
}

fn versions(facts: &Facts) -> Vec<Row> {
    let mut trained: Vec<String> = facts.log.starts.iter().filter_map(|start| start.version.clone()).collect();
    trained.dedup();
    let trained = if trained.is_empty() { "not recorded".to_owned() } else { trained.join(", then ") };
    let mut rows = vec![("trained by sirocco", trained), ("report by sirocco", env!("CARGO_PKG_VERSION").to_owned())];
    rows.extend(facts.saved.state.as_ref().map(|state| ("settled settings, SHA-256", state.config_digest.clone())));
    rows
}

/// What to type to have the run again, and its results.
fn commands(facts: &Facts) -> Vec<(&'static str, String)> {
    let run = facts.directory.word();
    let file = shell_word(&facts.directory.typed_run_file().display().to_string());
    let export = shell_word(&format!("exports/{}", facts.run.name));
    let name = shell_word(&format!("name={}-again", facts.run.name));
    let form = if matches!(facts.run.method, Method::Lora { .. }) { "--adapter" } else { "--merge" };
    let on_slurm = facts.stints.iter().any(|stint| stint.job.is_some());
    let start = if on_slurm { "submit" } else { "train" };
    vec![
        (
            "the same run again, from its settled settings and the data named above",
            format!("sirocco {start} {file} --set {name}"),
        ),
        ("whether it could go on", format!("sirocco check {run}")),
        ("what others can use", format!("sirocco export {run} --to {export} {form}")),
        ("these curves in TensorBoard", format!("tensorboard --logdir {run}")),
    ]
}

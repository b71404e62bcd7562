//! Predictions beside what others have published: the median error is held, and docs/plan.md has the table that this prints.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::fmt::Write as _;

use sirocco_config::{Dtype, Parallel, Projection, Recompute};
use sirocco_plan::{Device, Kind, Machine, Model, Texture, Trained, Work, device, step};
use toml::Value;

const DATA: &str = include_str!("../published.toml");
const DOCUMENT: &str = include_str!("../../../docs/plan.md");

/// The bound: half of the predictions are at most so far off.
const MEDIAN: f64 = 0.15;

fn number(value: &Value, key: &str) -> u64 {
    u64::try_from(value[key].as_integer().unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn model(sizes: &Value) -> Model {
    Model {
        layers: number(sizes, "layers"),
        hidden: number(sizes, "hidden"),
        heads: number(sizes, "heads"),
        kv_heads: number(sizes, "kv_heads"),
        head_dim: number(sizes, "head_dim"),
        intermediate: number(sizes, "intermediate"),
        vocabulary: number(sizes, "vocabulary"),
        tied: sizes["tied"].as_bool().unwrap(),
    }
}

fn work(run: &Value, data_ranks: u64) -> Work {
    let (sequence_length, micro_batch) = (number(run, "sequence_length"), number(run, "micro_batch"));
    let trained = match text(run, "method") {
        "lora" => Trained::Lora { rank: 16, targets: Projection::ALL.to_vec() },
        _ => Trained::Full,
    };
    // Enough micro-batches that the optimizer is not what is measured.
    let global_batch = micro_batch * data_ranks * 8;
    let texture = Texture::whole(sequence_length);
    Work { trained, dtype: Dtype::Bf16, sequence_length, micro_batch, global_batch, bucket_bytes: 25 << 20, texture }
}

/// Tokens per second and GPU.
fn predicted(data: &Value, run: &Value) -> f64 {
    let mesh = &run["mesh"];
    let recompute = match text(run, "recompute") {
        "full" => Recompute::Full,
        "attention" => Recompute::Attention,
        _ => Recompute::None,
    };
    let [pp, dp, fsdp, tp] = ["pp", "dp", "fsdp", "tp"].map(|axis| number(mesh, axis));
    let parallel = Parallel { pp, dp, fsdp, tp, recompute, bucket_mb: 25, timeout_s: 300 };
    let gpu = device(text(run, "gpu"), Some(number(run, "memory_gb"))).unwrap();
    let gpus = number(run, "gpus");
    assert_eq!(parallel.ranks(), gpus);
    let machine = Machine {
        kind: Kind::Gpu,
        rates: gpu.rates(Dtype::Bf16),
        ranks_per_node: gpus.min(8),
        within: gpu.within(),
        between: Device::between(number(&run["network"], "ports"), number(&run["network"], "port_gbit")),
    };
    let (model, work) = (model(&data["model"][text(run, "model")]["sizes"]), work(run, parallel.data_ranks()));
    let step = step(&model, &work, &parallel, &machine).unwrap();
    work.tokens() / step.seconds / gpus as f64
}

#[test]
fn half_of_the_predictions_are_near_what_was_published() {
    let data: Value = toml::from_str::<toml::Table>(DATA).unwrap().into();
    let mut errors = Vec::new();
    let mut table =
        String::from("| what | GPUs | published, tokens/s a GPU | predicted | error |\n| --- | --: | --: | --: | --: |\n");
    for run in data["run"].as_array().unwrap() {
        assert!(data["source"].get(text(run, "source")).is_some(), "{run}");
        let published = number(run, "tokens_per_s") as f64;
        let found = predicted(&data, run);
        let error = found / published - 1.0;
        let calibrates = run.get("calibrates").is_some();
        if !calibrates {
            errors.push(error.abs());
        }
        let [name, method, recompute, gpu] = ["model", "method", "recompute", "gpu"].map(|key| text(run, key));
        let of = format!("{name}, {method}, {} tokens, recompute {recompute}", number(run, "sequence_length"));
        let mark = if calibrates { " (calibrates)" } else { "" };
        writeln!(
            table,
            "| {of}{mark} | {} × {gpu} | {published:.0} | {found:.0} | {:+.0} % |",
            number(run, "gpus"),
            100.0 * error
        )
        .unwrap();
    }
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    writeln!(table, "\nMedian error of the {} that calibrate nothing: {:.0} %.", errors.len(), 100.0 * median).unwrap();
    assert!(median <= MEDIAN, "{table}");
    assert!(DOCUMENT.contains(&table), "docs/plan.md: put this table where the one of published speeds is:\n{table}");
}

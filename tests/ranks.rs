//! The same global batch on one rank and on two: the same losses, whatever the micro-batch.

use std::path::Path;

use sirocco_tests::material::workplace;
use sirocco_tests::program::run;
use tempfile::TempDir;

const TOLERANCE: f64 = 1e-6;
/// Gradient norms show what losses hide: AdamW and clipping undo a gradient that is too large by a factor.
const NORM_TOLERANCE: f64 = 1e-5;

/// Loss, gradient norm and target tokens of each step.
fn steps(place: &Path, run_directory: &str) -> Vec<(f64, f64, u64)> {
    let text = std::fs::read_to_string(place.join(run_directory).join("metrics.jsonl")).expect("metrics");
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    rows.filter_map(|row| Some((row["loss"].as_f64()?, row["grad_norm"].as_f64()?, row["target_tokens"].as_u64()?))).collect()
}

#[test]
fn ten_steps_have_the_same_losses_on_one_rank_and_on_two() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    let train = |directory: &str, ranks: &str, micro_batch: &str| {
        let set = format!("train.micro_batch={micro_batch}");
        run("sirocco", &["train", "run.toml", "--dir", directory, "--ranks", ranks, "--set", &set], place.path()).expect_code(0);
        steps(place.path(), directory)
    };
    let one = train("one", "1", "4");
    assert_eq!(one.len(), 10);
    assert!(one[9].0 < 0.9 * one[0].0, "ten steps should teach something: {} to {}", one[0].0, one[9].0);
    for (name, other) in [("two ranks", train("two", "2", "1")), ("two ranks, larger micro-batch", train("two-large", "2", "2"))]
    {
        assert_eq!(other.len(), one.len());
        for (step, (a, b)) in one.iter().zip(&other).enumerate() {
            let difference = (a.0 - b.0).abs() / a.0.abs();
            assert!(
                difference <= TOLERANCE,
                "{name}, step {}: loss {} against {}, relative difference {difference:e}",
                step + 1,
                b.0,
                a.0
            );
            let norms = (a.1 - b.1).abs() / a.1;
            assert!(norms <= NORM_TOLERANCE, "{name}, step {}: gradient norm {} against {}", step + 1, b.1, a.1);
            assert_eq!(a.2, b.2, "{name}, step {}: target tokens", step + 1);
        }
    }
}

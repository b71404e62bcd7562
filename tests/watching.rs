//! A run watches itself: steps without a finite loss are skipped and counted, a hang is told with the rank and the collective, a
//! slow rank is named, and every step says what its collectives moved.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use sirocco_tests::material::{conversation, poison_token, sums};
use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{LIMIT, signal, wait_for};
use sirocco_tests::safetensors;
use sirocco_tests::steps::{RELATIVE, Step};
use sirocco_tests::workplace::Workplace;

/// A character of which the embedding is not a number.
const POISON: char = '~';

/// A workplace whose model makes NaN of [`POISON`], which every conversation holds whose number `holds`.
fn poisoned(holds: impl Fn(usize) -> bool) -> Workplace {
    let place = Workplace::new();
    poison_token(&place.path().join("model"), POISON);
    let line = |(number, line): (usize, &str)| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = |turn: usize| line["messages"][turn]["content"].as_str().expect("a text").to_owned();
        let question = if holds(number) { format!("{}{POISON}", text(0)) } else { text(0) };
        conversation(&question, &text(1)) + "\n"
    };
    fs::write(place.path().join("train.jsonl"), sums().lines().enumerate().map(line).collect::<String>()).expect("the data");
    place
}

fn is_skipped(step: &Step) -> bool {
    step.record["skipped"] == true
}

#[test]
fn a_step_without_a_number_is_skipped_and_the_next_ones_learn() {
    let place = poisoned(|number| number % 16 == 5);
    let settings = "data.packing=false eval.every_steps=0 train.learning_rate=1e-3 train.steps=16";
    let alone = place.trained("alone", settings);
    // Four sums have 4 × 8 tokens of question and frame; one more is the character.
    let clean = alone.iter().map(|step| step.tokens - step.target_tokens).min().expect("steps");
    for step in &alone {
        let holds_it = step.tokens - step.target_tokens > clean;
        assert_eq!(is_skipped(step), holds_it, "step {}", step.record);
        assert_eq!((step.loss.is_finite(), step.record["loss"].is_null()), (!holds_it, holds_it), "step {}", step.record);
    }
    // Sixteen steps of four are all sixty-four sums, four of which hold the character.
    let skipped: Vec<u64> = alone.iter().filter(|step| is_skipped(step)).map(|step| step.step).collect();
    assert!((1..=4).contains(&skipped.len()), "{skipped:?}");
    let learnt: Vec<&Step> = alone.iter().filter(|step| !is_skipped(step)).collect();
    let (first, last) = (learnt[0].loss, learnt[learnt.len() - 1].loss);
    assert!(last < 0.99 * first, "{first} to {last}");
    let finished = place.train("meshed", &format!("{settings} parallel.dp=2 parallel.tp=2")).expect_code(0);
    for (a, b) in alone.iter().zip(place.steps("meshed")) {
        assert_eq!((a.samples(), is_skipped(a)), (b.samples(), is_skipped(&b)));
        assert!(is_skipped(a) || (a.loss - b.loss).abs() <= RELATIVE * a.loss, "step {}: {} against {}", a.step, b.loss, a.loss);
    }
    for step in skipped {
        assert!(finished.stderr.contains(&format!("step {step} was skipped")), "{}", finished.stderr);
    }
}

#[test]
fn too_many_steps_without_a_number_end_the_run_and_change_nothing() {
    let place = poisoned(|_| true);
    let settings = "train.max_skipped_steps=3 checkpoint.every_steps=1 eval.every_steps=0 parallel.dp=2";
    let finished = place.train("run", settings).expect_code(1);
    let finished =
        finished.expect_words(&["error: step 4: the loss is NaN", "4 steps in a row", "nothing was changed", "help: lower"]);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    let steps = place.steps("run");
    assert!(steps.len() >= 3 && steps.iter().all(is_skipped), "{steps:?}");
    // What was saved at step 2 is what the run began with: the factors B are zeros, and A is as the seed made it, which is also
    // what it is after one step with a number, because as long as B is zero A has no gradient.
    let clean = Workplace::new();
    clean.train("run", "--until 1").expect_code(75);
    let factors = |place: &Workplace, options: &[&str]| {
        let files = place.export("run", "adapter", options);
        let (_, weights) = files.iter().find(|(name, _)| name == "adapter_model.safetensors").expect("the weights");
        safetensors::read(weights)
    };
    for (skipped, stepped) in factors(&place, &["--adapter", "--step", "2"]).iter().zip(factors(&clean, &["--adapter"])) {
        assert_eq!(skipped.name, stepped.name);
        if skipped.name.contains("lora_A") {
            assert!(skipped.data == stepped.data && skipped.data.iter().any(|byte| *byte != 0), "{} was changed", skipped.name);
        } else {
            assert!(skipped.data.iter().all(|byte| *byte == 0), "{} was changed", skipped.name);
            assert!(stepped.data.iter().any(|byte| *byte != 0), "{} was not changed by a step", skipped.name);
        }
    }
}

#[test]
fn a_rank_that_hangs_is_named_with_the_collective() {
    let place = Workplace::new();
    let directory = place.path().join("run");
    let running = place.start("run", "train.steps=1000000 eval.every_steps=0 parallel.timeout_s=5 parallel.fsdp=2 parallel.tp=2");
    wait_for("third step", LIMIT, || place.steps("run").get(2).cloned());
    let process = wait_for("process of rank 2", LIMIT, || rank_process(&directory, 2));
    signal("STOP", &process);
    let stopped = Instant::now();
    let finished = running.wait(LIMIT);
    let took = stopped.elapsed();
    signal("KILL", &process);
    let finished = finished.expect_code(1).expect_words(&["no progress in `", "waiting for rank 2"]);
    assert!(took < Duration::from_secs(5 + 15), "ended {took:?} after the rank was stopped\n{}", finished.stderr);
    let collective =
        finished.stderr.split("no progress in ").nth(1).and_then(|rest| rest.split(')').next()).expect("a collective");
    let mut named = 0;
    for rank in [0, 1, 3] {
        let path = directory.join(format!("logs/rank-{rank:05}.trace"));
        let trace = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), finished.stderr));
        assert!(trace.starts_with(&format!("the newest collectives of rank {rank} of 4")), "{trace}");
        assert!(trace.lines().any(|line| line.contains(": failed ")) && trace.lines().count() > 10, "{trace}");
        named += usize::from(trace.lines().any(|line| line.starts_with(collective) && line.contains(": failed ")));
    }
    assert!(named > 0, "no trace holds {collective} as failed");
}

#[test]
fn a_rank_that_is_slow_is_named() {
    let place = Workplace::new();
    let running = place.start("run", "train.steps=1000000 eval.every_steps=0 parallel.dp=2");
    wait_for("third step", LIMIT, || place.steps("run").get(2).cloned());
    let process = wait_for("process of rank 1", LIMIT, || rank_process(&place.path().join("run"), 1));
    let begun = Instant::now();
    // A pause counts only where it falls into the rank's own computing.
    let named = loop {
        signal("STOP", &process);
        std::thread::sleep(Duration::from_millis(500));
        signal("CONT", &process);
        std::thread::sleep(Duration::from_millis(200));
        let slow =
            |step: &Step| step.record["slowest_rank"]["rank"] == 1 && step.record["slowest_rank"]["seconds"].as_f64() > Some(0.3);
        if let Some(step) = place.steps("run").into_iter().find(slow) {
            break step.record;
        }
        assert!(begun.elapsed() < LIMIT, "rank 1 was never named");
    };
    let slowest = &named["slowest_rank"];
    let (seconds, median) = (slowest["seconds"].as_f64(), slowest["median_seconds"].as_f64());
    assert!(median > Some(0.0) && seconds > median, "{named}");
    signal("TERM", &running.id().to_string());
    running.wait(LIMIT).expect_code(75).expect_words(&["is slow: step "]);
}

#[test]
fn every_step_says_what_its_collectives_moved_and_what_memory_it_took() {
    let place = Workplace::new();
    let alone = place.trained("alone", "");
    let both = place.trained("both", "parallel.dp=2");
    for step in alone.iter().chain(&both) {
        let record = &step.record;
        let memory = record["peak_memory_bytes"].as_u64().expect("peak_memory_bytes");
        assert!((10 << 20..64 << 30).contains(&memory), "{record}");
        let (data, seconds) =
            (record["data_seconds"].as_f64().expect("data_seconds"), record["seconds"].as_f64().expect("seconds"));
        assert!(0.0 <= data && data <= seconds, "{record}");
    }
    for step in &both {
        let record = &step.record;
        assert!(record["peak_memory_rank"].as_u64() < Some(2), "{record}");
        let collectives = record["collectives"].as_object().expect("collectives");
        for (name, counts) in collectives {
            let number = |what: &str| counts[what].as_f64().unwrap_or_else(|| panic!("{name}: no {what} in {record}"));
            assert!(number("calls") >= 1.0 && number("seconds") >= 0.0 && number("waited") >= 0.0, "{name}: {record}");
        }
    }
    // The gradient of each factor, fp32, once a step.
    let adapter = place.export("both", "adapter", &["--adapter"]);
    let (_, weights) = adapter.iter().find(|(name, _)| name == "adapter_model.safetensors").expect("the weights");
    let gradients: usize = safetensors::read(weights).iter().map(|tensor| tensor.data.len()).sum();
    for step in &both {
        assert_eq!(step.record["collectives"]["replicas/reduce gradients"]["bytes"], gradients, "{}", step.record);
    }
}

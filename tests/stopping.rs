//! A run that is asked to stop does so soon, whatever it is doing, and nobody calls that an error.

use std::fs;
use std::time::{Duration, Instant};

use sirocco_tests::material::conversation;
use sirocco_tests::program::{Finished, LIMIT, signal, wait_for};
use sirocco_tests::workplace::Workplace;

/// A workplace whose evaluations take many times as long as a test may.
fn slow_to_evaluate() -> Workplace {
    let place = Workplace::new();
    let long = conversation("1 plus 1", &"makes 2 ".repeat(40));
    fs::write(place.path().join("valid.jsonl"), format!("{long}\n").repeat(40_000)).expect("the data");
    place
}

const SETTINGS: &str = "data.sequence_length=512 data.packing=false train.global_batch=2 train.steps=1000000";

fn log(place: &Workplace, rank: usize) -> String {
    fs::read_to_string(place.file("run", &format!("logs/rank-{rank:05}.log"))).unwrap_or_default()
}

/// Starts a run, waits until the first rank's log shows that it evaluates, asks it to stop, and says how it ended.
fn stopped_while_it_evaluates(place: &Workplace, settings: &str, evaluates: impl Fn(&str) -> bool) -> Finished {
    let running = place.start("run", settings);
    wait_for("evaluation", LIMIT, || evaluates(&log(place, 0)).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    signal("INT", &running.id().to_string());
    let finished = running.wait(LIMIT).expect_code(75);
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "stopped {:?} after it was asked to\n{}",
        asked.elapsed(),
        finished.stderr
    );
    assert!(!finished.stderr.contains("error: "), "{}", finished.stderr);
    let log = log(place, 0);
    assert!(log.contains("stopped on request") && !log.contains("ERROR"), "{log}");
    finished
}

#[test]
fn during_the_evaluation_before_the_first_step() {
    for mesh in ["parallel.dp=1", "parallel.dp=2", "parallel.pp=2"] {
        let place = slow_to_evaluate();
        let finished = stopped_while_it_evaluates(&place, &format!("{SETTINGS} {mesh}"), |log| log.contains("training"));
        assert!(finished.stdout.contains("starts from the beginning"), "{mesh}: {}", finished.stdout);
        assert!(log(&place, 0).contains("before the first step"), "{mesh}");
        assert!(!place.file("run", "checkpoints").exists(), "{mesh}");
        // It does: with less to evaluate, to a step.
        place.train("run", "eval.every_steps=0 --until 1").expect_code(75);
    }
}

#[test]
fn during_an_evaluation_between_two_steps() {
    let place = slow_to_evaluate();
    place.train("run", &format!("{SETTINGS} eval.every_steps=0 checkpoint.every_steps=1000 --until 1")).expect_code(75);
    let finished =
        stopped_while_it_evaluates(&place, "eval.every_steps=3 checkpoint.every_steps=1000", |log| log.contains("step=3 "));
    // What was done is saved, though nothing was due.
    assert!(finished.stdout.contains("goes on from step 3\n"), "{}", finished.stdout);
    place.train("run", "eval.every_steps=0 --until 4").expect_code(75).expect_words(&["3 of 1000000 steps done"]);
}

#[test]
fn during_the_last_evaluation_which_is_then_all_that_is_left() {
    let place = slow_to_evaluate();
    let few = SETTINGS.replace("train.steps=1000000", "train.steps=3 eval.every_steps=0 parallel.dp=2");
    let finished = stopped_while_it_evaluates(&place, &few, |log| log.contains("step=3 "));
    assert!(finished.stdout.starts_with("stopped: run, step 3 of 3\n"), "{}", finished.stdout);
    assert!(finished.stdout.contains("goes on from step 3\n"), "{}", finished.stdout);
    assert!(log(&place, 0).contains("the last evaluation is left"));
    assert!(place.held_out_losses("run").is_empty());
    // The same again: whoever stops it while nothing but that is left has lost nothing either.
    let before = log(&place, 0).matches(" training ").count();
    stopped_while_it_evaluates(&place, "", |log| log.matches(" training ").count() > before);
    // With less to evaluate.
    fs::write(place.path().join("valid.jsonl"), format!("{}\n", conversation("1 plus 1", "makes 2"))).expect("the data");
    fs::remove_file(place.file("run", "tokens/valid.tokens")).expect("the tokens");
    place.train("run", "").expect_code(0).expect_words(&["3 of 3 steps done and the last evaluation left"]);
    assert_eq!(place.held_out_losses("run").len(), 1);
    assert_eq!(place.steps("run").len(), 3);
    let again = place.train("run", "").expect_code(0);
    assert!(again.stdout.starts_with("nothing left to do: run, step 3 of 3\n"), "{}", again.stdout);
    assert_eq!(place.held_out_losses("run").len(), 1);
}

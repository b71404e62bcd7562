//! A run that was stopped and resumed: on the same mesh bit for bit the one that ran through; on another mesh the same samples in
//! the same order, with the losses that the undisturbed run has.

use std::fs;

use sirocco_tests::program::run;
use sirocco_tests::safetensors;
use sirocco_tests::steps::{Step, assert_equal, assert_near};
use sirocco_tests::workplace::Workplace;

/// Four sequences a step of one conversation each, no two conversations alike in their counts of tokens: the counts of a step
/// tell which ones it took.
const SAMPLES: &str = "data.packing=false data.sequence_length=128 checkpoint.keep=9";
const LORA: &str = "train.learning_rate=1e-3";
const FULL: &str = "method.kind=full train.learning_rate=1e-4";

/// Ten steps at once and in three parts on one mesh give the same metrics and the same export.
fn is_bitwise(place: &Workplace, method: &str, mesh: &str, export: &[&str]) {
    let settings = format!("{SAMPLES} {method} {mesh}");
    let through = place.trained("through", &settings);
    place.train("parts", &format!("{settings} --until 3")).expect_code(75);
    place.train("parts", "--until 7").expect_code(75);
    assert_equal(mesh, &through, &place.trained("parts", ""));
    assert!(
        place.export("through", "export-through", export) == place.export("parts", "export-parts", export),
        "{mesh}: exports"
    );
}

#[test]
fn the_same_mesh_is_bitwise_for_an_adapter() {
    for mesh in ["parallel.dp=1", "parallel.dp=2", "parallel.tp=2"] {
        is_bitwise(&Workplace::new().with_lengths(), LORA, mesh, &["--adapter"]);
    }
    is_bitwise(&Workplace::new().with_lengths(), LORA, "parallel.fsdp=2 parallel.tp=2", &["--adapter"]);
}

#[test]
fn the_same_mesh_is_bitwise_for_every_weight() {
    for mesh in ["parallel.fsdp=2", "parallel.pp=2"] {
        is_bitwise(&Workplace::new().with_lengths(), FULL, mesh, &["--merge", "--dtype", "fp32"]);
    }
}

/// The undisturbed run on one rank.
fn undisturbed(place: &Workplace, settings: &str) -> Vec<Step> {
    let steps = place.trained("alone", settings);
    assert_eq!(steps.len(), 10);
    let counts: std::collections::BTreeSet<_> = steps.iter().map(|step| (step.tokens, step.target_tokens)).collect();
    assert_eq!(counts.len(), 10, "each step is known by its counts: {counts:?}");
    steps
}

/// Saved at step 5 on `first`; each of the others goes on from a copy of that, to the end or to where the next one takes over.
fn goes_on_elsewhere(place: &Workplace, settings: &str, first: &str, others: &[&str]) {
    let alone = undisturbed(place, settings);
    place.train("saved", &format!("{settings} {first} --until 5")).expect_code(75);
    for (number, mesh) in others.iter().enumerate() {
        let copy = format!("saved-{number}");
        place.copy("saved", &copy);
        // Whatever an axis was before.
        let mesh = format!("parallel.dp=1 parallel.fsdp=1 parallel.tp=1 parallel.pp=1 {mesh}");
        assert_near(&format!("{first}, then {mesh}"), &alone, &place.trained(&copy, &mesh));
    }
}

#[test]
fn half_double_and_other_meshes_go_on_with_an_adapter() {
    let settings = format!("{SAMPLES} {LORA} train.global_batch=8");
    let others = [
        "",
        "parallel.fsdp=2",
        "parallel.pp=3",
        "train.micro_batch=2 parallel.fsdp=4",
        "parallel.dp=2 parallel.fsdp=2 parallel.tp=2",
    ];
    goes_on_elsewhere(&Workplace::new().with_lengths(), &settings, "parallel.dp=2 parallel.tp=2", &others);
}

#[test]
fn half_double_and_other_meshes_go_on_with_every_weight() {
    let settings = format!("{SAMPLES} {FULL} train.global_batch=8");
    let others = ["parallel.tp=2", "parallel.dp=4 parallel.tp=2"];
    goes_on_elsewhere(&Workplace::new().with_lengths(), &settings, "parallel.pp=2 parallel.fsdp=2", &others);
    let others = ["parallel.fsdp=2", "parallel.pp=2 parallel.tp=2"];
    goes_on_elsewhere(&Workplace::tied().with_lengths(), &settings, "parallel.pp=2", &others);
}

#[test]
fn one_sample_a_step_shows_their_order() {
    // One sequence a step, so that the counts of a step are those of one conversation; forty-eight of them, and twelve again.
    let settings = format!("{SAMPLES} {LORA} train.global_batch=1 train.steps=60 checkpoint.every_steps=100 eval.every_steps=0");
    let place = Workplace::new().with_lengths();
    let alone = place.trained("alone", &settings);
    let epoch: std::collections::BTreeSet<_> = alone[..48].iter().map(|step| (step.tokens, step.target_tokens)).collect();
    assert_eq!(epoch.len(), 48, "an epoch holds each conversation once");
    place.train("parts", &format!("{settings} parallel.tp=2 --until 20")).expect_code(75);
    place.train("parts", "parallel.tp=1 parallel.pp=3 --until 40").expect_code(75);
    let parts = place.trained("parts", "parallel.pp=2 parallel.tp=2");
    let samples = |steps: &[Step]| steps.iter().map(Step::samples).collect::<Vec<_>>();
    assert_eq!(samples(&alone), samples(&parts));
}

/// Names, types and shapes of a safetensors file.
fn layout(file: &[u8]) -> Vec<(String, String, Vec<usize>)> {
    safetensors::read(file).into_iter().map(|tensor| (tensor.name, tensor.dtype, tensor.shape)).collect()
}

#[test]
fn exports_of_a_checkpoint_agree_whatever_mesh_saved_it() {
    let place = Workplace::new().with_lengths();
    let settings = format!("{SAMPLES} {LORA}");
    place.trained("alone", &settings);
    let alone = place.export("alone", "adapter-alone", &["--adapter"]);
    for (number, mesh) in ["parallel.dp=2 parallel.tp=2", "parallel.pp=3", "parallel.fsdp=2 parallel.tp=2"].iter().enumerate() {
        let (run, adapter, merged) = (format!("run-{number}"), format!("adapter-{number}"), format!("merged-{number}"));
        place.trained(&run, &format!("{settings} {mesh}"));
        let files = place.export(&run, &adapter, &["--adapter"]);
        // The same files; the same tensors under the same names, shapes and types: only values differ, by rounding.
        assert_eq!(files.len(), alone.len(), "{mesh}");
        for ((name, expected), (found_name, found)) in alone.iter().zip(&files) {
            assert_eq!(name, found_name, "{mesh}");
            if name.ends_with(".safetensors") {
                assert_eq!(layout(expected), layout(found), "{mesh}: {name}");
            } else {
                assert!(expected == found, "{mesh}: {name}");
            }
        }
        place.export(&run, &merged, &["--merge", "--dtype", "fp32"]);
        let (with_adapter, whole) = (place.loss(&["model", "--adapter", &adapter]), place.loss(&[&merged]));
        assert!((with_adapter - whole).abs() <= 1e-6 * whole, "{mesh}: base with adapter {with_adapter}, merged {whole}");
        let held_out = *place.held_out_losses(&run).last().expect("an evaluation");
        assert!((whole - held_out).abs() <= 1e-5 * held_out, "{mesh}: merged {whole}, in training {held_out}");
        // What is exported is the checkpoint, whichever mesh reads it: resuming elsewhere at its end changes nothing.
        place.train(&run, "parallel.dp=1 parallel.fsdp=1 parallel.tp=1 parallel.pp=1").expect_code(0);
        assert!(place.export(&run, &format!("{adapter}-again"), &["--adapter"]) == files, "{mesh}: exported twice");
    }
}

#[test]
fn a_run_that_is_complete_says_so_and_changes_nothing() {
    let place = Workplace::new();
    let before = place.trained("run", "");
    assert_equal("resumed at its end", &before, &place.trained("run", ""));
}

#[test]
fn settings_that_were_changed_by_hand_are_refused_before_and_by_training_with_the_same_words() {
    let place = Workplace::new();
    place.train("run", "--until 5").expect_code(75);
    let check = || run("sirocco", &["check", "run"], place.path());
    check().expect_code(0);
    let file = place.file("run", "run.toml");
    let text = fs::read_to_string(&file).expect("the run file");
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1)).expect("the run file");
    };
    edit("learning_rate = 0.01\n", "learning_rate = 0.02\n");
    let words = [
        "error: the checkpoint of step 5 was made with other settings than run.toml has now; of a run that has begun only",
        "help: put the settings back as the run was started, or start a new run",
    ];
    check().expect_code(2).expect_words(&words);
    place.train("run", "").expect_code(2).expect_words(&words);
    edit("micro_batch = 1\n", "micro_batch = 2\n");
    check().expect_code(0);
}

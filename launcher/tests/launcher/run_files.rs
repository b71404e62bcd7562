//! What `sirocco check` and `train` say about a run file that is wrong: the words and the exit code.

use crate::bench::{Bench, Finished};

const RUN: &str = "\
name = \"x\"
[model]
path = \"models/m\"
[data]
train = [\"train.jsonl\"]
[train]
steps = 60
global_batch = 8
";

fn check(text: &str, options: &[&str]) -> Finished {
    let bench = Bench::new();
    bench.write("run.toml", text);
    bench.run(&[&["check", "run.toml"], options].concat())
}

#[test]
fn misspelt_settings() {
    insta::assert_snapshot!("unknown-setting", check(&format!("{RUN}lerning_rate = 1e-4\n"), &[]).text());
    insta::assert_snapshot!("unknown-setting-json", check(&format!("{RUN}lerning_rate = 1e-4\n"), &["--json"]).text());
    insta::assert_snapshot!("unknown-section", check(&format!("{RUN}[paralel]\ndp = 2\n"), &[]).text());
    insta::assert_snapshot!("unknown-override", check(RUN, &["--set", "train.stesp=80"]).text());
    insta::assert_snapshot!("not-toml", check("name = \n", &[]).text());
}

#[test]
fn values_out_of_range() {
    insta::assert_snapshot!("range", check(&RUN.replace("60", "0"), &[]).text());
    insta::assert_snapshot!("range-of-an-override", check(RUN, &["--set", "train.learning_rate=-1"]).text());
    insta::assert_snapshot!("global-batch", check(&format!("{RUN}micro_batch = 3\n"), &["--ranks", "2"]).text());
    insta::assert_snapshot!("override-without-value", check(RUN, &["--set", "train.steps"]).text());
}

#[test]
fn sets_and_sites_that_are_not_there() {
    insta::assert_snapshot!("policy", check(RUN, &["--set", "policy.set=configs/policies/ministry"]).text());
    insta::assert_snapshot!("site", check(RUN, &["--set", "site.profile=meluxina"]).text());
}

#[test]
fn meshes_that_do_not_fit() {
    let mesh = |set: &[&str]| {
        let sets: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
        check(RUN, &[&sets[..], &["--ranks", "6"]].concat()).text()
    };
    insta::assert_snapshot!("ranks", mesh(&["parallel.fsdp=2", "parallel.tp=2"]));
    insta::assert_snapshot!("ranks-and-dp", mesh(&["parallel.dp=6"]));
    insta::assert_snapshot!("mesh-too-large", check(RUN, &["--set", "parallel.fsdp=65536", "--set", "parallel.tp=2"]).text());
    insta::assert_snapshot!("global-batch-of-a-mesh", mesh(&["parallel.fsdp=3", "train.micro_batch=2"]));
}

#[test]
fn files_that_are_not_there() {
    let bench = Bench::new();
    insta::assert_snapshot!("no-run-file", bench.run(&["train", "run.toml"]).text());
    bench.write("run.toml", RUN);
    insta::assert_snapshot!("no-model", bench.run(&["train", "run.toml"]).text());
    assert!(!bench.path("runs").exists(), "a refusal leaves nothing behind");
    insta::assert_snapshot!("no-model-to-inspect", bench.run(&["model", "inspect", "models/m"]).text());
    insta::assert_snapshot!("no-model-to-convert", bench.run(&["model", "convert", "m.gguf", "models/m"]).text());
    insta::assert_snapshot!("no-tokenizer", bench.run(&["tokenize", "--tokenizer", "models/m", "--text", "a.txt"]).text());
    bench.write("models/m/notes.txt", "");
    insta::assert_snapshot!("no-model-in-the-directory", bench.run(&["model", "verify", "models/m"]).text());
    insta::assert_snapshot!(
        "no-tokenizer-in-the-directory",
        bench.run(&["tokenize", "--tokenizer", "models/m", "--text", "a.txt"]).text()
    );
}

#[test]
fn init_writes_a_run_file_once() {
    let bench = Bench::new();
    insta::assert_snapshot!("init", bench.run(&["init", "darija"]).text());
    assert!(bench.read("darija/run.toml").contains("name = \"darija\""));
    insta::assert_snapshot!("init-again", bench.run(&["init", "darija"]).text());
    let full = bench.run(&["init", "full", "--recipe", "full", "--json"]);
    assert_eq!((full.code, full.json()["run_file"].as_str()), (Some(0), Some("full/run.toml")));
    assert!(bench.read("full/run.toml").contains("kind = \"full\""));
}

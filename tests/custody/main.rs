//! A run under custody: the policy is asked on every rank, checkpoints are signed and named in the ledger, and nothing else is gone on from.

mod approvals;
mod bases;
mod checkpoints;
mod exports;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sirocco_tests::program::{Finished, LIMIT, Running, command, run};
use sirocco_tests::workplace::Workplace;

/// Engineers may do everything, but where the rule `residency` forbids it: what `letters` lead to stays in its countries.
const RULES: &str = r#"@id("all")
permit(principal, action, resource);
@id("residency")
@advice("ask whoever answers for the data")
forbid(principal, action in [Action::"train", Action::"resume", Action::"export", Action::"merge"], resource) when {
  CONDITION
};
"#;

const ABROAD: &str = "!resource.residency.anywhere && !resource.residency.countries.contains(context.site.country)";

/// Writes a set of rules with one more condition under which the rule `residency` refuses, and makes the run ask it.
fn rules(place: &Workplace, run_directory: &str, condition: &str, country: &str) {
    let set = place.path().join("rules");
    fs::create_dir_all(&set).expect("the set");
    fs::write(set.join("policy.cedar"), RULES.replace("CONDITION", condition)).expect("the rules");
    let data = |name: &str| {
        let path = place.path().join(format!("{name}.jsonl"));
        format!("[data.{name}]\npath = {:?}\nresidency = [\"LU\"]\n", fs::canonicalize(path).expect("the data"))
    };
    let model = fs::canonicalize(place.path().join("model")).expect("the model");
    let model = format!("[model.tiny]\npath = {model:?}\nresidency = \"anywhere\"\n");
    let site = format!("[site.local]\ncountry = \"{country}\"\n");
    fs::write(set.join("facts.toml"), [data("train"), data("valid"), model, site].concat()).expect("the facts");
    let path = place.file(run_directory, "run.toml");
    let text = fs::read_to_string(&path).expect("run.toml");
    let asked = text.replacen("set = \"configs/policies/open\"", &format!("set = {:?}", set.display().to_string()), 1);
    assert!(asked.contains(&set.display().to_string()), "{text}");
    fs::write(path, asked).expect("run.toml");
}

/// One rank alone, or as many under mpirun, without the launcher: what it asks itself is not what is tested here.
fn ranks(place: &Workplace, run_directory: &str, ranks: usize) -> Finished {
    let own = ["run", "--dir", run_directory, "--threads", "1", "--comm"];
    if ranks == 1 {
        return run("sirocco-train", &[&own[..], &["solo"]].concat(), place.path());
    }
    let program = command("sirocco-train", &[], place.path());
    let mut mpirun = Command::new(std::env::var_os("SIROCCO_MPIRUN").unwrap_or_else(|| "mpirun".into()));
    mpirun.args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none", "--stdin", "none"]).arg(program.get_program());
    mpirun.args(own).arg("mpi").current_dir(place.path()).env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
    mpirun.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    Running::start(&mut mpirun).wait(LIMIT)
}

/// Everything that stands in a run's ledger, as text: enough to look for a word.
fn ledger(place: &Workplace, run_directory: &str) -> String {
    let mut text = String::new();
    let mut open = vec![place.file(run_directory, "ledger")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).expect("the ledger").flatten().map(|entry| entry.path()));
        } else {
            text.push_str(&String::from_utf8_lossy(&fs::read(path).expect("a file of the ledger")));
        }
    }
    text
}

#[track_caller]
fn refused(finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.expect_code(code).expect_words(&["error: ", "help: "]).expect_words(words);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

/// A run of two ranks that has not made a step.
fn prepared() -> Workplace {
    let place = Workplace::new();
    place.prepare("run", "parallel.dp=2");
    place
}

fn rules_at(place: &Workplace, country: &str) {
    let path = place.path().join("rules/facts.toml");
    let text = fs::read_to_string(&path).expect("the facts");
    let (before, _) = text.split_once("country = ").expect("a country");
    fs::write(path, format!("{before}country = \"{country}\"\n")).expect("the facts");
}

/// A finished run with checkpoints of steps 5 and 10, and the directory of one of them.
fn saved() -> Workplace {
    let place = Workplace::new();
    place.train("run", "").expect_code(0);
    place
}

fn step(place: &Workplace, number: u64) -> PathBuf {
    place.file("run", &format!("checkpoints/step-{number:08}"))
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file of the checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a file of the checkpoint");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}

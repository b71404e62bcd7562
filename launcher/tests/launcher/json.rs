//! What `--json` prints is what json.md says: every field of every command stands in its section.
use serde_json::Value;
use sirocco_tests::material::workplace;

use crate::bench::Bench;

const DOCUMENT: &str = include_str!("../../json.md");

/// The names between backquotes in the section of a command.
pub(crate) fn documented(command: &str) -> Vec<&'static str> {
    let mut sections = DOCUMENT.split("\n## ");
    let section =
        sections.find(|section| section.lines().next().is_some_and(|title| title.split(", ").any(|name| name == command)));
    section.unwrap_or_else(|| panic!("json.md has no section {command}")).split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_field_of_a_directory_of_runs_is_documented() {
    let bench = Bench::with_trainer("ready; for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    bench.run(&["train", "run.toml"]);
    for command in ["status", "watch"] {
        let finished = bench.run(&[command, "runs", "--json"]);
        let object: Value = serde_json::from_str(finished.out.lines().next().unwrap_or_default()).unwrap();
        for field in fields(&object) {
            assert!(documented(command).contains(&field.as_str()), "{command}: `{field}` is not in json.md: {object}");
        }
    }
}

fn fields(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[test]
fn every_field_is_documented() {
    let bench = Bench::with_trainer("ready; for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    let commands: &[(&str, &[&str])] = &[
        ("init", &["init", "new", "--json"]),
        ("model inspect", &["model", "inspect", "model", "--json"]),
        ("model verify", &["model", "verify", "model", "--json"]),
        ("check", &["check", "run.toml", "--json"]),
        ("plan", &["plan", "run.toml", "--json"]),
        ("train", &["train", "run.toml", "--json"]),
        ("status", &["status", "runs/tiny", "--json"]),
        ("watch", &["watch", "runs/tiny", "--json"]),
        ("logs", &["logs", "runs/tiny", "--json"]),
        ("report", &["report", "runs/tiny", "--json"]),
        ("site list", &["site", "list", "--json"]),
        ("site show", &["site", "show", "lumi", "--json"]),
        ("site check", &["site", "check", "local", "--json"]),
        ("doctor", &["doctor", "--json"]),
        ("policy check", &["policy", "check", "run.toml", "--json"]),
        ("policy explain", &["policy", "explain", "run.toml", "--json"]),
        ("policy init", &["policy", "init", "rules", "--from", "open", "--json"]),
        ("policy test", &["policy", "test", "rules", "--json"]),
        ("keys new", &["keys", "new", "keys", "--json"]),
        ("keys show", &["keys", "show", "keys", "--json"]),
        ("policy sign", &["policy", "sign", "rules", "--key", "keys/release.key", "--json"]),
        (
            "policy approve",
            &["policy", "approve", "runs/tiny", "--action", "export", "--as", "amal", "--key", "keys/release.key", "--json"],
        ),
        ("submit --dry-run", &["submit", "run.toml", "--set", "site.profile=slurm", "--dry-run", "--json"]),
    ];
    for (command, arguments) in commands {
        let finished = bench.run(arguments);
        let object: Value =
            serde_json::from_str(finished.out.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{finished:?}"));
        let documented = documented(command);
        for field in fields(&object) {
            let stands = |name: &&str| name == field || name.starts_with(&format!("{field}."));
            assert!(documented.iter().any(stands), "{command}: `{field}` is not in json.md: {object}");
        }
        let first = ["chain", "ranks", "runs"].iter().filter_map(|name| object.get(name)?.get(0));
        for nested in ["architecture", "findings"].iter().filter_map(|name| object.get(name)).chain(first) {
            fields(nested).iter().for_each(|field| assert!(documented.contains(&field.as_str()), "{command}: `{field}`"));
        }
    }
}

#[test]
fn documented_fields_of_train_and_status_are_printed() {
    let bench = Bench::with_trainer("for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    let keys = |value: &Value| fields(value).iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&bench.run(&["train", "run.toml", "--json"]).json()),
        "state name run_dir ranks step steps first_loss loss first_valid_loss valid_loss tokens seconds tokens_per_s \
         peak_memory_bytes peak_memory_rank skipped_steps checkpoint confinement"
    );
    assert_eq!(
        keys(&bench.run(&["status", "runs/tiny", "--json"]).json()),
        "name run_dir state step steps loss valid_loss tokens_per_s left_s skipped_steps checkpoint slowest_rank \
         peak_memory_bytes peak_memory_rank last_end record chain slurm_answers slurm_silence ranks"
    );
}

#[test]
fn doctor_says_what_is_missing_and_how_to_get_it() {
    let bench = Bench::new();
    let finished = bench.run(&["doctor"]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    assert!(finished.out.contains("libtorch  missing") && finished.out.contains("make build"), "{finished:?}");
    bench.write_program("sirocco-train", "#!/bin/sh\n[ \"$*\" = 'doctor --json' ] && echo '{\"libtorch\":\"2.11.0\"}'\n");
    let finished = bench.run(&["doctor", "--json"]);
    assert_eq!((finished.code, &finished.json()["ready"]), (Some(0), &true.into()), "{finished:?}");
    let mut command = bench.command(&["doctor"]);
    let without = command.env("SIROCCO_MPIRUN", "nowhere/mpirun").output().unwrap();
    assert_eq!(without.status.code(), Some(5));
}

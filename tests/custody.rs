//! A run under custody: the policy is asked on every rank, checkpoints are signed and named in the ledger, and nothing else is gone on from.

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

/// A run of two ranks that has not made a step: the launcher starts an mpirun that does nothing.
fn prepared() -> Workplace {
    let place = Workplace::new();
    place.prepare("run", "parallel.dp=2");
    place
}

#[test]
fn a_run_where_the_data_may_not_be_makes_no_step() {
    for count in [1, 2] {
        let place = prepared();
        if count == 1 {
            let path = place.file("run", "run.toml");
            let text = fs::read_to_string(&path).expect("run.toml");
            fs::write(&path, text.replacen("dp = 2", "dp = 1", 1)).expect("run.toml");
        }
        rules(&place, "run", ABROAD, "IT");
        refused(
            ranks(&place, "run", count),
            3,
            &["rule residency", "checkpoint:tiny", "ask whoever answers", "sirocco policy explain"],
        );
        assert!(!place.file("run", "checkpoints").exists());
        let metrics = fs::read_to_string(place.file("run", "metrics.jsonl")).unwrap_or_default();
        assert!(!metrics.contains("\"loss\""), "no step: {metrics}");
        let said = ledger(&place, "run");
        assert!(said.contains("\"verb\":\"policy.train\"") && said.contains("\"allowed\":false"), "{said}");
        assert!(!said.contains("run.started"), "{said}");
        // At home it goes on.
        rules_at(&place, "LU");
        ranks(&place, "run", count).expect_code(0);
        let said = ledger(&place, "run");
        for verb in ["policy.train", "run.started", "checkpoint.published", "run.ended"] {
            assert!(said.contains(&format!("\"verb\":\"{verb}\"")), "{verb}: {said}");
        }
        // And may not go on from there elsewhere.
        rules_at(&place, "IT");
        refused(ranks(&place, "run", count), 3, &["rule residency", "resume checkpoint:tiny"]);
    }
}

#[test]
fn tokens_of_other_data_are_refused_before_the_first_step() {
    for side in ["train", "valid"] {
        let place = prepared();
        let data = place.path().join(format!("{side}.jsonl"));
        let text = fs::read_to_string(&data).expect("the data");
        fs::write(&data, format!("{text}{text}")).expect("other data");
        place.prepare("other", "parallel.dp=2");
        let tokens = format!("tokens/{side}.tokens");
        fs::copy(place.file("other", &tokens), place.file("run", &tokens)).expect("other tokens");
        let words = [format!("{side}.tokens: found tokens with the digest "), "the run's ledger names ".to_owned()];
        refused(ranks(&place, "run", 2), 4, &[&words[0], &words[1]]);
        assert!(!place.file("run", "checkpoints").exists());
    }
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

#[test]
fn a_checkpoint_with_one_other_byte_is_not_gone_on_from_and_not_exported() {
    let place = saved();
    let kept = place.path().join("kept");
    let names: Vec<String> = fs::read_dir(step(&place, 10))
        .expect("the checkpoint")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in &names {
        let file = step(&place, 10).join(name);
        fs::copy(&file, &kept).expect("a copy");
        flip(&file);
        let words: &[&str] = &["step-00000010"];
        refused(ranks(&place, "run", 1), 4, words);
        for form in ["--adapter", "--merge"] {
            refused(run("sirocco-train", &["export", "run", "--to", "out", form], place.path()), 4, words);
            assert!(!place.path().join("out").exists(), "{name}");
        }
        fs::copy(&kept, &file).expect("the file as it was");
    }
    ranks(&place, "run", 1).expect_code(0);
}

#[test]
fn an_older_checkpoint_in_the_place_of_the_newest_is_refused() {
    let place = saved();
    let latest = place.file("run", "checkpoints/LATEST");
    // LATEST leads back, and the newest is whole.
    fs::write(&latest, "step-00000005\n").expect("LATEST");
    let words = &["goes on from step 5", "step 10, which was published last", "echo step-00000010 > "];
    refused(ranks(&place, "run", 1), 4, words);
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path()), 4, words);
    // Unless nobody came to naming it: killed between the checkpoint's name and LATEST.
    fs::write(place.file("run", "checkpoints/.naming"), "step-00000010").expect("what a killed process leaves");
    ranks(&place, "run", 1).expect_code(0);
    assert_eq!(fs::read_to_string(&latest).expect("LATEST"), "step-00000010\n");
    assert!(!place.file("run", "checkpoints/.naming").exists());
    fs::write(&latest, "step-00000005\n").expect("LATEST");
    // One that was asked for by its step is exported.
    run("sirocco-train", &["export", "run", "--to", "five", "--adapter", "--step", "5"], place.path()).expect_code(0);
    // An earlier one of the same step, with its own good signature.
    place.copy("run", "before");
    fs::remove_dir_all(step(&place, 10)).expect("the newest");
    ranks(&place, "run", 1).expect_code(0).expect_words(&[]);
    fs::remove_dir_all(step(&place, 10)).expect("the new one");
    let old = place.file("before", "checkpoints/step-00000010");
    copy(&old, &step(&place, 10));
    refused(ranks(&place, "run", 1), 4, &["step-00000010", "another checkpoint than the one that the run's ledger names"]);
    refused(
        run("sirocco-train", &["export", "run", "--to", "out", "--adapter", "--step", "10"], place.path()),
        4,
        &["another checkpoint"],
    );
    // Without its ledger it is nobody's.
    fs::remove_dir_all(place.file("run", "ledger")).expect("the ledger");
    refused(ranks(&place, "run", 1), 4, &["names no checkpoint of this step"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}

#[test]
fn a_checkpoint_without_a_signature_is_refused() {
    let place = saved();
    for name in ["origin.json", "provenance.intoto.jsonl", "model.sig"] {
        fs::remove_file(step(&place, 10).join(name)).expect("a file of the signature");
    }
    let words = &["step-00000010 has no signature", "--dir run-again"];
    refused(ranks(&place, "run", 1), 4, words);
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--merge"], place.path()), 4, words);
}

#[test]
fn a_lost_key_is_told_before_the_first_step() {
    let place = prepared();
    ranks(&place, "run", 2).expect_code(0).expect_words(&["made the keys"]);
    let key = place.path().join(sirocco_tests::program::CONFIG_HOME).join("sirocco/keys/release.key");
    fs::remove_file(&key).expect("the key");
    refused(ranks(&place, "run", 2), 2, &["release.key", "no private key", "policy.keys"]);
    // None are made in their place, and others cannot go on with what they have sealed.
    let keys = key.parent().expect("the keys");
    fs::remove_dir_all(keys).expect("the keys");
    refused(ranks(&place, "run", 2), 2, &["there are no keys", "is sealed already", "put back the keys"]);
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path()), 2, &["there are no keys"]);
    run("sirocco", &["keys", "new", &keys.display().to_string()], place.path()).expect_code(0);
    refused(ranks(&place, "run", 2), 2, &["the ledger was sealed by", "put back the keys"]);
}

#[test]
fn an_export_is_refused_by_rule_and_recorded_where_it_is_not() {
    let place = prepared();
    rules(&place, "run", ABROAD, "LU");
    ranks(&place, "run", 2).expect_code(0);
    rules_at(&place, "IT");
    for (form, words) in
        [("--adapter", ["export adapter:tiny", "rule residency"]), ("--merge", ["merge merged:tiny", "rule residency"])]
    {
        refused(run("sirocco-train", &["export", "run", "--to", "out", form], place.path()), 3, &words);
        assert!(!place.path().join("out").exists());
    }
    let said = ledger(&place, "run");
    assert!(said.contains("\"verb\":\"policy.export\"") && said.contains("\"verb\":\"policy.merge\""), "{said}");
    assert!(!said.contains("artefact.exported"), "{said}");
    rules_at(&place, "LU");
    run("sirocco-train", &["export", "run", "--to", "out", "--merge"], place.path()).expect_code(0);
    assert!(ledger(&place, "run").contains("\"verb\":\"artefact.exported\""));
    let origin = fs::read_to_string(place.path().join("out/origin.json")).expect("the record");
    for word in ["merged:tiny", "checkpoint:tiny", "data:train", "model:tiny", "LU"] {
        assert!(origin.contains(word), "{word}: {origin}");
    }
}

#[test]
fn a_run_keeps_the_rules_that_it_began_with() {
    let place = prepared();
    rules(&place, "run", ABROAD, "LU");
    ranks(&place, "run", 2).expect_code(0);
    let path = place.file("run", "run.toml");
    let began = fs::read_to_string(&path).expect("run.toml");
    let set = format!("set = {:?}", place.path().join("rules").display().to_string());
    assert!(began.contains(&set), "{began}");
    fs::write(&path, began.replace(&set, "set = \"configs/policies/open\"")).expect("run.toml");
    let words = ["run.toml: found [policy] set = \"configs/policies/open\"", "what the run began with", "put it back"];
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path()), 4, &words);
    refused(ranks(&place, "run", 2), 4, &words);
    assert!(!place.path().join("out").exists());
    fs::write(&path, began).expect("run.toml");
    run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path()).expect_code(0);
}

#[test]
fn what_the_facts_say_now_of_a_place_holds_for_what_was_made_of_it() {
    let place = prepared();
    rules(&place, "run", ABROAD, "LU");
    ranks(&place, "run", 2).expect_code(0);
    let facts = place.path().join("rules/facts.toml");
    let before = fs::read_to_string(&facts).expect("the facts");
    // What lies there may stay in France alone, as somebody has found out since.
    fs::write(&facts, before.replacen("residency = [\"LU\"]", "residency = [\"FR\"]", 1)).expect("the facts");
    let export = || run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path());
    refused(export(), 3, &["export adapter:tiny", "rule residency"]);
    fs::write(&facts, before).expect("the facts");
    export().expect_code(0);
}

#[test]
fn a_plan_knows_what_the_newest_checkpoint_says_of_itself() {
    let place = prepared();
    rules(&place, "run", ABROAD, "LU");
    ranks(&place, "run", 2).expect_code(0);
    let facts = place.path().join("rules/facts.toml");
    let text = fs::read_to_string(&facts).expect("the facts");
    let milder = text.replace("residency = [\"LU\"]", "residency = \"anywhere\"").replace("country = \"LU\"", "country = \"IT\"");
    fs::write(&facts, milder).expect("the facts");
    refused(run("sirocco", &["check", "run"], place.path()), 3, &["resume checkpoint:tiny", "rule residency"]);
}

#[test]
fn a_merged_model_leaves_its_run_as_an_adapter_does() {
    let place = prepared();
    rules(&place, "run", "action == Action::\"export\"", "LU");
    ranks(&place, "run", 2).expect_code(0);
    for (form, made) in [("--adapter", "export adapter:tiny"), ("--merge", "export merged:tiny")] {
        refused(run("sirocco-train", &["export", "run", "--to", "out", form], place.path()), 3, &[made, "rule residency"]);
        assert!(!place.path().join("out").exists());
    }
    assert!(ledger(&place, "run").contains("\"verb\":\"policy.merge\""), "it was asked whether the adapter may go into its base");
}

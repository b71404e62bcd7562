//! A run that may not be trained here makes no step, and one that began keeps its rules.

use std::fs;

use sirocco_tests::program::run;

use super::{ABROAD, ledger, prepared, ranks, refused, rules, rules_at};

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

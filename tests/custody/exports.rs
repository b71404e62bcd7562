//! What leaves a run is asked about, and signed.

use std::fs;

use sirocco_tests::program::run;

use super::{ABROAD, ledger, prepared, ranks, refused, rules, rules_at};

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

//! What nobody may do alone: the run is prepared, somebody else approves, and it is trained.

use std::fs;

use sirocco_tests::program::{Finished, run};
use sirocco_tests::workplace::Workplace;

use super::{ledger, refused, rules};

/// Allowed where somebody approved whose role the facts name.
const ALONE: &str = "!context.approvedByRoles.contains(\"reviewer\")";

#[test]
fn a_run_is_prepared_then_approved_then_trained() {
    let place = Workplace::new();
    let sirocco = |words: &[&str]| run("sirocco", words, place.path());
    fs::create_dir(place.path().join("trust")).expect("the trusted keys");
    for name in ["keys", "amal"] {
        sirocco(&["keys", "new", name]).expect_code(0);
        fs::copy(place.file(name, "release.pub"), place.path().join(format!("trust/{name}.pub"))).expect("a public key");
    }
    let roles = "{\"keys\": [\"checkpoint\", \"release\"], \"amal\": [\"approve\"]}";
    fs::write(place.path().join("trust/roles.json"), roles).expect("the roles");
    let path = place.path().join("run.toml");
    let text = fs::read_to_string(&path).expect("run.toml");
    fs::write(&path, text + "[policy]\nset = \"configs/policies/open\"\nkeys = \"keys\"\ntrust = \"trust\"\n").expect("run.toml");
    rules(&place, "", ALONE, "LU");
    let facts = place.path().join("rules/facts.toml");
    let text = fs::read_to_string(&facts).expect("the facts");
    fs::write(&facts, text + "[person.amal]\nroles = [\"reviewer\"]\n").expect("the facts");

    refused(sirocco(&["train", "run.toml", "--dir", "run"]), 3, &["train checkpoint:tiny", "rule residency"]);
    assert!(!place.path().join("run").exists());
    let prepared = sirocco(&["train", "run.toml", "--dir", "run", "--until", "0", "--json"]).expect_code(0);
    assert!(prepared.stderr.contains("run: prepared, 0 of 10 steps done"), "{}", prepared.stderr);
    assert!(!ledger(&place, "run").contains("policy.train"), "it was not asked yet");
    refused(sirocco(&["train", "run"]), 3, &["train checkpoint:tiny", "rule residency"]);
    let approve = |action: &str| -> Finished {
        sirocco(&["policy", "approve", "run", "--action", action, "--as", "amal", "--key", "amal/release.key"])
    };
    let approved = approve("train").expect_code(0);
    assert!(approved.stdout.contains("amal approves train of checkpoint:tiny"), "{}", approved.stdout);
    sirocco(&["train", "run", "--until", "5"]).expect_code(75);
    // Another day, another question.
    refused(sirocco(&["train", "run"]), 3, &["resume checkpoint:tiny", "rule residency"]);
    approve("resume").expect_code(0);
    sirocco(&["train", "run"]).expect_code(0);
}

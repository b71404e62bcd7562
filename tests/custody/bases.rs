//! A base is all of its files, and what was signed.

use std::fs;
use std::path::Path;
use std::process::Command;

use sirocco_files::BareDigest;
use sirocco_tests::program::run;

use super::{ABROAD, ledger, prepared, ranks, refused, rules, saved};

/// The digest of a directory, by the command that docs/policy.md gives.
fn documented_digest(directory: &Path) -> String {
    let page = include_str!("../../docs/policy.md");
    let (_, command) = page.split_once("cd DIR && find").expect("the command");
    let (command, _) = command.split_once("\n```").expect("its end");
    let done = Command::new("sh").args(["-c", &format!("find{command}")]).current_dir(directory).output().expect("sh");
    String::from_utf8_lossy(&done.stdout).chars().take(64).collect()
}

#[test]
fn a_base_is_all_of_its_files() {
    let place = prepared();
    rules(&place, "run", &format!("!resource.verified || {ABROAD}"), "LU");
    let (facts, model) = (place.path().join("rules/facts.toml"), place.path().join("model"));
    fs::write(model.join(".gitattributes"), "*.safetensors filter=lfs\n").expect("a file of git");
    let verified = run("sirocco", &["model", "verify", "model"], place.path()).expect_code(0);
    let digest = documented_digest(&model);
    assert!(verified.stdout.contains(&digest), "{}: {digest}", verified.stdout);
    let text = fs::read_to_string(&facts).expect("the facts");
    let mut known = text.replace("[model.tiny]\n", &format!("[model.tiny]\nsha256 = \"{digest}\"\n"));
    for name in ["train", "valid"] {
        let (bytes, head) = (place.path().join(format!("{name}.jsonl")), format!("[data.{name}]\n"));
        let digest = BareDigest::of(&fs::read(bytes).expect("the data"));
        known = known.replace(&head, &format!("{head}sha256 = \"{digest}\"\n"));
    }
    fs::write(&facts, known).expect("the facts");
    ranks(&place, "run", 2).expect_code(0);
    let tokenizer = model.join("tokenizer.json");
    let before = fs::read(&tokenizer).expect("the tokenizer");
    fs::write(&tokenizer, [&before[..], b"\n"].concat()).expect("another tokenizer");
    let export = |form: &str| run("sirocco-train", &["export", "run", "--to", form.trim_start_matches('-'), form], place.path());
    refused(export("--merge"), 4, &["model: found files with the digest", &digest, "put them back as they were"]);
    assert!(!place.path().join("merge").exists());
    assert!(ledger(&place, "run").contains("\"verb\":\"artefact.refused\""));
    export("--adapter").expect_code(0);
    fs::write(&tokenizer, before).expect("the tokenizer as it was");
    export("--merge").expect_code(0);
}

#[test]
fn a_base_that_is_not_what_was_signed_is_refused_beforehand_and_on_the_node() {
    let place = saved();
    run("sirocco-train", &["export", "run", "--to", "base", "--merge"], place.path()).expect_code(0);
    place.prepare("next", "model.path=base name=next");
    let record = place.path().join("base/origin.json");
    let before = fs::read(&record).expect("the record");
    fs::write(&record, [&before[..], b"\n"].concat()).expect("another record");
    refused(run("sirocco", &["check", "next"], place.path()), 4, &["base", "origin.json"]);
    refused(ranks(&place, "next", 1), 4, &["base", "origin.json"]);
    assert!(ledger(&place, "next").contains("\"verb\":\"artefact.refused\""));
    fs::write(&record, before).expect("the record as it was");
    ranks(&place, "next", 1).expect_code(0);
}

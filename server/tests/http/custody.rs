//! Nothing is served that is not what was signed, or that the policy refuses; what was asked and done stands in the ledger.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};
use sirocco_custody::Keys;
use sirocco_ledger::{Entry, Fact};
use sirocco_tests::program::{Running, wait_for};

use crate::ministry::{Ministry, listens, sealed};
use crate::server::{LIMIT, Server};

fn verbs(ledger: &[Entry]) -> Vec<&str> {
    ledger.iter().map(|entry| entry.verb.as_str()).collect()
}

fn text(entry: &Entry, name: &str) -> String {
    let Some(Fact::Text(text)) = entry.facts.get(name) else { panic!("{name}: {entry:?}") };
    text.clone()
}

#[test]
fn a_model_made_of_letters_stays_at_home() {
    let ministry = Ministry::new();
    ministry.merged("merged", &ministry.own_keys());
    listens(&ministry.serve_at("bissen", &["merged"]));
    let abroad = ministry.serve_at("bologna", &["merged"]).wait(LIMIT).expect_code(3);
    abroad.expect_words(&[
        "error: serve endpoint:merged",
        "rule residency",
        "help: Use a site in a country",
        "sirocco policy explain",
    ]);
    let ledger = ministry.ledger();
    assert_eq!(verbs(&ledger), ["node.confined", "policy.serve", "endpoint.started", "node.confined", "policy.serve"]);
    let refused = ledger[4].decision.as_ref().unwrap();
    assert!(!refused.allowed && refused.rules == ["residency"], "{refused:?}");
    assert!(text(&ledger[4], "request").contains("data:letters"), "{:?}", ledger[4]);
}

#[test]
fn an_adapter_made_of_letters_stays_at_home_where_its_base_may_go() {
    let ministry = Ministry::new();
    ministry.adapter("adapter", &ministry.own_keys());
    listens(&ministry.serve_at("bologna", &["tiny"]));
    listens(&ministry.serve_at("bissen", &["tiny", "--adapter", "letters=adapter"]));
    let abroad = ministry.serve_at("bologna", &["tiny", "--adapter", "letters=adapter"]).wait(LIMIT).expect_code(3);
    abroad.expect_words(&["error: addAdapter endpoint:tiny", "rule residency"]);
    let ledger = ministry.ledger();
    let last: Vec<bool> = ledger[ledger.len() - 2..].iter().map(|entry| entry.decision.as_ref().unwrap().allowed).collect();
    assert_eq!(last, [true, false], "the base may, the adapter may not");
}

/// The lowest bit of the last weight: a network with it would work as well.
fn change_a_bit(file: &std::path::Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[rstest]
#[case("merged/model.safetensors", &["merged"])]
#[case("merged/tokenizer.json", &["merged"])]
#[case("adapter/adapter_model.safetensors", &["tiny", "--adapter", "letters=adapter"])]
fn a_changed_byte_is_found_and_named(#[case] file: &str, #[case] args: &[&str]) {
    let ministry = Ministry::new();
    let keys = ministry.own_keys();
    ministry.merged("merged", &keys);
    ministry.adapter("adapter", &keys);
    listens(&ministry.serve(args));
    if file.ends_with(".json") {
        let spaced = fs::read_to_string(ministry.path(file)).unwrap() + " ";
        fs::write(ministry.path(file), spaced).unwrap();
    } else {
        change_a_bit(&ministry.path(file));
    }
    let (_, name) = file.split_once('/').unwrap();
    ministry.serve(args).wait(LIMIT).expect_code(4).expect_words(&["differs from what", name, "help: it is not what was signed"]);
    let ledger = ministry.ledger();
    let last = ledger.last().unwrap();
    assert!(last.verb == "artefact.refused" && text(last, "why").contains(name), "{last:?}");
}

#[test]
fn without_its_signature_a_model_is_an_unknown_one() {
    let ministry = Ministry::new();
    ministry.merged("merged", &ministry.own_keys());
    fs::remove_file(ministry.path("merged/model.sig")).unwrap();
    let torn = ministry.serve(&["merged"]).wait(LIMIT).expect_code(4);
    torn.expect_words(&["merged/model.sig: found no such file", "help: its signature is lost"]);
    fs::remove_file(ministry.path("merged/origin.json")).unwrap();
    let log = listens(&ministry.serve(&["merged"]));
    assert!(log.contains("not signed") && log.contains("model:merged"), "{log}");
    let refused = ministry.serve_at("bissen", &["merged"]).wait(LIMIT).expect_code(3);
    refused.expect_words(&["not known: residency of model:merged", "rule residency"]);
}

#[rstest]
#[case("release")]
#[case("import")]
fn a_key_is_believed_where_somebody_says_so(#[case] role: &str) {
    let ministry = Ministry::new();
    let partner = Keys::create(&ministry.path("partner"), "partner").unwrap();
    ministry.merged("merged", &partner);
    ministry.adapter("adapter", &partner);
    for args in [&["merged"][..], &["tiny", "--adapter", "letters=adapter"]] {
        let unknown = ministry.serve(args).wait(LIMIT).expect_code(4);
        unknown.expect_words(&["model.sig: signed with key", "not trusted", "help:", "--trust"]);
    }
    ministry.trust(&partner, role);
    listens(&ministry.serve(&["merged", "--adapter", "letters=adapter", "--trust", "trust"]));
}

#[test]
fn a_key_for_something_else_is_not_believed() {
    let ministry = Ministry::new();
    let partner = Keys::create(&ministry.path("partner"), "partner").unwrap();
    ministry.merged("merged", &partner);
    ministry.trust(&partner, "checkpoint");
    let refused = ministry.serve(&["merged", "--trust", "trust"]).wait(LIMIT).expect_code(2);
    refused.expect_words(&["no key with the role", "help:", "--trust"]);
}

#[test]
fn start_and_end_are_signed_with_the_requests_between() {
    let server = Server::start(&["--name", "mine"], |_| {});
    server.greedy("mine", "a", 1);
    server.post("/v1/completions", &json!({"model": "absent", "prompt": "a"}), 404);
    server.raw("GET", "/v1/models", "");
    let address = format!("127.0.0.1:{}", server.port);
    server.signal("TERM");
    let (ended, dir) = server.wait_and_keep();
    ended.expect_code(0);
    let ledger = sealed(dir.path());
    assert_eq!(verbs(&ledger), ["policy.serve", "endpoint.started", "endpoint.ended"]);
    let [asked, started, ended] = &ledger[..] else { panic!("{ledger:?}") };
    assert_eq!((text(started, "endpoint"), text(started, "address")), ("endpoint:mine".to_owned(), address));
    assert_eq!(started.inputs, asked.inputs, "the bytes that were asked about are those that are served");
    assert_eq!(started.inputs.keys().collect::<Vec<_>>(), ["model:tiny"]);
    assert_eq!((text(ended, "reason").as_str(), ended.facts.get("requests")), ("SIGTERM", Some(&Fact::Number(1))));
}

#[test]
fn a_ledger_that_cannot_be_written_is_said_before_anything_is_served() {
    let ministry = Ministry::new();
    fs::write(ministry.path("state"), "a file where a directory has to be").unwrap();
    ministry.serve(&["tiny"]).wait(LIMIT).expect_code(5).expect_words(&["error:", "state/sirocco", "help:", "XDG_STATE_HOME"]);
}

#[test]
fn an_end_that_cannot_be_recorded_is_a_warning() {
    let server = Server::start(&[], |_| {});
    server.block_ledger();
    server.signal("TERM");
    server.wait().expect_code(0).expect_words(&["could not be recorded"]);
}

#[test]
fn the_event_says_what_is_served_and_who_signed_it() {
    let ministry = Ministry::new();
    ministry.adapter("adapter", &ministry.own_keys());
    let running: Running = ministry.serve(&["tiny", "--adapter", "letters=adapter", "--json"]);
    let line = wait_for("event", LIMIT, || running.stdout().lines().next().map(str::to_owned));
    let event: Value = serde_json::from_str(&line).unwrap();
    let said: Vec<_> =
        event["artefacts"].as_array().unwrap().iter().map(|part| (&part["artefact"], &part["signed_by"])).collect();
    assert_eq!(said, [(&json!("model:tiny"), &Value::Null), (&json!("adapter:letters"), &json!("release"))]);
    assert_eq!((&event["endpoint"], event["artefacts"][0]["sha256"].as_str().unwrap().len()), (&json!("endpoint:tiny"), 64));
    assert_eq!(event["confinement"], json!({"level": "environment", "attempts": 0}));
    assert!(event["ledger"].as_str().unwrap().ends_with("state/sirocco/ledger"), "{event}");
}

#[rstest]
#[case(&["--policy", "nowhere"], &["--policy: nowhere: nothing, expected a directory with policy.cedar"])]
#[case(&["--facts", "wrong.toml"], &["wrong.toml:2", "help:"])]
#[case(&["--facts", "absent.toml"], &["absent.toml"])]
#[case(&["--trust", "rules"], &["--trust: rules"])]
fn rules_and_keys_that_are_none_are_a_wrong_command_line(#[case] args: &[&str], #[case] words: &[&str]) {
    let ministry = Ministry::new();
    fs::write(ministry.path("wrong.toml"), "[data.letters]\nresidency = 3\n").unwrap();
    ministry.serve(&[&["tiny"], args].concat()).wait(LIMIT).expect_code(2).expect_words(words);
}

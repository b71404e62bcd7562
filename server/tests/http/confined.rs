//! A server that reaches nobody: its clients reach it.

use std::process::Command;

use sirocco_ledger::Fact;
use sirocco_tests::material::tiny_model;
use sirocco_tests::program::{signal, wait_for};
use tempfile::TempDir;

use crate::ministry::{Ministry, sealed};
use crate::server::{LIMIT, Server, serve};

#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn skipped(why: &str) {
    eprintln!("skipped: a confined server: {why}");
}

fn has_namespaces() -> bool {
    let made = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).output();
    made.is_ok_and(|output| output.status.success())
}

#[test]
fn clients_reach_a_server_that_reaches_nobody() {
    if !has_namespaces() {
        return skipped("this machine makes no namespaces for its users");
    }
    let free = Server::start(&[], |_| {}).greedy("tiny", "abc", 8);
    let server = Server::start(&["--confinement", "2"], |_| {});
    assert_eq!(server.greedy("tiny", "abc", 8), free);
    // The measurement is made before the port is announced, or there is no server.
    let log = server.log();
    assert!(log.contains("confinement=\"network_namespace\""), "{log}");
    let attempts = log.split("attempts=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    assert!(attempts.is_some_and(|attempts| attempts >= 20), "{log}");
    // Nothing is there but a loopback that is down, and filters.
    let network = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap();
    assert_ne!(network(&server.id()), network("self"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')), "{status}");
    server.signal("TERM");
    let (finished, place) = server.wait_and_keep();
    finished.expect_code(0);
    // What was measured stands in the ledger, whole, before what rests on it.
    let entries = sealed(place.path());
    let verbs: Vec<&str> = entries.iter().map(|entry| entry.verb.as_str()).collect();
    assert_eq!(verbs[0], "node.confined", "{verbs:?}");
    assert_eq!(entries[0].facts["level"], Fact::Number(2));
    let started = entries.iter().find(|entry| entry.verb == "endpoint.started").unwrap();
    assert_eq!(started.facts["confinement"], Fact::Text("network_namespace".to_owned()));
}

#[test]
fn rules_that_want_level_3_have_a_server_of_its_own_files() {
    let ministry = Ministry::new();
    ministry.ask_for_landlock();
    let keys = ministry.own_keys();
    ministry.adapter("adapter", &keys);
    // As in a cache of models: what lies there are links.
    let (weights, elsewhere) = (ministry.path("tiny/model.safetensors"), ministry.path("blobs"));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&weights, elsewhere.join("weights")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("weights"), &weights).unwrap();
    let running = ministry.serve_at("bissen", &["tiny", "--adapter", "letters=adapter"]);
    let ready = wait_for("a server, or the reason for none", LIMIT, || {
        let said = (running.stdout().contains("listening"), running.stderr().contains("no Landlock"));
        (said.0 || said.1).then_some(said.0)
    });
    if !ready {
        return skipped("this kernel has no Landlock, or it is not switched on");
    }
    let log = running.stderr();
    assert!(log.contains("confinement=\"landlock\""), "{log}");
    // What was verified has not taken more threads than the network may have.
    assert!(log.contains("the signature holds") && !log.contains("another number of threads"), "{log}");
    signal("TERM", &running.id().to_string());
    running.wait(LIMIT).expect_code(0);
    let confined = ministry.ledger().into_iter().find(|entry| entry.verb == "node.confined").unwrap();
    assert_eq!(confined.facts["level"], Fact::Number(3));
    let Fact::Text(report) = &confined.facts["report"] else { panic!("{confined:?}") };
    let open: serde_json::Value = serde_json::from_str(report).unwrap();
    let readable = open["applied"]["paths"]["readable"].to_string();
    assert!(readable.contains("/blobs/weights\"") && !readable.contains("/blobs\""), "{readable}");
}

#[test]
fn more_than_can_be_had_is_refused_before_anything_is_loaded() {
    let dir = TempDir::new().unwrap();
    tiny_model(&dir.path().join("tiny"));
    let refused = serve(dir.path(), &["tiny", "--listen", "127.0.0.1:0", "--confinement", "4"]).wait(LIMIT).expect_code(5);
    refused.expect_words(&["level 4 (hosts) is demanded and ", " is possible", "nothing was started"]);
}

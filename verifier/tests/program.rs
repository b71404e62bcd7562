//! The program as a reader starts it: what it says, and its exit codes.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::path::Path;
use std::process::{Command, Output};

use sirocco_custody::{Book, Deed};
use sirocco_ledger::disk::Directory;
use sirocco_ledger::tlog_proof::prove;
use sirocco_ledger::{Author, Digest};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sirocco-verify")).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn what_is_not_there_ends_with_2_and_what_is_no_bundle_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let code = |arguments: &[&str]| run(path, arguments).status.code();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["bundle"]), Some(2), "no --trust");
    assert_eq!(code(&["bundle", "--trust", "nowhere"]), Some(2));
    let made = sirocco_custody::Keys::create(&path.join("keys"), "tests").unwrap();
    assert!(made.path().is_dir());
    assert_eq!(code(&["nowhere", "--trust", "keys"]), Some(2));
    std::fs::write(path.join("some.tar"), "no tar").unwrap();
    assert_eq!(code(&["some.tar", "--trust", "keys"]), Some(1));
    std::fs::create_dir(path.join("empty")).unwrap();
    let empty = run(path, &["empty", "--trust", "keys"]);
    let text = String::from_utf8(empty.stdout).unwrap();
    assert_eq!(empty.status.code(), Some(1));
    assert!(text.contains("FAILED  signature") && text.ends_with("empty: NOT VERIFIED\n"), "{text}");
    let json = run(path, &["empty", "--trust", "keys", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((report["ok"].as_bool(), report["checks"].as_array().unwrap().len()), (Some(false), 9));
}

#[test]
fn a_proof_of_one_entry_stands_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let keys = sirocco_custody::Keys::create(&path.join("keys"), "tests").unwrap();
    sirocco_custody::Keys::create(&path.join("others"), "tests").unwrap();
    let author = Author { identity: "person:amal".into(), host: "node".into(), binary: Digest::of(b"") };
    let book = Book::open(&path.join("ledger"), author).unwrap();
    for verb in ["run.started", "run.ended"] {
        book.write(Deed::new(verb)).unwrap();
    }
    book.seal(&keys.ledger, "sirocco/demo/0123456789abcdef").unwrap();
    let proof = prove(&Directory::new(path.join("ledger")), 1).unwrap().to_text();
    std::fs::write(path.join("ended.tlog-proof"), &proof).unwrap();
    let shown = run(path, &["ended.tlog-proof", "--trust", "keys"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(0));
    assert!(text.contains("\"run.ended\"") && text.ends_with("holds: entry 1 of 2 in sirocco/demo/0123456789abcdef\n"), "{text}");
    let json = run(path, &["ended.tlog-proof", "--trust", "keys", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["ok"], &json["proof"]["entry"]["verb"]), (&true.into(), &"run.ended".into()));
    assert_eq!(run(path, &["ended.tlog-proof", "--trust", "others"]).status.code(), Some(1), "another key");
    std::fs::copy(path.join("ledger/checkpoint"), path.join("seen")).unwrap();
    let compared = run(path, &["ended.tlog-proof", "--trust", "keys", "--earlier", "seen"]);
    assert_eq!(compared.status.code(), Some(2), "nothing is left out in silence");
    for place in (0..proof.len()).step_by(7) {
        let mut bytes = proof.clone().into_bytes();
        bytes[place] ^= 1;
        std::fs::write(path.join("bad.tlog-proof"), &bytes).unwrap();
        let bad = run(path, &["bad.tlog-proof", "--trust", "keys"]);
        assert_eq!((bad.status.code(), bad.stdout.len()), (Some(1), 0), "byte {place}");
    }
}

//! The program as a reader starts it: what it says, and its exit codes.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::path::Path;
use std::process::{Command, Output};

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
    assert_eq!((report["ok"].as_bool(), report["checks"].as_array().unwrap().len()), (Some(false), 8));
}

//! Directories that the reference implementation signed (tests/oracle), verified here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use sirocco_signing::manifest::{Manifest, Method};
use sirocco_signing::trust::Trust;
use sirocco_signing::{Error, oms};

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}

fn trust() -> Trust {
    Trust::read(&oracle("trust")).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn signatures_of_the_reference_verify() {
    let covered = [("files", 7, vec![]), ("shards", 6, vec!["a/empty"]), ("ignored", 7, vec!["cache/"])];
    for (name, files, uncovered) in covered {
        let verified = oms::verify(&oracle(name), &trust()).unwrap();
        assert_eq!(verified.signer.name, "reference");
        assert_eq!((verified.coverage.files, verified.coverage.bytes), (files, 280), "{name}");
        assert_eq!(verified.coverage.uncovered, uncovered, "{name}");
    }
}

#[test]
fn our_digests_are_those_of_the_reference() {
    for name in ["files", "shards", "ignored"] {
        let signed = oms::read(&oracle(name).join(oms::FILE), &trust()).unwrap().manifest;
        assert_eq!(matches!(signed.options.method, Method::Shards { .. }), name == "shards");
        let ours = Manifest::of(&oracle(name), signed.options.clone()).unwrap();
        // The reference's order is another one: part of a path by part.
        let theirs = Manifest::new(signed.model, signed.options, signed.resources).unwrap();
        assert_eq!(ours.resources, theirs.resources, "{name}");
        assert_eq!(ours.model, name);
    }
}

#[test]
fn a_changed_directory_of_the_reference_is_refused_by_name() {
    for name in ["files", "shards", "ignored"] {
        let dir = tempfile::tempdir().unwrap();
        copy(&oracle(name), dir.path());
        fs::write(dir.path().join("a/b"), "twO").unwrap();
        fs::remove_file(dir.path().join("م")).unwrap();
        let Err(Error::Differs { differences, .. }) = oms::verify(dir.path(), &trust()) else { panic!("{name} differs") };
        assert_eq!((differences.changed, differences.missing), (vec!["a/b".to_owned()], vec!["م".to_owned()]));
    }
}

#[test]
fn a_signature_moved_to_another_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(&oracle("files"), dir.path());
    fs::copy(oracle("p384/model.sig"), dir.path().join(oms::FILE)).unwrap();
    assert!(matches!(oms::verify(dir.path(), &trust()), Err(Error::UnknownKey { .. })));
    fs::copy(oracle("shards/model.sig"), dir.path().join(oms::FILE)).unwrap();
    oms::verify(dir.path(), &trust()).unwrap(); // the same files under another method
    fs::remove_file(dir.path().join(oms::FILE)).unwrap();
    assert!(matches!(oms::verify(dir.path(), &trust()), Err(Error::Unsigned { .. })));
}

#[test]
fn a_signature_on_p_384_verifies_with_its_own_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, model) = (dir.path().join("keys"), dir.path().join("model"));
    fs::create_dir(&keys).unwrap();
    fs::copy(oracle("p384.pem"), keys.join("other.pem")).unwrap();
    fs::copy(oracle("trust/reference.pub"), keys.join("reference.pub")).unwrap();
    copy(&oracle("p384"), &model);
    let both = Trust::read(&keys).unwrap();
    assert_eq!(oms::verify(&model, &both).unwrap().signer.name, "other");
    assert!(matches!(oms::verify(&model, &trust()), Err(Error::UnknownKey { .. })));

    let (path, good) = (model.join(oms::FILE), fs::read(model.join(oms::FILE)).unwrap());
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Blanks between fields are nobody's.
        assert!(oms::read_bytes(&path, &bad, &both).is_err() || good[bit / 8].is_ascii_whitespace(), "bit {bit}");
    }
    fs::write(model.join("config.json"), "[]").unwrap();
    let Err(Error::Differs { differences, .. }) = oms::verify(&model, &both) else { panic!("differs") };
    assert_eq!(differences.changed, ["config.json"]);
}

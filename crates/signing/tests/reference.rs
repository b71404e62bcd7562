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
fn a_key_on_another_curve_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(oracle("p384.pem"), dir.path().join("other.pem")).unwrap();
    let error = Trust::read(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { found, .. } if found == "a key of kind P-384"), "{error}");
}

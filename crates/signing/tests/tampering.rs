//! Five hundred generated tamperings, each one change to a signed directory: all are found, each with the name of what was touched, and an
//! untouched directory is never refused. Then what no change of one directory shows: replays and signatures of other models.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::{Method, Options};
use sirocco_signing::provenance::{self, Build, Facts, Input, Role};
use sirocco_signing::trust::Trust;
use sirocco_signing::{Digest, Error, oms};

const FILES: [(&str, usize); 6] =
    [("adapter.safetensors", 5000), ("config.json", 64), ("sub/a-b", 17), ("sub/a/b", 1), ("tokenizer.model", 1024), ("z", 300)];

/// One change. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Tampering {
    Flip { file: usize, bit: usize },
    FlipSignature { bit: usize },
    Cut { file: usize, keep: usize },
    Extend { file: usize, with: Vec<u8> },
    Remove { file: usize },
    Rename { file: usize },
    Swap { one: usize, other: usize },
    Add { name: String, content: Vec<u8> },
    CutSignature { keep: usize },
}

fn tamperings() -> impl Strategy<Value = Tampering> {
    let (file, number) = (0..FILES.len(), any::<usize>());
    prop_oneof![
        4 => (file.clone(), number).prop_map(|(file, bit)| Tampering::Flip { file, bit }),
        4 => number.prop_map(|bit| Tampering::FlipSignature { bit }),
        1 => (file.clone(), number).prop_map(|(file, keep)| Tampering::Cut { file, keep }),
        1 => (file.clone(), prop::collection::vec(any::<u8>(), 1..50)).prop_map(|(file, with)| Tampering::Extend { file, with }),
        1 => file.clone().prop_map(|file| Tampering::Remove { file }),
        1 => file.clone().prop_map(|file| Tampering::Rename { file }),
        1 => (file.clone(), 1..FILES.len()).prop_map(|(one, by)| Tampering::Swap { one, other: (one + by) % FILES.len() }),
        1 => ("(sub/|new/)?[a-y.]{2,8}", prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(name, content)| Tampering::Add { name: name.replace("..", "xx") + "x", content }),
        1 => number.prop_map(|keep| Tampering::CutSignature { keep }),
    ]
}

fn model(dir: &Path, seed: u8) {
    for (name, size) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let content: Vec<u8> = (0..size).map(|index| (index * 7 + size) as u8 ^ seed).collect();
        fs::write(path, content).unwrap();
    }
}

/// Changes a directory, and says which names the refusal must hold.
fn tamper(dir: &Path, tampering: &Tampering) -> Vec<String> {
    let path = |file: usize| dir.join(FILES[file].0);
    let name = |file: usize| FILES[file].0.to_owned();
    let signature = dir.join(oms::FILE);
    let flip = |path: &Path, bit: usize| {
        let mut bytes = fs::read(path).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, bytes).unwrap();
    };
    let cut = |path: &Path, keep: usize| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..keep % bytes.len()]).unwrap();
    };
    match tampering {
        Tampering::Flip { file, bit } => {
            flip(&path(*file), *bit);
            vec![name(*file)]
        }
        Tampering::FlipSignature { bit } => {
            flip(&signature, *bit);
            vec![oms::FILE.to_owned()]
        }
        Tampering::Cut { file, keep } => {
            cut(&path(*file), *keep);
            vec![name(*file)]
        }
        Tampering::CutSignature { keep } => {
            cut(&signature, *keep);
            vec![oms::FILE.to_owned()]
        }
        Tampering::Extend { file, with } => {
            let bytes = fs::read(path(*file)).unwrap();
            fs::write(path(*file), [bytes.as_slice(), with].concat()).unwrap();
            vec![name(*file)]
        }
        Tampering::Remove { file } => {
            fs::remove_file(path(*file)).unwrap();
            vec![name(*file)]
        }
        Tampering::Rename { file } => {
            fs::rename(path(*file), dir.join("renamed")).unwrap();
            vec![name(*file), "renamed".to_owned()]
        }
        Tampering::Swap { one, other } => {
            let (first, second) = (fs::read(path(*one)).unwrap(), fs::read(path(*other)).unwrap());
            fs::write(path(*one), second).unwrap();
            fs::write(path(*other), first).unwrap();
            vec![name(*one), name(*other)]
        }
        Tampering::Add { name, content } => {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), content).unwrap();
            vec![name.clone()]
        }
    }
}

fn facts() -> Facts {
    let input = |role: Role| {
        let digest = Digest::of(role.name().as_bytes());
        Input { role, name: role.name().to_owned(), uri: None, digest, directory: false }
    };
    Facts {
        build: Build::FineTune,
        run: "run".to_owned(),
        builder: "urn:site:test".to_owned(),
        versions: [].into(),
        started: "2026-01-31T12:00:00Z".to_owned(),
        finished: "2026-01-31T13:00:00Z".to_owned(),
        parameters: serde_json::Map::new(),
        settled: serde_json::Map::new(),
        inputs: [Role::BaseModel, Role::Data, Role::Configuration, Role::Binary, Role::Policy].map(input).to_vec(),
    }
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn finds_all(cases: u32, options: &Options) {
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    let holds = |tampering: Tampering| {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path(), 0);
        oms::sign(dir.path(), &key, options.clone()).unwrap();
        prop_assert!(oms::verify(dir.path(), &trust).is_ok(), "refused before anything was changed");
        let touched = tamper(dir.path(), &tampering);
        let Err(error) = oms::verify(dir.path(), &trust) else { return Err(TestCaseError::fail("not found")) };
        let named: Vec<String> = match error {
            Error::Differs { differences, .. } => [differences.changed, differences.missing, differences.extra].concat(),
            other => {
                prop_assert!(other.to_string().contains(oms::FILE), "{other}");
                vec![oms::FILE.to_owned()]
            }
        };
        let (named, touched) = (BTreeSet::from_iter(named), BTreeSet::from_iter(touched));
        prop_assert_eq!(named, touched, "left: named, right: touched");
        Ok(())
    };
    runner(cases).run(&tamperings(), holds).unwrap();
}

#[test]
fn three_hundred_and_fifty_tamperings_of_files_are_all_found() {
    finds_all(350, &Options::default());
}

#[test]
fn a_hundred_and_fifty_tamperings_of_shards_are_all_found() {
    finds_all(150, &Options { method: Method::Shards { size: NonZeroU64::new(100).unwrap() }, ..Options::default() });
}

#[test]
fn every_single_bit_of_a_signature_counts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    oms::sign(dir.path(), &key, Options::default()).unwrap();
    let path = dir.path().join(oms::FILE);
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(oms::read_bytes(&path, &bad, &trust).is_err(), "bit {bit} of {}", String::from_utf8_lossy(&good));
    }
}

#[test]
fn every_single_bit_of_a_statement_of_provenance_counts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    provenance::write(dir.path(), &facts(), &key).unwrap();
    let path = dir.path().join(provenance::FILE);
    let good = fs::read(&path).unwrap();
    let holds = |bytes: &[u8]| provenance::read_bytes(&path, bytes, &trust).unwrap().iter().any(Result::is_ok);
    assert!(holds(&good));
    // The last byte ends the line: what stands there instead makes one line no JSON, or is a blank that says nothing.
    for bit in 0..(good.len() - 1) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!holds(&bad), "bit {bit} of {}", String::from_utf8_lossy(&good));
    }
}

#[test]
fn an_older_signature_beside_newer_files_is_refused_and_an_older_model_by_its_digest() {
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model(old.path(), 0);
    model(new.path(), 1);
    oms::sign(old.path(), &key, Options::default()).unwrap();
    let newest = oms::sign(new.path(), &key, Options::default()).unwrap().digest();

    fs::copy(old.path().join(oms::FILE), new.path().join(oms::FILE)).unwrap();
    let Err(Error::Differs { differences, .. }) = oms::verify(new.path(), &trust) else { panic!("differs") };
    assert_eq!(differences.changed, FILES.map(|(name, _)| name.to_owned()));

    let whole_old_model = oms::read(&old.path().join(oms::FILE), &trust).unwrap();
    assert!(matches!(whole_old_model.expect(newest), Err(Error::OtherModel { expected, .. }) if expected == newest));
}

#[test]
fn a_signature_may_lie_elsewhere_and_covers_one_that_lies_inside() {
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model(dir.path(), 0);
    let manifest = oms::sign(dir.path(), &key, Options::default()).unwrap();
    let outside = away.path().join("release.sig");
    oms::sign_manifest(&outside, &manifest, &key).unwrap();
    fs::remove_file(dir.path().join(oms::FILE)).unwrap();
    oms::read(&outside, &trust).unwrap().check(dir.path()).unwrap();
    let beside = dir.path().join("sub/other.sig");
    fs::copy(&outside, &beside).unwrap();
    oms::read(&beside, &trust).unwrap().check(dir.path()).unwrap();
    let error = oms::read(&outside, &trust).unwrap().check(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not signed: \"sub/other.sig\""), "{error}");
}

#[test]
fn signing_again_replaces_and_a_directory_that_cannot_be_written_is_an_error() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), 0);
    fs::write(dir.path().join("model.sig.17-0.unfinished"), "left by a crash").unwrap();
    oms::sign(dir.path(), &other, Options::default()).unwrap();
    oms::sign(dir.path(), &key, Options::default()).unwrap();
    let verified = oms::verify(dir.path(), &Trust::only("signer", key.public().clone())).unwrap();
    assert_eq!(verified.coverage.files, FILES.len());
    fs::remove_file(dir.path().join(oms::FILE)).unwrap();
    fs::create_dir(dir.path().join(oms::FILE)).unwrap();
    let error = oms::sign(dir.path(), &key, Options::default()).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains(oms::FILE), "{error}");
}

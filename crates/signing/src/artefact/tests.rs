//! Directories as programs publish them, then changed in every way.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::provenance::{Build, Input, Role};
use crate::trust::role;

/// A checkpoint with two shards, and the keys of those who may sign checkpoints and releases.
struct Site {
    dir: TempDir,
    trust: Trust,
    cluster: PrivateKey,
    ministry: PrivateKey,
}

const FILES: [(&str, &str); 4] = [
    ("manifest.json", "{}"),
    ("manifest.sha256", "digest"),
    ("rank-00000.safetensors", "first shard"),
    ("rank-00001.safetensors", "second shard"),
];

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [keys, model] = ["keys", "model"].map(|name| dir.path().join(name));
        fs::create_dir(&keys).unwrap();
        fs::create_dir(&model).unwrap();
        for (name, content) in FILES {
            fs::write(model.join(name), content).unwrap();
        }
        let [cluster, ministry] = ["cluster", "ministry"].map(|name| {
            let key = PrivateKey::generate().unwrap();
            fs::write(keys.join(format!("{name}.pub")), key.public().pem()).unwrap();
            key
        });
        let roles = json!({ "cluster": [role::CHECKPOINT], "ministry": [role::RELEASE] });
        fs::write(keys.join(crate::trust::ROLES), roles.to_string()).unwrap();
        Self { trust: Trust::read(&keys).unwrap(), dir, cluster, ministry }
    }

    fn model(&self) -> std::path::PathBuf {
        self.dir.path().join("model")
    }

    fn sign(&self, known: &[KnownFile], key: &PrivateKey) -> Manifest {
        let claim = Claim { name: "step-00000040", known, facts: &facts() };
        sign(&self.model(), &claim, key).unwrap()
    }

    fn demand(&self) -> Demand<'_> {
        Demand { trust: &self.trust, role: role::CHECKPOINT, digest: None, known: &[] }
    }

    fn verify(&self) -> Result<Verified> {
        verify(&self.model(), &self.demand())
    }

    fn differences(&self, known: &[KnownFile]) -> Differences {
        match verify(&self.model(), &Demand { known, ..self.demand() }) {
            Err(Error::Differs { differences, .. }) => *differences,
            other => panic!("{other:?}"),
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

fn shards() -> Vec<KnownFile> {
    let of = |(name, content): &(&str, &str)| {
        KnownFile::from_hex(*name, content.len() as u64, &Digest::of(content.as_bytes()).to_string()).unwrap()
    };
    FILES[2..].iter().map(of).collect()
}

#[test]
fn what_is_signed_from_known_digests_is_verified_by_reading() {
    let site = Site::new();
    let manifest = site.sign(&shards(), &site.cluster);
    assert_eq!(manifest.model, "step-00000040");
    let verified = site.verify().unwrap();
    assert_eq!((verified.signer.name.as_str(), verified.digest), ("cluster", manifest.digest()));
    assert_eq!((verified.coverage.files, verified.coverage.uncovered.len()), (5, 0), "the statement is covered");
    let statement = &verified.statements[0].statement;
    let subjects: Vec<_> = statement.subject.iter().filter_map(|subject| subject.name.as_deref()).collect();
    assert_eq!(subjects, FILES.map(|(name, _)| name));
    assert_eq!(verified.statements[0].signers[0].name, "cluster");
    // The same directory for those who know neither of our files' roles.
    assert_eq!(oms::verify(&site.model(), &site.trust).unwrap().digest, manifest.digest());
    assert_eq!(provenance::verify(&site.model(), &site.trust).unwrap().len(), 1);
}

#[test]
fn known_digests_are_signed_unread_and_verified_unread() {
    let site = Site::new();
    let path = site.model().join(FILES[2].0);
    fs::write(&path, "FIRST SHARD").unwrap(); // as long as what the writer recorded
    site.sign(&shards(), &site.cluster);
    verify(&site.model(), &Demand { known: &shards(), ..site.demand() }).unwrap();
    assert_eq!(site.differences(&[]).changed, [FILES[2].0], "who reads it sees what happened to it");
    let mut other = shards();
    other[1].digest = Digest::of(b"what a changed manifest says");
    assert_eq!(site.differences(&other).changed, [FILES[3].0]);
    other[1] = KnownFile { file: "rank-00002.safetensors".to_owned(), ..other[1].clone() };
    let differences = site.differences(&other);
    assert_eq!((differences.extra, differences.changed), (vec!["rank-00002.safetensors".to_owned()], vec![]));
}

#[test]
fn every_change_is_named() {
    let site = Site::new();
    site.sign(&shards(), &site.cluster);
    let model = site.model();
    for (name, content) in FILES.into_iter().chain([("more", "")]) {
        fs::write(model.join(name), "x").unwrap();
        let differences = site.differences(&[]);
        assert_eq!([differences.changed, differences.extra].concat(), [name]);
        if name == "more" { fs::remove_file(model.join(name)).unwrap() } else { fs::write(model.join(name), content).unwrap() }
    }
    let statement = fs::read(model.join(provenance::FILE)).unwrap();
    fs::write(model.join(provenance::FILE), [statement.as_slice(), b"\n"].concat()).unwrap();
    assert_eq!(site.differences(&[]).changed, [provenance::FILE]);
    fs::remove_file(model.join(provenance::FILE)).unwrap();
    assert_eq!(site.differences(&[]).missing, [provenance::FILE]);
    fs::write(model.join(provenance::FILE), statement).unwrap();
    site.verify().unwrap();
    fs::remove_file(model.join(oms::FILE)).unwrap();
    assert!(matches!(site.verify(), Err(Error::Unsigned { path }) if path.ends_with(oms::FILE)));
}

#[test]
fn a_key_signs_what_its_role_allows() {
    let site = Site::new();
    site.sign(&shards(), &site.ministry);
    assert!(matches!(site.verify(), Err(Error::UnknownKey { .. })));
    verify(&site.model(), &Demand { role: role::RELEASE, ..site.demand() }).unwrap();
    let error = verify(&site.model(), &Demand { role: role::IMPORT, ..site.demand() }).unwrap_err().to_string();
    assert!(error.contains("no key with the role import"), "{error}");

    // A statement of a key without the role under a signature of one that has it.
    site.sign(&shards(), &site.cluster);
    let (model, statement) = (site.model(), site.model().join(provenance::FILE));
    fs::remove_file(&statement).unwrap();
    fs::remove_file(model.join(oms::FILE)).unwrap();
    provenance::write(&model, &facts(), &site.ministry).unwrap();
    oms::sign(&model, &site.cluster, Options::default()).unwrap();
    assert!(matches!(site.verify(), Err(Error::UnknownKey { path, .. }) if path == statement));
}

#[test]
fn a_statement_about_other_files_does_not_hold() {
    let site = Site::new();
    let model = site.model();
    provenance::write(&model, &facts(), &site.cluster).unwrap();
    fs::write(model.join("manifest.json"), "other").unwrap();
    fs::write(model.join("more"), "").unwrap();
    fs::remove_file(model.join("manifest.sha256")).unwrap();
    oms::sign(&model, &site.cluster, Options::default()).unwrap();
    let Err(Error::Differs { differences, signature, .. }) = site.verify() else { panic!("differs") };
    assert!(signature.ends_with(provenance::FILE));
    let found = [differences.changed, differences.extra, differences.missing].concat();
    assert_eq!(found, ["manifest.json", "more", "manifest.sha256"]);
}

#[test]
fn an_older_directory_with_its_own_signature_is_not_the_one_that_is_meant() {
    let (old, new) = (Site::new(), Site::new());
    let (older, newest) = (old.sign(&shards(), &old.cluster).digest(), {
        fs::write(new.model().join("manifest.json"), "{ }").unwrap();
        new.sign(&shards(), &new.cluster).digest()
    });
    verify(&old.model(), &Demand { digest: Some(older), ..old.demand() }).unwrap();
    let replayed = verify(&old.model(), &Demand { digest: Some(newest), ..old.demand() });
    assert!(matches!(replayed, Err(Error::OtherModel { found, expected, .. }) if (found, expected) == (older, newest)));
}

#[test]
fn what_a_signer_leaves_out_is_refused_but_for_files_of_git() {
    let site = Site::new();
    let model = site.model();
    fs::write(model.join(".gitattributes"), "x").unwrap();
    provenance::write(&model, &facts(), &site.cluster).unwrap();
    let leaving = |entry: &str| Options { ignore: vec![entry.to_owned()], ..Options::default() };
    oms::sign(&model, &site.cluster, leaving("not-there")).unwrap();
    assert_eq!(site.verify().unwrap().coverage.uncovered, [".gitattributes"]);
    oms::sign(&model, &site.cluster, leaving("rank-00001.safetensors")).unwrap();
    let Err(Error::Uncovered { files, .. }) = site.verify() else { panic!("left out") };
    assert_eq!(files, ["rank-00001.safetensors"]);
}

#[test]
fn signing_again_replaces_both_files_and_a_failure_is_named() {
    let site = Site::new();
    let model = site.model();
    site.sign(&[], &site.ministry);
    for name in ["model.sig.5-0.unfinished", "provenance.intoto.jsonl.5-1.unfinished"] {
        fs::write(model.join(name), "left by a crash").unwrap();
    }
    site.sign(&shards(), &site.cluster);
    assert_eq!(fs::read_dir(&model).unwrap().count(), FILES.len() + 2);
    site.verify().unwrap();

    let mut wrong = shards();
    wrong[0].bytes += 1;
    wrong[1].file = "gone".to_owned();
    let claim = Claim { name: "x", known: &wrong, facts: &facts() };
    let error = sign(&model, &claim, &site.cluster).unwrap_err();
    assert!(matches!(error, Error::NotAsRecorded { .. }), "{error}");
    assert!(error.to_string().contains(r#"changed: "rank-00000.safetensors"; missing: "gone""#), "{error}");
    let poor = Facts { inputs: Vec::new(), ..facts() };
    assert!(matches!(sign(&model, &Claim { name: "x", known: &[], facts: &poor }, &site.cluster), Err(Error::BadFact { .. })));
    site.verify().unwrap();
}

#[test]
fn a_file_that_is_read_again_is_compared_again() {
    let site = Site::new();
    site.sign(&[], &site.cluster);
    let (verified, root) = (site.verify().unwrap(), site.model());
    verified.expect_file(&root, "manifest.sha256", Some(b"digest")).unwrap();
    verified.expect_file(&root, "origin.json", None).unwrap();
    let said = |name: &str, bytes: Option<&[u8]>| verified.expect_file(&root, name, bytes).unwrap_err().to_string();
    assert!(said("manifest.sha256", Some(b"other")).contains("changed: \"manifest.sha256\""));
    assert!(said("manifest.sha256", None).contains("missing: \"manifest.sha256\""));
    assert!(said("origin.json", Some(b"{}")).contains("not signed: \"origin.json\""));
}

#[test]
fn of_a_file_in_shards_every_byte_is_compared() {
    let shard = |range, bytes: &[u8]| Resource { file: "a".to_owned(), range: Some(range), digest: Digest::of(bytes) };
    let (one, two) = (shard((0, 2), b"ab"), shard((2, 3), b"c"));
    assert!(covers(&[&two, &one], b"abc"));
    for (signed, bytes) in [(vec![&one], "abc"), (vec![&two], "abc"), (vec![&one, &two], "abC"), (vec![&one, &two], "ab")] {
        assert!(!covers(&signed, bytes.as_bytes()), "{signed:?} {bytes}");
    }
}

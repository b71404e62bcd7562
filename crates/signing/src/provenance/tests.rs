//! Statements of provenance: made, verified, and refused where a fact is missing.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn input(role: Role) -> Input {
    Input { role, name: role.name().to_owned(), uri: None, digest: Digest::of(role.name().as_bytes()), directory: false }
}

fn facts() -> Facts {
    Facts {
        build: Build::FineTune,
        run: "0197-run".to_owned(),
        builder: "urn:site:meluxina".to_owned(),
        versions: [("sirocco".to_owned(), "0.1.0".to_owned())].into(),
        started: "2026-01-31T12:00:00Z".to_owned(),
        finished: "2026-01-31T13:00:00Z".to_owned(),
        parameters: json!({ "steps": 10 }).as_object().cloned().unwrap(),
        settled: serde_json::Map::new(),
        inputs: [Role::BaseModel, Role::Data, Role::Configuration, Role::Binary, Role::Policy].map(input).to_vec(),
    }
}

fn model() -> (TempDir, PrivateKey, Trust) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["adapter.safetensors", "sub/config.json"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("site", key.public().clone());
    (dir, key, trust)
}

#[test]
fn a_statement_is_about_all_files_and_names_all_inputs() {
    let (dir, key, trust) = model();
    write(dir.path(), &facts(), &key).unwrap();
    oms::sign(dir.path(), &key, Options::default()).unwrap();
    let attested = verify(dir.path(), &trust).unwrap();
    assert_eq!(attested.len(), 1);
    assert_eq!(attested[0].signers[0].name, "site");
    let statement = &attested[0].statement;
    let subjects: Vec<_> = statement.subject.iter().map(|subject| subject.name.clone().unwrap()).collect();
    assert_eq!(subjects, ["adapter.safetensors", "sub/config.json"]);
    let inputs: Vec<_> = statement.inputs().map(|(role, _, digest)| (role, digest)).collect();
    assert_eq!(inputs.len(), 5);
    assert_eq!(inputs[1], ("data", Digest::of(b"data")));
    assert_eq!(statement.predicate.build_definition.build_type, "urn:sirocco:build:fine-tune:v1");
    assert_eq!(oms::verify(dir.path(), &trust).unwrap().coverage.files, 3, "the signature covers the statement, too");
}

#[test]
fn the_json_is_that_of_slsa_and_in_toto() {
    let (dir, key, _) = model();
    let statement = write(dir.path(), &facts(), &key).unwrap();
    let json = serde_json::to_value(&statement).unwrap();
    assert_eq!(json["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(json["predicateType"], "https://slsa.dev/provenance/v1");
    let (definition, run) = (&json["predicate"]["buildDefinition"], &json["predicate"]["runDetails"]);
    assert_eq!(definition["externalParameters"], json!({ "steps": 10 }));
    let digest = Digest::of(b"base-model").to_string();
    let dependency = json!({ "name": "base-model", "digest": { "sha256": digest }, "annotations": { "role": "base-model", "digestOf": "file" } });
    assert_eq!(definition["resolvedDependencies"][0], dependency);
    assert_eq!(run["builder"], json!({ "id": "urn:site:meluxina", "version": { "sirocco": "0.1.0" } }));
    let metadata =
        json!({ "invocationId": "0197-run", "startedOn": "2026-01-31T12:00:00Z", "finishedOn": "2026-01-31T13:00:00Z" });
    assert_eq!(run["metadata"], metadata);
}

#[test]
fn facts_that_are_missing_are_named() {
    let (dir, key, _) = model();
    let refused = |facts: &Facts, words: &str| {
        let error = write(dir.path(), facts, &key).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    for index in 0..5 {
        let mut less = facts();
        let role = less.inputs.remove(index).role;
        refused(&less, &format!("inputs: found no {}", role.name()));
    }
    refused(&Facts { build: Build::Merge, ..facts() }, "found no adapter");
    refused(&Facts { run: String::new(), ..facts() }, "run: found nothing");
    refused(&Facts { builder: "meluxina".to_owned(), ..facts() }, "builder: found \"meluxina\", expected a URI");
    refused(&Facts { finished: "yesterday".to_owned(), ..facts() }, "finished: found \"yesterday\"");
    let nameless = Input { name: String::new(), ..input(Role::Container) };
    refused(&Facts { inputs: [facts().inputs, vec![nameless]].concat(), ..facts() }, "a container without a name");
    let rootless = Input { uri: Some("x".to_owned()), ..input(Role::Checkpoint) };
    refused(&Facts { inputs: [facts().inputs, vec![rootless]].concat(), ..facts() }, "the uri of an input");
    assert!(!dir.path().join(FILE).exists());
}

#[test]
fn every_difference_is_found() {
    let (dir, key, trust) = model();
    write(dir.path(), &facts(), &key).unwrap();
    fs::write(dir.path().join("more"), "x").unwrap();
    fs::write(dir.path().join("adapter.safetensors"), "x").unwrap();
    fs::remove_file(dir.path().join("sub/config.json")).unwrap();
    let Err(Error::Differs { differences, .. }) = verify(dir.path(), &trust) else { panic!("differs") };
    assert_eq!(
        (&differences.changed[..], &differences.extra[..]),
        (&["adapter.safetensors".to_owned()][..], &["more".to_owned()][..])
    );
    assert_eq!(differences.missing, ["sub/config.json"]);
}

#[test]
fn lines_of_others_are_passed_over_and_none_that_holds_is_an_error() {
    let (dir, key, trust) = model();
    write(dir.path(), &facts(), &key).unwrap();
    let (path, stranger) = (dir.path().join(FILE), PrivateKey::generate().unwrap());
    let ours = fs::read_to_string(&path).unwrap();
    write(dir.path(), &facts(), &stranger).unwrap();
    let theirs = fs::read_to_string(&path).unwrap();
    let other_kind =
        Envelope::sign(IN_TOTO, br#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x:y"}"#.to_vec(), &key);
    let other_kind = other_kind.to_json().unwrap();

    fs::write(&path, format!("{theirs}not an envelope\n\n{other_kind}\n{ours}")).unwrap();
    assert_eq!(verify(dir.path(), &trust).unwrap().len(), 1);
    fs::write(&path, format!("{theirs}{other_kind}\n")).unwrap();
    assert!(matches!(verify(dir.path(), &trust), Err(Error::UnknownKey { .. })));
    fs::write(&path, "\n").unwrap();
    assert!(matches!(verify(dir.path(), &trust), Err(Error::Unsigned { .. })));
    fs::write(&path, "x\n".repeat(1001)).unwrap();
    assert!(verify(dir.path(), &trust).unwrap_err().to_string().contains("1001 lines"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(verify(dir.path(), &trust), Err(Error::Unsigned { .. })));
}

#[test]
fn a_copied_line_is_no_second_signer_and_no_second_statement() {
    let (dir, key, _) = model();
    let other = PrivateKey::generate().unwrap();
    let path = dir.path().join(FILE);
    let line = |key: &PrivateKey| {
        write(dir.path(), &facts(), key).unwrap();
        fs::read_to_string(&path).unwrap()
    };
    let (ours, theirs) = (line(&key), line(&other));
    let trusted = tempfile::tempdir().unwrap();
    for (name, key) in [("one", &key), ("two", &other)] {
        fs::write(trusted.path().join(format!("{name}.pub")), key.public().pem()).unwrap();
    }
    let trust = Trust::read(trusted.path()).unwrap();
    fs::write(&path, ours.repeat(3)).unwrap();
    let attested = verify(dir.path(), &trust).unwrap();
    assert_eq!((attested.len(), attested[0].signers.len()), (1, 1));
    fs::write(&path, format!("{ours}{theirs}{ours}")).unwrap();
    let attested = verify(dir.path(), &trust).unwrap();
    assert_eq!((attested.len(), attested[0].signers.len()), (1, 2));
}

#[test]
fn a_statement_that_is_not_of_its_form_is_refused_with_the_field() {
    let (dir, key, _) = model();
    let good = serde_json::to_value(write(dir.path(), &facts(), &key).unwrap()).unwrap();
    let changes = [
        ("/_type", json!("https://in-toto.io/Statement/v0.1"), "_type"),
        ("/predicateType", json!("https://slsa.dev/provenance/v0.2"), "predicateType"),
        ("/subject", json!("all"), "the statement"),
        ("/subject/0/digest", json!({}), "neither a digest nor a uri"),
        ("/predicate/runDetails/metadata/finishedOn", json!("2026-02-31T12:00:00Z"), "runDetails.metadata: found \"2026-02-31"),
        ("/subject/0/digest/sha256", json!("ABC"), "digest of \"adapter.safetensors\""),
        ("/predicate/buildDefinition/buildType", json!("tune"), "buildDefinition.buildType"),
        ("/predicate/buildDefinition/externalParameters", Value::Null, "the statement"),
        ("/predicate/buildDefinition/resolvedDependencies/0/digest", json!({}), "neither a digest nor a uri"),
        ("/predicate/runDetails/builder/id", json!(""), "runDetails.builder.id"),
        ("/predicate/runDetails/metadata/startedOn", json!("noon"), "runDetails.metadata: found \"noon\""),
    ];
    for (place, value, words) in changes {
        let mut changed = good.clone();
        *changed.pointer_mut(place).unwrap() = value;
        let error = Statement::parse(Path::new(FILE), changed.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{place}: {error}");
    }
    let mut more = good;
    more["predicate"]["site_extension"] = json!(1);
    Statement::parse(Path::new(FILE), more.to_string().as_bytes()).unwrap();
}

#[test]
fn subjects_are_distinct_files_with_a_digest() {
    let (dir, key, _) = model();
    let good = write(dir.path(), &facts(), &key).unwrap();
    let manifest = |change: fn(&mut Statement)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement.manifest(Path::new(FILE)).unwrap_err().to_string()
    };
    assert!(manifest(|statement| statement.subject.clear()).contains("subject: found none"));
    assert!(manifest(|statement| statement.subject[1].name = Some("../x".into())).contains("distinct relative paths"));
    assert!(manifest(|statement| statement.subject[1].name = statement.subject[0].name.clone()).contains("there twice"));
    assert!(manifest(|statement| statement.subject[0].digest.clear()).contains("no sha256"));
}

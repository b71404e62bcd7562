//! Directories of trusted keys, good and bad.

use super::*;
use crate::keys::PrivateKey;

fn directory(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(dir.path().join(name), PrivateKey::generate().unwrap().public().pem()).unwrap();
    }
    dir
}

fn names(trust: &Trust) -> BTreeSet<String> {
    trust.keys().map(|key| key.name.clone()).collect()
}

#[test]
fn keys_have_the_names_of_their_files() {
    let dir = directory(&["ministry.pub", "cluster.pem", "notes.txt"]);
    let trust = Trust::read(dir.path()).unwrap();
    assert_eq!(names(&trust), ["cluster", "ministry"].map(str::to_owned).into());
    let one = trust.keys().next().unwrap();
    assert_eq!(trust.get(&one.key.fingerprint()), Some(one));
    assert!(trust.list().contains("ministry ("));
}

#[test]
fn roles_choose_keys() {
    let dir = directory(&["ministry.pub", "cluster.pub"]);
    let roles = dir.path().join(ROLES);
    fs::write(&roles, r#"{ "ministry": ["policy", "release"], "cluster": ["checkpoint"] }"#).unwrap();
    let trust = Trust::read(dir.path()).unwrap();
    assert_eq!(names(&trust.with_role("policy").unwrap()), ["ministry".to_owned()].into());
    let error = trust.with_role("export").unwrap_err().to_string();
    assert!(error.contains("no key with the role export"), "{error}");
}

#[test]
fn without_roles_no_key_has_one() {
    let trust = Trust::read(directory(&["a.pub"]).path()).unwrap();
    assert!(trust.with_role("policy").is_err());
    let key = PrivateKey::generate().unwrap();
    assert_eq!(names(&Trust::only("me", key.public().clone())), ["me".to_owned()].into());
}

#[test]
fn a_role_that_is_given_above_is_had_by_nobody_else() {
    let (above, own) = (directory(&["officer.pub"]), directory(&["me.pub"]));
    fs::write(above.path().join(ROLES), r#"{ "officer": ["approve"] }"#).unwrap();
    fs::write(own.path().join("alias.pub"), fs::read(above.path().join("officer.pub")).unwrap()).unwrap();
    fs::write(own.path().join(ROLES), r#"{ "me": ["approve", "checkpoint"], "alias": ["release"] }"#).unwrap();
    let trust = Trust::read(own.path()).unwrap().under(&Trust::read(above.path()).unwrap());
    let with = |role: &str| names(&trust.with_role(role).unwrap());
    assert_eq!(with("approve"), ["officer".to_owned()].into());
    assert_eq!(with("checkpoint"), ["me".to_owned()].into());
    assert_eq!(with("release"), ["officer".to_owned()].into(), "one key has one name, the one it has above");
    let namesake = directory(&["officer.pub"]);
    fs::write(namesake.path().join(ROLES), r#"{ "officer": ["release"] }"#).unwrap();
    let trust = Trust::read(namesake.path()).unwrap().under(&Trust::read(above.path()).unwrap());
    assert!(names(&trust) == ["officer".to_owned()].into() && trust.with_role("release").is_err(), "one name is one key");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |dir: &tempfile::TempDir, words: &str| {
        let error = Trust::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&directory(&[]), "found no key, expected at least one public key");
    assert!(matches!(Trust::read(Path::new("gone")), Err(Error::Io { .. })));

    let twice = directory(&["a.pub"]);
    fs::copy(twice.path().join("a.pub"), twice.path().join("b.pem")).unwrap();
    refused(&twice, "the key of a under the name b as well");

    // Two keys: roles of the name would be those of one of them.
    refused(&directory(&["a.pem", "a.pub"]), "a second file for the name a");

    let private = directory(&["a.pub"]);
    let (path, _) = PrivateKey::generate().unwrap().write_pair(private.path(), "b").unwrap();
    fs::rename(path, private.path().join("c.pem")).unwrap();
    refused(&private, "PEM with a PRIVATE KEY");

    let roles = directory(&["a.pub"]);
    for (text, words) in [
        ("{\"b\": []}", "roles of \"b\""),
        ("[]", "the file"),
        ("{\"a\": \"policy\"}", "the file"),
        ("", "the file"),
        ("{\"a\": [\"policy\"], \"a\": []}", "the name \"a\" twice"),
    ] {
        fs::write(roles.path().join(ROLES), text).unwrap();
        refused(&roles, words);
    }
}

//! Readers fed bytes that nobody made for them: they refuse, and never panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use proptest::prelude::*;
use sirocco_signing::dsse::{Envelope, IN_TOTO};
use sirocco_signing::keys::{PrivateKey, PublicKey};
use sirocco_signing::oms;
use sirocco_signing::provenance::{self, Statement};
use sirocco_signing::trust::Trust;

const BUNDLE: &str = include_str!("oracle/shards/model.sig");
const KEY: &str = include_str!("oracle/trust/reference.pub");

fn at() -> &'static Path {
    Path::new("arbitrary")
}

fn trust() -> Trust {
    Trust::only("reference", PublicKey::from_pem(at(), KEY).unwrap())
}

/// A text with some stretches of it replaced.
fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..20_usize, prop::collection::vec(any::<u8>(), 0..8));
    prop::collection::vec(change, 1..4).prop_map(move |changes| {
        changes.into_iter().fold(text.as_bytes().to_vec(), |mut bytes, (at, removed, new)| {
            let start = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, new);
            bytes
        })
    })
}

/// JSON of any shape, with the names that the readers look for.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let names =
        "_type|subject|predicate|predicateType|resources|serialization|name|digest|sha256|method|shard_size|payload|signatures";
    let words = "files|shards|sha256|https://in-toto.io/Statement/v1|https://model_signing/signature/v1.0|a:0:10|\\PC{0,6}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn read_all(bytes: &[u8], trust: &Trust) {
    let _ = oms::read_bytes(at(), bytes, trust);
    let _ = provenance::read_bytes(at(), bytes, trust);
    let _ = Envelope::parse(at(), bytes);
    let _ = Statement::parse(at(), bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = PublicKey::from_pem(at(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes, &trust());
    }

    /// White space between fields is nobody's; every other change is found.
    #[test]
    fn a_bundle_with_changes(bytes in mutated(BUNDLE)) {
        if let Ok(signed) = oms::read_bytes(at(), &bytes, &trust()) {
            prop_assert_eq!(signed.manifest, oms::read_bytes(at(), BUNDLE.as_bytes(), &trust()).unwrap().manifest);
        }
        read_all(&bytes, &trust());
    }

    #[test]
    fn a_key_with_changes(bytes in mutated(KEY)) {
        read_all(&bytes, &trust());
    }

    #[test]
    fn json_of_any_shape(value in json()) {
        read_all(value.to_string().as_bytes(), &trust());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Even what a trusted key signed is read with care: it may have been made by another program.
    #[test]
    fn signed_json_of_any_shape(value in json()) {
        let key = PrivateKey::generate().unwrap();
        let trust = Trust::only("signer", key.public().clone());
        let mut envelope = Envelope::sign(IN_TOTO, value.to_string().into_bytes(), &key);
        let line = envelope.to_json().unwrap();
        prop_assert!(provenance::read_bytes(at(), line.as_bytes(), &trust).unwrap()[0].is_err());
        envelope.signatures[0].key_id.clear();
        let (hint, line) = (key.public().fingerprint(), envelope.to_json().unwrap());
        let bundle = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{"publicKey":{{"hint":"{hint}"}}}},"dsseEnvelope":{line}}}"#
        );
        prop_assert!(oms::read_bytes(at(), bundle.as_bytes(), &trust).is_err());
    }
}

//! Envelopes: the published example, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use p256::SecretKey;
use p256::ecdsa::Signature as Raw;
use p256::pkcs8::{EncodePrivateKey, LineEnding};

use super::*;

const TYPE: &str = "http://example.com/HelloWorld";
/// The private key of the specification's example, which is public.
const SECRET: &str = "d73ec437fd6346e3619c5ebfdfff0f6916804955ad32ac9ac492b0ede1f6ffb7";

fn at() -> &'static Path {
    Path::new("a.dsse")
}

/// The key, payload and signature of the example in DSSE v1.0's protocol.md, whose signature is the two numbers one after the other.
fn example() -> (PrivateKey, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("example.key");
    let secret = SecretKey::from_slice(Digest::from_hex(SECRET).unwrap().as_bytes()).unwrap();
    fs::write(&path, secret.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let signature = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==";
    let raw = Raw::from_slice(&Base64::decode_vec(signature).unwrap()).unwrap();
    (PrivateKey::read(&path).unwrap(), raw.to_der().as_bytes().to_vec())
}

fn signed() -> (PrivateKey, Trust, Envelope) {
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    let envelope = Envelope::sign(TYPE, b"hello world".to_vec(), &key);
    (key, trust, envelope)
}

#[test]
fn the_example_of_the_specification_comes_out() {
    let (key, signature) = example();
    assert_eq!(signed_bytes(TYPE, b"hello world"), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    let envelope = Envelope::sign(TYPE, b"hello world".to_vec(), &key);
    assert_eq!(envelope.signatures[0].bytes, signature);
    assert!(envelope.to_json().unwrap().starts_with(r#"{"payload":"aGVsbG8gd29ybGQ=","payloadType":"http://example.com/"#));
}

#[test]
fn an_envelope_is_read_as_it_was_written() {
    let (_, trust, envelope) = signed();
    let read = Envelope::parse(at(), envelope.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(read, envelope);
    assert_eq!(read.verify(at(), TYPE, &trust).unwrap()[0].name, "signer");
}

#[test]
fn only_whole_canonical_base64_of_one_alphabet_is_read() {
    let text = |payload: &str| format!(r#"{{"payload":"{payload}","payloadType":"x","signatures":[{{"sig":"AA=="}}]}}"#);
    let payload = |text: String| Envelope::parse(at(), text.as_bytes()).map(|envelope| envelope.payload);
    assert_eq!(payload(text("+/+/")).unwrap(), [0xfb, 0xff, 0xbf]);
    assert_eq!(payload(text("")).unwrap(), b"");
    for bad in ["AA", "AB==", "A===", "+/-_", "-_-_", "AA==\\n", "AA= =", "é"] {
        let error = payload(text(bad)).unwrap_err().to_string();
        assert!(error.contains("a.dsse: payload") && error.contains("base64"), "{error}");
    }
}

#[test]
fn absent_empty_and_null_names_of_keys_are_one() {
    let (_, trust, envelope) = signed();
    let named = envelope.to_json().unwrap();
    let name = format!(r#","keyid":"{}""#, envelope.signatures[0].key_id);
    for keyid in ["", r#","keyid":"""#, r#","keyid":null"#] {
        let text = named.replace(&name, keyid);
        let read = Envelope::parse(at(), text.as_bytes()).unwrap();
        assert_eq!(read.verify(at(), TYPE, &trust).unwrap().len(), 1, "{keyid}");
    }
}

#[test]
fn keys_that_are_not_trusted_and_signatures_that_are_not_theirs_are_told_apart() {
    let (_, trust, good) = signed();
    let (_, other, foreign) = signed();
    assert!(matches!(good.verify(at(), TYPE, &other), Err(Error::UnknownKey { .. })));
    assert!(matches!(good.verify(at(), "other/type", &trust), Err(Error::Malformed { .. })));

    let changed = Envelope { payload: b"hello World".to_vec(), ..good.clone() };
    assert!(matches!(changed.verify(at(), TYPE, &trust), Err(Error::BadSignature { key, .. }) if key == "signer"));
    let retyped = Envelope { payload_type: "x".into(), ..good.clone() };
    assert!(matches!(retyped.verify(at(), "x", &trust), Err(Error::BadSignature { .. })));

    let mut nameless = changed.clone();
    nameless.signatures[0].key_id.clear();
    let error = nameless.verify(at(), TYPE, &trust).unwrap_err().to_string();
    assert!(error.contains("(not named)") && error.contains("signer ("), "{error}");

    let mut both = good.clone();
    both.signatures.insert(0, foreign.signatures[0].clone());
    assert_eq!(both.verify(at(), TYPE, &trust).unwrap().len(), 1, "one trusted signature among others is enough");
    both.signatures[1].bytes[10] ^= 1;
    assert!(matches!(both.verify(at(), TYPE, &trust), Err(Error::BadSignature { .. })));
}

#[test]
fn one_key_is_one_signer_however_often_it_signs() {
    let (key, _, good) = signed();
    let (other, _, _) = signed();
    let first = good.signatures[0].clone();
    let twin = Signature { bytes: high_twin(&first.bytes), ..first.clone() };
    let nameless = |signature: &Signature| Signature { key_id: String::new(), ..signature.clone() };
    let message = signed_bytes(TYPE, &good.payload);
    assert!(key.public().verifies(&message, &twin.bytes) && twin.bytes != first.bytes, "the twin is a signature, too");

    let copies = vec![first.clone(), first.clone(), twin.clone(), nameless(&first), nameless(&twin)];
    let copied = Envelope { signatures: copies, ..good.clone() };
    let dir = tempfile::tempdir().unwrap();
    for (name, key) in [("one", &key), ("two", &other)] {
        fs::write(dir.path().join(format!("{name}.pub")), key.public().pem()).unwrap();
    }
    let both = Trust::read(dir.path()).unwrap();
    assert_eq!(copied.verify(at(), TYPE, &both).unwrap().len(), 1);

    let mut two = copied;
    two.signatures.push(Signature { key_id: String::new(), bytes: other.sign(&message) });
    assert_eq!(two.verify(at(), TYPE, &both).unwrap().len(), 2);
}

/// The same signature with the other `s`: the group's order less the first.
fn high_twin(der: &[u8]) -> Vec<u8> {
    let (r, s) = Raw::from_der(der).unwrap().split_scalars();
    Raw::from_scalars(*r, -*s).unwrap().to_der().as_bytes().to_vec()
}

#[test]
fn our_signatures_have_the_lower_s() {
    let (key, _, _) = signed();
    for message in 0..64_u8 {
        let signature = Raw::from_der(&key.sign(&[message])).unwrap();
        assert!(signature.normalize_s().is_none(), "message {message}");
    }
}

#[test]
fn a_crowd_of_signatures_is_refused_unread() {
    let sig = vec![r#"{"sig":"AA=="}"#; MOST_SIGNATURES + 1].join(",");
    let text = format!(r#"{{"payload":"","payloadType":"x","signatures":[{sig}]}}"#);
    let error = Envelope::parse(at(), text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("signatures: found 101, expected at most 100"), "{error}");
}

#[test]
fn what_is_not_an_envelope_is_refused_with_the_reason() {
    let sig = r#"[{"sig":"AA=="}]"#;
    let bad = [
        (String::new(), "the envelope"),
        ("[]".into(), "the envelope"),
        (format!(r#"{{"payload":"","payloadType":"x","signatures":{sig},"more":1}}"#), "unknown field `more`"),
        (r#"{"payload":"","payloadType":"x","signatures":[{"sig":"","more":1}]}"#.into(), "unknown field `more`"),
        (format!(r#"{{"payload":"","payload":"","payloadType":"x","signatures":{sig}}}"#), "duplicate field"),
        (format!(r#"{{"payloadType":"x","signatures":{sig}}}"#), "missing field `payload`"),
        (r#"{"payload":"","payloadType":"x","signatures":[]}"#.into(), "found none, expected at least one"),
        (r#"{"payload":"","payloadType":"x","signatures":[{"keyid":""}]}"#.into(), "missing field `sig`"),
    ];
    for (text, words) in bad {
        let error = Envelope::parse(at(), text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

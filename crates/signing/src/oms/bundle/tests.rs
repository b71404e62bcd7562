//! Bundles in the forms that the specification names, and those that are refused.

use super::*;
use crate::keys::PrivateKey;

fn at() -> &'static Path {
    Path::new("model.sig")
}

fn signed() -> (PrivateKey, Trust, String) {
    let key = PrivateKey::generate().unwrap();
    let trust = Trust::only("signer", key.public().clone());
    let bundle = Bundle::of(Envelope::sign(IN_TOTO, b"{}".to_vec(), &key), key.public());
    (key, trust, bundle.to_json(at()).unwrap())
}

fn signer(text: &str, trust: &Trust) -> Result<String> {
    Bundle::parse(at(), text.as_bytes())?.signer(at(), trust).map(|key| key.name.clone())
}

#[test]
fn a_bundle_names_its_key_by_fingerprint_and_is_read_back() {
    let (key, trust, text) = signed();
    assert_eq!(signer(&text, &trust).unwrap(), "signer");
    let hint = key.public().fingerprint().to_string();
    assert!(text.contains(&format!(r#""verificationMaterial":{{"publicKey":{{"hint":"{hint}"}},"tlogEntries":[]}}"#)), "{text}");
    assert!(text.contains(r#""keyid":"""#), "{text}");
}

#[test]
fn a_bundle_of_the_old_form_carries_a_key_that_is_only_looked_up() {
    let (key, trust, text) = signed();
    let hint = format!(r#""hint":"{}""#, key.public().fingerprint());
    let carrying = |key: &PublicKey| {
        let key = crate::dsse::encode(key.pem().as_bytes());
        text.replace(&hint, &format!(r#""rawBytes":"{key}","keyDetails":"PKIX_ECDSA_P256_SHA_256""#))
    };
    assert_eq!(signer(&carrying(key.public()), &trust).unwrap(), "signer");
    let stranger = PrivateKey::generate().unwrap();
    assert!(matches!(signer(&carrying(stranger.public()), &trust), Err(Error::UnknownKey { .. })));
    let nonsense = text.replace(&hint, r#""rawBytes":"AAAA""#);
    assert!(signer(&nonsense, &trust).unwrap_err().to_string().contains("neither on P-256"));
}

#[test]
fn a_bundle_that_a_stranger_signed_with_a_trusted_name_is_refused() {
    let (key, trust, text) = signed();
    let (stranger, _, theirs) = signed();
    let forged = theirs.replace(&stranger.public().fingerprint().to_string(), &key.public().fingerprint().to_string());
    assert!(matches!(signer(&forged, &trust), Err(Error::BadSignature { .. })));
    assert!(matches!(signer(&theirs, &trust), Err(Error::UnknownKey { .. })));
    assert!(signer(&text.replace("\"hint\":\"", "\"hint\":\"x"), &trust).is_err());
}

#[test]
fn other_methods_and_forms_are_refused_by_name() {
    let (key, trust, text) = signed();
    let public = format!(r#""publicKey":{{"hint":"{}"}}"#, key.public().fingerprint());
    let changes = [
        (public.as_str(), r#""certificate":{"rawBytes":"AA=="}"#, "a Sigstore certificate, which is not supported"),
        (&public, r#""x509CertificateChain":{"certificates":[]}"#, "a chain of certificates, which is not supported"),
        (&public, r#""publicKey":{}"#, "no publicKey with a hint"),
        (&public, r#""publicKey":{"hint":"a","rawBytes":"AA=="}"#, "no publicKey with a hint"),
        (&public, r#""content":{}"#, "unknown field `content`"),
        (r#""tlogEntries":[]"#, r#""tlogEntries":[{"logIndex":"1"}]"#, "entries of a transparency log"),
        (r#""tlogEntries":[]"#, r#""timestampVerificationData":{"rfc3161Timestamps":[]}"#, "timestamps"),
        ("bundle.v0.3+json", "bundle.v0.4+json", "found \"application/vnd.dev.sigstore.bundle.v0.4+json\""),
        ("vnd.in-toto+json", "vnd.in-toto.x+json", "payloadType"),
        (r#""signatures":["#, r#""signatures":[{"sig":"AA=="},"#, "signatures: found 2, expected one"),
        (r#"{"mediaType""#, r#"{"more":1,"mediaType""#, "unknown field `more`"),
    ];
    for (from, to, words) in changes {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = signer(&changed, &trust).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for harmless in [r#""tlogEntries":[],"timestampVerificationData":{}"#, r#""timestampVerificationData":null"#] {
        signer(&text.replace(r#""tlogEntries":[]"#, harmless), &trust).unwrap();
    }
}

//! The Sigstore bundle around the envelope (media type version 0.3), as far as the method `key` uses it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::dsse::{Envelope, EnvelopeText, IN_TOTO, decode, unknown_key};
use crate::error::{Error, Result, malformed};
use crate::keys::{Fingerprint, PublicKey};
use crate::trust::{Trust, TrustedKey};

/// The one media type that the reference implementation writes and reads.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A signature file: an envelope, and what names its key.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) envelope: Envelope,
    named: Named,
}

/// How a bundle names its key.
#[derive(Debug)]
enum Named {
    /// By fingerprint, as the specification wants it now.
    Hint(String),
    /// By carrying the key, as bundles did before version 1.1 of the reference. It is only compared with those that are trusted.
    Carried(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BundleText {
    media_type: String,
    verification_material: MaterialText,
    dsse_envelope: EnvelopeText,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MaterialText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKeyText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Value>,
    #[serde(default, rename = "x509CertificateChain", skip_serializing_if = "Option::is_none")]
    certificate_chain: Option<Value>,
    #[serde(default)]
    tlog_entries: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PublicKeyText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_details: Option<String>,
}

impl Bundle {
    /// A signature that names its key by fingerprint. The envelope's own name for it stays empty, as the reference writes it.
    pub(super) fn of(mut envelope: Envelope, key: &PublicKey) -> Self {
        envelope.signatures.iter_mut().for_each(|signature| signature.key_id.clear());
        Self { envelope, named: Named::Hint(key.fingerprint().to_string()) }
    }

    pub(super) fn to_json(&self, path: &Path) -> Result<String> {
        let (hint, raw_bytes) = match &self.named {
            Named::Hint(hint) => (Some(hint.clone()), None),
            Named::Carried(key) => (None, Some(crate::dsse::encode(key))),
        };
        let text = BundleText {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: MaterialText {
                public_key: Some(PublicKeyText { hint, raw_bytes, key_details: None }),
                certificate: None,
                certificate_chain: None,
                tlog_entries: Vec::new(),
                timestamp_verification_data: None,
            },
            dsse_envelope: self.envelope.to_text(),
        };
        serde_json::to_string(&text).map_err(|error| malformed(path, "the bundle", error.to_string(), "JSON"))
    }

    pub(super) fn parse(path: &Path, json: &[u8]) -> Result<Self> {
        let text: BundleText = serde_json::from_slice(json)
            .map_err(|error| malformed(path, "the signature", error.to_string(), "a Sigstore bundle in JSON"))?;
        if text.media_type != MEDIA_TYPE {
            return Err(malformed(path, "mediaType", format!("{:?}", text.media_type), MEDIA_TYPE));
        }
        let named = named(path, text.verification_material)?;
        let envelope = Envelope::from_text(path, text.dsse_envelope)?;
        envelope.check_type(path, IN_TOTO)?;
        if envelope.signatures.len() != 1 {
            return Err(malformed(path, "signatures", format!("{}", envelope.signatures.len()), "one"));
        }
        Ok(Self { envelope, named })
    }

    /// The trusted key that made the signature.
    pub(super) fn signer<'a>(&self, path: &Path, trust: &'a Trust) -> Result<&'a TrustedKey> {
        let (fingerprint, shown) = match &self.named {
            Named::Hint(hint) => (Digest::from_hex(hint).map(Fingerprint), hint.clone()),
            Named::Carried(key) => carried(path, key),
        };
        let key = fingerprint.and_then(|fingerprint| trust.get(&fingerprint)).ok_or_else(|| unknown_key(path, &shown, trust))?;
        self.envelope.signatures.iter().try_for_each(|signature| self.envelope.check_signature(path, signature, key))?;
        Ok(key)
    }
}

/// The fingerprint of a key that a bundle carries, if it is one of ours to know, and a name for it.
fn carried(path: &Path, key: &[u8]) -> (Option<Fingerprint>, String) {
    let pem = str::from_utf8(key).ok().and_then(|text| PublicKey::from_pem(path, text).ok());
    let fingerprint = pem.map(|key| key.fingerprint());
    (
        fingerprint,
        fingerprint.map_or_else(|| "a key that is neither on P-256 nor on P-384, in PEM".to_owned(), |known| known.to_string()),
    )
}

/// Finds what names the key, and refuses the two other methods.
fn named(path: &Path, material: MaterialText) -> Result<Named> {
    let unsupported = |part, found: &str| Error::Unsupported {
        path: path.to_owned(),
        part,
        found: found.to_owned(),
        expected: "the method \"key\" of OMS v1.0 and nothing that only a network could verify",
    };
    if material.certificate.is_some() {
        return Err(unsupported("the method", "a Sigstore certificate"));
    }
    if material.certificate_chain.is_some() {
        return Err(unsupported("the method", "a chain of certificates"));
    }
    if !material.tlog_entries.is_empty() {
        return Err(unsupported("tlogEntries", "entries of a transparency log"));
    }
    if material.timestamp_verification_data.is_some_and(|data| data.as_object().is_none_or(|data| !data.is_empty())) {
        return Err(unsupported("timestampVerificationData", "timestamps"));
    }
    match material.public_key {
        Some(PublicKeyText { hint: Some(hint), raw_bytes: None, key_details: None }) => Ok(Named::Hint(hint)),
        Some(PublicKeyText { hint: None, raw_bytes: Some(key), .. }) => {
            Ok(Named::Carried(decode(path, "publicKey.rawBytes", &key)?))
        }
        _ => Err(malformed(path, "verificationMaterial", "no publicKey with a hint", "publicKey with hint, or with rawBytes")),
    }
}

#[cfg(test)]
mod tests;

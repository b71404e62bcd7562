//! DSSE envelopes: a payload, what it is, and signatures over both.
//!
//! The reader is stricter than DSSE's own rules: a field that it does not know is refused, because nothing outside the payload is signed and a
//! field that nobody reads could be changed unnoticed. OMS v1.0 demands the same in its schemas. Base64 is of the standard alphabet, padded and
//! canonical, so that the same bytes have one text: DSSE lets writers choose the URL-safe alphabet, and none that is known here does.
//!
//! Signers are counted by key. A signature may stand in an envelope twice, and every ECDSA signature has a twin of other bytes that verifies as
//! well, which anybody can compute.

use std::collections::BTreeMap;
use std::path::Path;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::error::{Error, Result, malformed};
use crate::keys::{Fingerprint, PrivateKey};
use crate::trust::{Trust, TrustedKey};

/// What the payload of every envelope here is: an in-toto statement as JSON.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// No envelope has more signatures: each costs a verification.
const MOST_SIGNATURES: usize = 100;

/// A payload with the signatures over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// One or more signatures.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// A hint to the key, not signed; empty says nothing.
    pub key_id: String,
    /// The signature: for ECDSA in DER.
    pub bytes: Vec<u8>,
}

/// What an envelope is in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvelopeText {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<SignatureText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureText {
    sig: String,
    /// Absent, null and empty mean the same (OMS v1.0, section 4.1).
    #[serde(default)]
    keyid: Option<String>,
}

/// The bytes that are signed: type and payload with their lengths, so that neither can be read as a part of the other
/// (DSSE v1.0, protocol.md, PAE).
#[must_use]
pub fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload with one key and names the key.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, key: &PrivateKey) -> Self {
        let bytes = key.sign(&signed_bytes(payload_type, &payload));
        let signatures = vec![Signature { key_id: key.public().fingerprint().to_string(), bytes }];
        Self { payload_type: payload_type.to_owned(), payload, signatures }
    }

    /// Reads an envelope's JSON; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the field.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self> {
        let text: EnvelopeText = serde_json::from_slice(json)
            .map_err(|error| malformed(path, "the envelope", error.to_string(), "a DSSE envelope in JSON"))?;
        Self::from_text(path, text)
    }

    pub(crate) fn from_text(path: &Path, text: EnvelopeText) -> Result<Self> {
        let payload = decode(path, "payload", &text.payload)?;
        if text.signatures.len() > MOST_SIGNATURES {
            let found = text.signatures.len().to_string();
            return Err(malformed(path, "signatures", found, format!("at most {MOST_SIGNATURES}")));
        }
        let signatures = text.signatures.into_iter().map(|signature| {
            let bytes = decode(path, "signatures.sig", &signature.sig)?;
            Ok(Signature { key_id: signature.keyid.unwrap_or_default(), bytes })
        });
        let signatures: Vec<_> = signatures.collect::<Result<_>>()?;
        if signatures.is_empty() {
            return Err(malformed(path, "signatures", "none", "at least one"));
        }
        Ok(Self { payload_type: text.payload_type, payload, signatures })
    }

    pub(crate) fn to_text(&self) -> EnvelopeText {
        let signatures = self.signatures.iter();
        let signatures = signatures.map(|one| SignatureText { sig: encode(&one.bytes), keyid: Some(one.key_id.clone()) });
        EnvelopeText { payload: encode(&self.payload), payload_type: self.payload_type.clone(), signatures: signatures.collect() }
    }

    /// The envelope as one line of JSON, without the line's end.
    ///
    /// # Errors
    ///
    /// None in practice: strings can always be written.
    pub fn to_json(&self) -> Result<String> {
        let written = serde_json::to_string(&self.to_text());
        written.map_err(|error| malformed(Path::new("envelope"), "the envelope", error.to_string(), "JSON"))
    }

    /// Verifies the signatures and says whose they are: each key once, however many of them are its own. A signature that names a key counts for
    /// that key alone; one that names none is tried with each. Signatures of keys that are not trusted are passed over as long as one of a
    /// trusted key is there.
    ///
    /// # Errors
    ///
    /// [`Error::BadSignature`] for a signature that names a trusted key and is not its own; [`Error::UnknownKey`] when no signature is of a
    /// trusted key; [`Error::Malformed`] for a payload of another type.
    pub fn verify<'a>(&self, path: &Path, payload_type: &str, trust: &'a Trust) -> Result<Vec<&'a TrustedKey>> {
        self.check_type(path, payload_type)?;
        let mut signers = BTreeMap::new();
        for signature in &self.signatures {
            match self.signer(path, signature, trust) {
                Ok(signer) => drop(signers.insert(signer.key.fingerprint(), signer)),
                Err(Error::UnknownKey { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        match (signers.is_empty(), self.signatures.first()) {
            (true, Some(first)) => Err(unknown_key(path, &first.key_id, trust)),
            _ => Ok(signers.into_values().collect()),
        }
    }

    pub(crate) fn check_type(&self, path: &Path, payload_type: &str) -> Result<()> {
        if self.payload_type == payload_type {
            return Ok(());
        }
        Err(malformed(path, "payloadType", format!("{:?}", self.payload_type), payload_type))
    }

    /// Whose signature this is.
    fn signer<'a>(&self, path: &Path, signature: &Signature, trust: &'a Trust) -> Result<&'a TrustedKey> {
        if signature.key_id.is_empty() {
            let message = signed_bytes(&self.payload_type, &self.payload);
            let signer = trust.keys().find(|key| key.key.verifies(&message, &signature.bytes));
            return signer.ok_or_else(|| unknown_key(path, "", trust));
        }
        let key = Digest::from_hex(&signature.key_id).and_then(|digest| trust.get(&Fingerprint(digest)));
        let key = key.ok_or_else(|| unknown_key(path, &signature.key_id, trust))?;
        self.check_signature(path, signature, key)?;
        Ok(key)
    }

    pub(crate) fn check_signature(&self, path: &Path, signature: &Signature, key: &TrustedKey) -> Result<()> {
        if key.key.verifies(&signed_bytes(&self.payload_type, &self.payload), &signature.bytes) {
            return Ok(());
        }
        Err(Error::BadSignature { path: path.to_owned(), key: key.name.clone() })
    }
}

/// A signature whose key is not trusted; an empty name means that the signature names none.
pub(crate) fn unknown_key(path: &Path, key: &str, trust: &Trust) -> Error {
    let key = if key.is_empty() { "(not named)".to_owned() } else { format!("{key:?}") };
    Error::UnknownKey { path: path.to_owned(), key, trusted: trust.list() }
}

/// Standard base64 with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Base64 of the standard alphabet, padded and canonical.
pub(crate) fn decode(path: &Path, part: &str, text: &str) -> Result<Vec<u8>> {
    Base64::decode_vec(text).map_err(|error| malformed(path, part, error.to_string(), "base64 of the standard alphabet, padded"))
}

#[cfg(test)]
mod tests;

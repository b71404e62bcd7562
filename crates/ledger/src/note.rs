//! Signed notes: a text and the signatures under it. C2SP signed-note, "Format" and "Signatures"; as golang.org/x/mod sumdb/note reads them.

use std::fmt::Write as _;

use crate::LedgerError;
use crate::base64;
use crate::error::shown;
use crate::key::{Seal, VerifierKey};

/// The most signatures that a note may carry; the specification asks for 16 at least.
pub const SIGNATURE_LIMIT: usize = 100;
/// The most bytes that a note may have.
pub const NOTE_LIMIT: usize = 1 << 20;
const WHAT: &str = "signed note";
const KEY_ID_BYTES: usize = 4;

/// One signature line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub key_id: u32,
    /// What follows the id, by the key's type.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// The line as it stands in a note, with its newline.
    pub fn line(&self) -> String {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        format!("— {} {}\n", self.name, base64::encode(&bytes))
    }

    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] when it is not the line that [`line`](Self::line) writes.
    pub fn parse(line: &str) -> Result<Self, LedgerError> {
        let wrong = || LedgerError::malformed(WHAT, "signature line", shown(line.as_bytes()), "— NAME BASE64");
        let (name, text) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
        let bytes = base64::decode(text).ok_or_else(wrong)?;
        let (id, rest) = bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or_else(wrong)?;
        if !is_key_name(name) || rest.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), key_id: u32::from_be_bytes(*id), bytes: rest.to_vec() })
    }
}

/// May a key be called so? Not empty, no Unicode spaces, no `+`, no control characters.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_ascii_control())
}

/// A text with signatures, none of which has been verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The text, with its last newline.
    pub text: String,
    /// The signatures in their order.
    pub signatures: Vec<Signature>,
}

/// A signature that verifies, and the key that made it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When a cosigner says that it signed, in seconds since 1970; signatures of other types have no time.
    pub time: Option<u64>,
}

impl Note {
    /// A note that nobody has signed yet.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] when the text does not end in a newline or has control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, LedgerError> {
        let text = text.into();
        check_text(&text)?;
        if !text.ends_with('\n') {
            return Err(LedgerError::malformed(WHAT, "text", shown(text.as_bytes()), "a newline at its end"));
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a signed note: the text, an empty line, one signature or more.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        if bytes.len() > NOTE_LIMIT {
            let found = format!("{} bytes", bytes.len());
            return Err(LedgerError::malformed(WHAT, "size", found, format!("at most {NOTE_LIMIT}")));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| LedgerError::malformed(WHAT, format!("byte {}", error.valid_up_to()), "no UTF-8", "UTF-8"))?;
        check_text(text)?;
        let no_end = || LedgerError::malformed(WHAT, "end", shown(bytes), "an empty line and signatures, each with its newline");
        let (text, lines) = text.strip_suffix('\n').and_then(|text| text.rsplit_once("\n\n")).ok_or_else(no_end)?;
        let signatures: Vec<Signature> = lines.split('\n').map(Signature::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURE_LIMIT {
            let found = format!("{} signatures", signatures.len());
            return Err(LedgerError::malformed(WHAT, "end", found, format!("at most {SIGNATURE_LIMIT}")));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The note as a file.
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n", self.text);
        for signature in &self.signatures {
            out.push_str(&signature.line());
        }
        out
    }

    /// Adds a signature; one of the same key is replaced.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|old| (&old.name, old.key_id) != (&signature.name, signature.key_id));
        self.signatures.push(signature);
    }

    /// The signatures of `keys`, each key once, in the note's order. Signatures of other keys are ignored.
    ///
    /// # Errors
    /// [`LedgerError::BadSignature`] as soon as one signature of a known key does not verify; [`LedgerError::NotSigned`] when none of
    /// `keys` has signed; [`LedgerError::Malformed`] when two of `keys` have the same name and id.
    pub fn verify<'k>(&self, keys: &[&'k VerifierKey]) -> Result<Vec<Signed<'k>>, LedgerError> {
        let mut found: Vec<Signed<'k>> = Vec::new();
        for signature in &self.signatures {
            let mut matching = keys.iter().filter(|key| key.name() == signature.name && key.id() == signature.key_id);
            let Some(key) = matching.next() else { continue };
            if matching.next().is_some_and(|other| other != key) {
                return Err(LedgerError::malformed("verifier keys", key.label(), "two keys of this name and id", "one"));
            }
            let time = key.verify(&self.text, &signature.bytes)?;
            if !found.iter().any(|signed| signed.key == *key) {
                found.push(Signed { key, time });
            }
        }
        if found.is_empty() {
            let expected = list(keys.iter().map(|key| key.label()));
            let signers = list(self.signatures.iter().map(|s| format!("{}+{:08x}", s.name, s.key_id)));
            return Err(LedgerError::NotSigned { found: signers, expected });
        }
        Ok(found)
    }

    /// Signs with a log's or a cosigner's key; `time` is what a cosigner states.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] when a cosigner's time is beyond 2⁶³ − 1.
    pub fn sign(&mut self, key: &crate::key::SignerKey, time: Seal) -> Result<(), LedgerError> {
        let signature = key.sign(&self.text, time)?;
        self.add(signature);
        Ok(())
    }
}

fn check_text(text: &str) -> Result<(), LedgerError> {
    match text.bytes().position(|byte| byte < 0x20 && byte != b'\n') {
        Some(at) => Err(LedgerError::malformed(WHAT, format!("byte {at}"), "a control character", "none but newlines")),
        None => Ok(()),
    }
}

/// Names after each other, or `nobody`.
pub(crate) fn list(names: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    for name in names {
        let _ = write!(out, "{}{name}", if out.is_empty() { "" } else { ", " });
    }
    if out.is_empty() { "nobody".to_owned() } else { out }
}

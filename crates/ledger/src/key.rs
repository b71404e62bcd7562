//! Keys as one line of text: `NAME+ID+BASE64` to verify, `PRIVATE+KEY+NAME+ID+BASE64` to sign. C2SP signed-note, "Verifier keys" and
//! "Signature types"; the private form is that of golang.org/x/mod sumdb/note.
//!
//! Two types: 0x01, Ed25519 over the text, for logs; 0x04, timestamped Ed25519 cosignatures, for witnesses. ML-DSA-44 (0x06) is refused by
//! name: see FORMAT.md.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::LedgerError;
use crate::base64;
use crate::cosignature;
use crate::error::shown;
use crate::note::{Signature, is_key_name};

/// Bytes of the secret from which an Ed25519 key is made.
pub const SECRET_BYTES: usize = 32;
const PRIVATE: &str = "PRIVATE+KEY+";

/// The type of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyType {
    /// 0x01: Ed25519 over the note's text.
    Ed25519,
    /// 0x04: timestamped Ed25519 cosignature of a checkpoint.
    Cosignature,
}

impl KeyType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }

    /// As messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "0x01 (Ed25519, a log's)",
            Self::Cosignature => "0x04 (Ed25519 cosignature, a witness's)",
        }
    }

    fn from_byte(what: &'static str, byte: u8) -> Result<Self, LedgerError> {
        match byte {
            1 => Ok(Self::Ed25519),
            4 => Ok(Self::Cosignature),
            6 => Err(LedgerError::malformed(what, "type", "0x06 (ML-DSA-44), which this version cannot verify", "0x01 or 0x04")),
            other => Err(LedgerError::malformed(what, "type", format!("0x{other:02x}"), "0x01 or 0x04")),
        }
    }
}

/// What a signer states besides the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seal {
    /// Nothing: a log's own signature.
    Plain,
    /// A cosigner's time, in seconds since 1970.
    At(u64),
}

/// A public key that verifies notes.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    kind: KeyType,
    key: VerifyingKey,
}

impl VerifierKey {
    /// Reads `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        const WHAT: &str = "verifier key";
        let (name, id, bytes) = parts(WHAT, text)?;
        let (kind, public) = typed(WHAT, &bytes)?;
        if key_id(name, kind, public) != id {
            return Err(wrong_id(WHAT, name, id));
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| {
            LedgerError::malformed(WHAT, name, "32 bytes that are no point of the curve", "an Ed25519 public key")
        })?;
        Ok(Self { name: name.to_owned(), id, kind, key })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id: a hint, not a strong hash.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its type.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Name and id, as messages show a key.
    pub fn label(&self) -> String {
        format!("{}+{:08x}", self.name, self.id)
    }

    /// Does `signature` (without the key id) belong to `text`? A cosignature also says when.
    ///
    /// # Errors
    /// [`LedgerError::BadSignature`] when it does not.
    pub fn verify(&self, text: &str, signature: &[u8]) -> Result<Option<u64>, LedgerError> {
        let bad = || LedgerError::BadSignature { key: self.label() };
        let (time, message, bytes) = match self.kind {
            KeyType::Ed25519 => (None, text.to_owned(), signature),
            KeyType::Cosignature => {
                let (time, bytes) = cosignature::split(signature).ok_or_else(bad)?;
                (Some(time), cosignature::message(text, time), bytes)
            }
        };
        let signature = ed25519_dalek::Signature::from_slice(bytes).map_err(|_| bad())?;
        self.key.verify_strict(message.as_bytes(), &signature).map_err(|_| bad())?;
        Ok(time)
    }

    /// The key if it is of type `kind`.
    ///
    /// # Errors
    /// [`LedgerError::WrongKeyType`].
    pub fn of_type(self, kind: KeyType) -> Result<Self, LedgerError> {
        if self.kind == kind { Ok(self) } else { Err(wrong_type(self.label(), self.kind, kind)) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.label(), base64::encode(&with_type(self.kind, self.key.as_bytes())))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A private key that signs notes. It is wiped from memory when dropped and never shown by `Debug`.
#[derive(Clone)]
pub struct SignerKey {
    name: String,
    id: u32,
    kind: KeyType,
    key: SigningKey,
}

impl SignerKey {
    /// The key of `secret`, which has to be random.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] when nothing may have this name.
    pub fn new(name: &str, kind: KeyType, secret: &[u8; SECRET_BYTES]) -> Result<Self, LedgerError> {
        if !is_key_name(name) {
            let expected = "a name without spaces, `+` or control characters";
            return Err(LedgerError::malformed("key", "name", shown(name.as_bytes()), expected));
        }
        let key = SigningKey::from_bytes(secret);
        let id = key_id(name, kind, key.verifying_key().as_bytes());
        Ok(Self { name: name.to_owned(), id, kind, key })
    }

    /// Reads `PRIVATE+KEY+NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the part that is wrong but nothing of the secret.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        const WHAT: &str = "private key";
        let rest =
            text.strip_prefix(PRIVATE).ok_or_else(|| LedgerError::malformed(WHAT, "beginning", "another text", PRIVATE))?;
        let (name, id, bytes) = parts(WHAT, rest)?;
        let (kind, secret) = typed(WHAT, &bytes)?;
        let key = Self::new(name, kind, secret)?;
        if key.id == id { Ok(key) } else { Err(wrong_id(WHAT, name, id)) }
    }

    /// The key as its file holds it, without newline; wiped when dropped, and with room for one character more.
    pub fn secret_text(&self) -> Zeroizing<String> {
        let label = self.verifier().label();
        let bytes = Zeroizing::new(with_type(self.kind, self.key.as_bytes()));
        let secret = Zeroizing::new(base64::encode(&bytes));
        let parts = [PRIVATE, &label, "+", &secret];
        // All of it at once: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 1));
        parts.iter().for_each(|part| text.push_str(part));
        text
    }

    /// Its public half.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), id: self.id, kind: self.kind, key: self.key.verifying_key() }
    }

    /// The key if it is of type `kind`.
    ///
    /// # Errors
    /// [`LedgerError::WrongKeyType`].
    pub fn of_type(self, kind: KeyType) -> Result<Self, LedgerError> {
        if self.kind == kind { Ok(self) } else { Err(wrong_type(self.verifier().label(), self.kind, kind)) }
    }

    /// Signs the text of a note: a log plainly, a cosigner with its time.
    ///
    /// # Errors
    /// [`LedgerError::WrongKeyType`] when key and seal do not fit; [`LedgerError::Malformed`] for a time beyond 2⁶³ − 1.
    pub fn sign(&self, text: &str, seal: Seal) -> Result<Signature, LedgerError> {
        let bytes = match (self.kind, seal) {
            (KeyType::Ed25519, Seal::Plain) => self.key.sign(text.as_bytes()).to_bytes().to_vec(),
            (KeyType::Cosignature, Seal::At(time)) => {
                cosignature::check_time(time)?;
                let signature = self.key.sign(cosignature::message(text, time).as_bytes());
                cosignature::join(time, &signature.to_bytes())
            }
            (kind, Seal::Plain) => return Err(wrong_type(self.verifier().label(), kind, KeyType::Ed25519)),
            (kind, Seal::At(_)) => return Err(wrong_type(self.verifier().label(), kind, KeyType::Cosignature)),
        };
        Ok(Signature { name: self.name.clone(), key_id: self.id, bytes })
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({}, secret not shown)", self.verifier().label())
    }
}

/// SHA-256(name ‖ newline ‖ type ‖ public key), the first four bytes.
fn key_id(name: &str, kind: KeyType, public: &[u8]) -> u32 {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind.byte()]).chain_update(public).finalize();
    digest.iter().take(4).fold(0, |id, byte| (id << 8) | u32::from(*byte))
}

fn with_type(kind: KeyType, bytes: &[u8]) -> Vec<u8> {
    [&[kind.byte()], bytes].concat()
}

/// Name, id and the rest, decoded. The base64 may itself contain `+`.
fn parts<'a>(what: &'static str, text: &'a str) -> Result<(&'a str, u32, Zeroizing<Vec<u8>>), LedgerError> {
    let wrong = |place: &str, expected: &str| LedgerError::malformed(what, place, "another text", expected);
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong("text", "NAME+ID+BASE64"));
    };
    let is_hex = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| is_hex).ok_or_else(|| wrong("id", "8 lowercase hex digits"))?;
    if !is_key_name(name) {
        return Err(wrong("name", "a name without spaces or control characters"));
    }
    let bytes = base64::decode(rest).ok_or_else(|| wrong("key", "padded standard base64"))?;
    Ok((name, id, Zeroizing::new(bytes)))
}

/// The type and the 32 bytes after it.
fn typed<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(KeyType, &'a [u8; 32]), LedgerError> {
    let short = |found: usize| LedgerError::malformed(what, "key", format!("{found} bytes"), "a type and 32 bytes");
    let (kind, rest) = bytes.split_first().ok_or_else(|| short(0))?;
    let kind = KeyType::from_byte(what, *kind)?;
    Ok((kind, rest.try_into().map_err(|_| short(bytes.len()))?))
}

fn wrong_id(what: &'static str, name: &str, id: u32) -> LedgerError {
    LedgerError::malformed(what, format!("id of {name}"), format!("{id:08x}"), "the id that belongs to this name and key")
}

fn wrong_type(key: String, found: KeyType, expected: KeyType) -> LedgerError {
    LedgerError::WrongKeyType { key, found: found.name(), expected: expected.name() }
}

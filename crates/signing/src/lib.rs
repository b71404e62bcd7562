//! Signatures of directories and statements of where they come from, made and verified without any network.
//!
//! | module | what it reads and writes | specification |
//! | --- | --- | --- |
//! | [`manifest`] | the digests of a directory's files, and how a directory differs from them | OMS v1.0, section 6 |
//! | [`dsse`] | a payload and signatures over it | DSSE v1.0 |
//! | [`oms`] | `model.sig`: a manifest, signed | OpenSSF Model Signing v1.0, method `key` |
//! | [`provenance`] | `provenance.intoto.jsonl`: what made a directory, out of what | in-toto Statement v1, SLSA provenance v1 |
//! | [`artefact`] | both files of a directory that programs publish and use | FORMAT.md beside this folder |
//! | [`keys`] | key pairs in PEM: P-256, and P-384 to verify with | PKCS#8, SubjectPublicKeyInfo |
//! | [`trust`] | a directory of public keys, with names and roles | – |
//!
//! A signature is believed because of a public key that the caller has in a file, never because of anything that travels with the signature.
//! What the specifications leave open is decided here for the strict side: a field that nobody signs and nobody reads is refused, a link to
//! outside is named, a file that changes while it is read is an error.
//!
//! OMS: <https://github.com/ossf/model-signing-spec>; DSSE: <https://github.com/secure-systems-lab/dsse>; in-toto:
//! <https://github.com/in-toto/attestation>; SLSA: <https://slsa.dev/spec/v1.0/provenance>.

pub mod artefact;
mod differences;
mod distinct;
pub mod dsse;
mod error;
mod files;
pub mod keys;
pub mod manifest;
pub mod oms;
pub mod provenance;
mod resource;
pub mod trust;

pub use differences::Differences;
pub use error::{Error, Result};
pub use sirocco_files::BareDigest as Digest;

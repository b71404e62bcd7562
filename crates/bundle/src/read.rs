//! Reading a bundle: nothing of it is handed out before every byte was compared with what a trusted key signed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use sirocco_custody::artefact::ORIGIN;
use sirocco_custody::{Custody, Origin};
use sirocco_files::tar::{self, BLOCK, Member};
use sirocco_files::{BareDigest, Digester, read};
use sirocco_signing::oms::{self, Signed};
use sirocco_signing::trust::{Trust, role};
use sirocco_signing::{Error, manifest};

use crate::error::{BundleError, io, malformed};
use crate::incoming::Incoming;
use crate::part::ROLES;
use crate::pulse::Pulse;
use crate::record::{FileRecord, PartRecord, RECORD, Record};
use crate::unpack::target;
use crate::walk::{CHUNK, chunks};

/// Whose signature on a bundle counts: who hands on what was made, and who is trusted for what comes from elsewhere.
const SENDERS: [&str; 2] = [role::RELEASE, role::IMPORT];
/// No signature, and no record, is longer, in bytes.
const LONGEST: u64 = 1 << 26;

/// A bundle that is, to its last byte, what a trusted key signed.
#[derive(Debug)]
pub struct Bundle {
    pub(crate) path: PathBuf,
    file: File,
    /// The bytes of `model.sig`.
    pub(crate) signature: Vec<u8>,
    /// The bytes of `bundle.json`.
    pub(crate) text: Vec<u8>,
    /// Where the first file of a part begins.
    begin: u64,
    record: Record,
    signer: String,
    digest: BareDigest,
    /// Whose signature each part has that has one of its own, by its place.
    signers: BTreeMap<String, String>,
}

impl Bundle {
    /// Reads all of a bundle and compares it with the signature of a key that has the role `release` or `import`. Parts with a record of their
    /// own are signed by a trusted key, too, or they could not be used.
    ///
    /// # Errors
    /// [`BundleError::Malformed`] with the file that differs; a signature that does not hold, or is not of a trusted key.
    pub fn open(path: &Path, trust: &Trust, pulse: &mut Pulse<'_>) -> Result<Bundle, BundleError> {
        let (file, _) = read::open(path)?;
        let mut stream = Stream::new(path, &file);
        let signature = stream.small(oms::FILE)?;
        oms::expect_own_form(&path.join(oms::FILE), &signature)?;
        let signed = signed_by(&path.join(oms::FILE), &signature, trust, &SENDERS)?;
        let text = stream.small(RECORD)?;
        let record = record(path, &text, &signed)?;
        let begin = stream.at;
        let mut kept = BTreeMap::new();
        for part in &record.parts {
            for file in &part.files {
                let is_kept = part.has_origin() && [Some(ORIGIN), Some(oms::FILE)].contains(&part.inner(file));
                let mut bytes = Vec::new();
                stream.large(file, pulse, |chunk| {
                    if is_kept && bytes.len() as u64 <= LONGEST {
                        bytes.extend_from_slice(chunk);
                    }
                    Ok(())
                })?;
                if is_kept {
                    kept.insert(file.name.as_str(), bytes);
                }
            }
        }
        stream.end()?;
        let mut signers = BTreeMap::new();
        for part in record.parts.iter().filter(|part| part.has_origin()) {
            signers.insert(part.place.clone(), own_signer(path, part, &kept, trust)?);
        }
        let (signer, digest) = (signed.signer.name, signed.manifest.digest());
        Ok(Bundle { path: path.to_owned(), file, signature, text, begin, record, signer, digest, signers })
    }

    /// What is in it, who packed it, and for whom.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The trusted key that signed it, by its name.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// The digest of everything that is signed: what ledgers call the bundle.
    pub fn digest(&self) -> BareDigest {
        self.digest
    }

    /// Whose signature a part has of its own.
    pub fn signer_of(&self, part: &PartRecord) -> Option<&str> {
        self.signers.get(&part.place).map(String::as_str)
    }

    /// What has to be admitted before it is unpacked into `to`.
    ///
    /// # Errors
    /// [`BundleError::Exists`]; a place that is not there.
    pub fn incoming(&self, custody: &Custody, to: &Path) -> Result<Vec<Incoming>, BundleError> {
        Ok(Incoming::all(&self.record, self.digest, custody, &target(to)?))
    }

    /// Goes through the files of all parts once more and compares them again; `begin` is told of each file, `take` gets its bytes.
    pub(crate) fn files(
        &self,
        pulse: &mut Pulse<'_>,
        mut take: impl FnMut(&FileRecord, Option<&[u8]>) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.begin)).map_err(io("read", &self.path))?;
        let mut stream = Stream { at: self.begin, ..Stream::new(&self.path, &self.file) };
        for file in self.record.files() {
            stream.large(file, pulse, |chunk| take(file, Some(chunk)))?;
            take(file, None)?;
        }
        stream.end()
    }
}

/// The signature of a key that has one of the roles.
fn signed_by(path: &Path, json: &[u8], trust: &Trust, roles: &[&str]) -> Result<Signed, BundleError> {
    let mut failed: Option<Error> = None;
    for role in roles {
        match trust.with_role(role).and_then(|trust| oms::read_bytes(path, json, &trust)) {
            // Another role may have the key; a key by name says more than a role that nobody has.
            Err(error @ (Error::UnknownKey { .. } | Error::BadTrust { .. })) => {
                if !matches!(failed, Some(Error::UnknownKey { .. })) {
                    failed = Some(error);
                }
            }
            answer => return Ok(answer?),
        }
    }
    Err(failed.unwrap_or_else(|| Error::Unsigned { path: path.to_owned() }).into())
}

/// The record, once it is what was signed, and says the same as the signature.
fn record(path: &Path, text: &[u8], signed: &Signed) -> Result<Record, BundleError> {
    let lines = &signed.manifest.resources;
    let own = lines.iter().find(|line| line.file == RECORD && line.range.is_none()).map(|line| line.digest);
    let found = BareDigest::of(text);
    if own != Some(found) || signed.manifest.options.method != manifest::Method::Files {
        let expected = own.map_or_else(|| "a signature over it".to_owned(), |digest| format!("SHA-256 {digest}, as was signed"));
        return Err(malformed(path, RECORD, format!("SHA-256 {found}"), expected));
    }
    let record: Record = serde_json::from_slice(text)
        .map_err(|error| malformed(path, RECORD, error.to_string(), "a record as sirocco bundle pack writes it"))?;
    record.check(path)?;
    if record.manifest(text)?.digest() != signed.manifest.digest() {
        return Err(malformed(path, RECORD, "other files than were signed", "the files of the signature"));
    }
    Ok(record)
}

/// Whose signature a part has of its own, which is over exactly its files.
fn own_signer(path: &Path, part: &PartRecord, kept: &BTreeMap<&str, Vec<u8>>, trust: &Trust) -> Result<String, BundleError> {
    let name = |file: &str| format!("{}/{file}", part.place);
    let bytes = |file: &str| kept.get(name(file).as_str()).map(Vec::as_slice).unwrap_or_default();
    let wrong = |file: &str, found: String, expected: String| malformed(path, &name(file), found, expected);
    let signed = signed_by(&path.join(name(oms::FILE)), bytes(oms::FILE), trust, &ROLES)?;
    if signed.manifest.digest() != part.sha256 {
        let found = format!("a signature over {}", signed.manifest.digest());
        return Err(wrong(oms::FILE, found, format!("one over the files of this part, {}", part.sha256)));
    }
    let origin: Origin = serde_json::from_slice(bytes(ORIGIN))
        .map_err(|error| wrong(ORIGIN, error.to_string(), "a record as Sirocco writes it".to_owned()))?;
    if origin.artefact != part.artefact {
        return Err(wrong(ORIGIN, origin.artefact.to_string(), format!("{}, as {RECORD} says", part.artefact)));
    }
    Ok(signed.signer.name)
}

/// The file, from its beginning to its end.
struct Stream<'a> {
    path: &'a Path,
    from: BufReader<&'a File>,
    /// Bytes before what comes next.
    at: u64,
}

impl<'a> Stream<'a> {
    fn new(path: &'a Path, file: &'a File) -> Stream<'a> {
        Stream { path, from: BufReader::with_capacity(CHUNK, file), at: 0 }
    }

    /// Exactly so many bytes; `place` is the file that they belong to.
    fn exactly(&mut self, place: &str, bytes: u64) -> Result<Vec<u8>, BundleError> {
        let mut found = Vec::new();
        self.from.by_ref().take(bytes).read_to_end(&mut found).map_err(io("read", self.path))?;
        let got = found.len() as u64;
        self.at = self.at.saturating_add(got);
        if got < bytes { Err(self.cut(place, bytes - got)) } else { Ok(found) }
    }

    fn cut(&self, place: &str, missing: u64) -> BundleError {
        malformed(self.path, place, format!("the end of the bundle after byte {}", self.at), format!("{missing} bytes more"))
    }

    fn block(&mut self, place: &str) -> Result<[u8; BLOCK], BundleError> {
        let found = self.exactly(place, BLOCK as u64)?;
        Ok(found.first_chunk().copied().unwrap_or([0; BLOCK]))
    }

    /// The header of the file that has to come.
    fn header(&mut self, name: &str, bytes: u64) -> Result<(), BundleError> {
        let begin = self.at;
        let block = self.block(name)?;
        let expected = tar::header(name, bytes).map_err(|why| malformed(self.path, name, why.found, why.expected))?;
        if block == expected {
            return Ok(());
        }
        let found = match Member::read(&block) {
            Ok(member) => format!("{:?} of {} bytes", member.name, member.bytes),
            Err(why) => why.found,
        };
        Err(malformed(self.path, name, format!("{found} at byte {begin}"), format!("the header of {name} with {bytes} bytes")))
    }

    /// Zeros up to the next block.
    fn padding(&mut self, name: &str, bytes: u64) -> Result<(), BundleError> {
        let found = self.exactly(name, tar::padding(bytes) as u64)?;
        if found.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(malformed(self.path, name, "bytes after its end", "zeros to the end of the block"))
    }

    /// A file of which only the name is known yet.
    fn small(&mut self, name: &str) -> Result<Vec<u8>, BundleError> {
        let block = self.block(name)?;
        let expected = "a bundle that sirocco bundle pack wrote";
        let member = Member::read(&block).map_err(|why| malformed(self.path, name, why.found, expected))?;
        if member.name != name || member.bytes > LONGEST {
            let found = format!("{:?} of {} bytes", member.name, member.bytes);
            return Err(malformed(self.path, name, found, expected));
        }
        let bytes = self.exactly(name, member.bytes)?;
        self.padding(name, member.bytes)?;
        Ok(bytes)
    }

    /// A file whose size and digest are known.
    fn large(
        &mut self,
        file: &FileRecord,
        pulse: &mut Pulse<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        self.header(&file.name, file.bytes)?;
        let mut digester = Digester::new();
        let got = chunks((self.path, &file.name), self.from.by_ref().take(file.bytes), pulse, |chunk| {
            digester.update(chunk);
            take(chunk)
        })?;
        self.at = self.at.saturating_add(got);
        if got < file.bytes {
            return Err(self.cut(&file.name, file.bytes - got));
        }
        let digest = BareDigest::from(digester.finish());
        if digest != file.sha256 {
            let expected = format!("{}, as was signed", file.sha256);
            return Err(malformed(self.path, &file.name, format!("SHA-256 {digest}"), expected));
        }
        self.padding(&file.name, file.bytes)
    }

    /// Two blocks of zeros, and nothing after them.
    fn end(&mut self) -> Result<(), BundleError> {
        let place = "the end";
        let zeros = self.exactly(place, 2 * BLOCK as u64)?;
        let more = self.from.read(&mut [0]).map_err(io("read", self.path))?;
        if more > 0 || zeros.iter().any(|byte| *byte != 0) {
            return Err(malformed(self.path, place, "more than was signed", "two blocks of zeros"));
        }
        Ok(())
    }
}

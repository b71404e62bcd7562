//! A policy set on disk: its files, whose signature they have, and what this machine demands of every set.

use std::path::{Path, PathBuf};

use sirocco_config::OPEN_POLICY;
use sirocco_files::read;
use sirocco_policy::{Demands, Manifest, PolicySet, SetError, Signature, Signer, Source};
use sirocco_signing::oms;
use sirocco_signing::trust::{Trust, role};

use crate::error::{CustodyError, io};
use crate::trust;

/// No file of a set is longer, in bytes.
const LONGEST: u64 = 16 << 20;

/// Where a machine says what it demands of policy sets. It belongs to whoever runs the machine.
pub const MACHINE: &str = "/etc/sirocco/demands.toml";

/// The set that needs no files, as it was when the program was built.
const OPEN: [(&str, &str); 3] = [
    ("cases.toml", include_str!("../../../configs/policies/open/cases.toml")),
    ("facts.toml", include_str!("../../../configs/policies/open/facts.toml")),
    ("policy.cedar", include_str!("../../../configs/policies/open/policy.cedar")),
];

/// A set as it was read, with its texts.
#[derive(Clone, Debug)]
pub struct ReadSet {
    /// Where it was read.
    pub path: PathBuf,
    /// Its files.
    pub files: Vec<Source>,
    /// What a user adds: facts about data, models and adapters.
    pub own: Vec<Source>,
    /// The file with the signature that they have, where one counts.
    pub signature: Option<Vec<u8>>,
    /// What they say together.
    pub set: PolicySet,
    /// What the machine demands.
    pub demands: Vec<Demands>,
}

impl ReadSet {
    /// Reads a set and the files of facts that a user adds to it. A signature is looked at where `trust`, or the machine, has keys for it.
    ///
    /// # Errors
    /// [`CustodyError::NoSet`]; a file that cannot be read or is not right; files that are not those that were signed.
    pub fn read(written: &str, own: &[PathBuf], trust: Option<&Trust>) -> Result<ReadSet, CustodyError> {
        let path = PathBuf::from(written);
        let files: Vec<Source> =
            if written == OPEN_POLICY { OPEN.map(|(name, text)| Source::new(name, text)).to_vec() } else { in_directory(&path)? };
        // Where the machine names keys, nobody else signs sets for it, not even where it gives no key that role.
        let machine = trust::by_machine()?;
        let trusted = machine.as_ref().or(trust);
        let (signature, bytes) = match trusted.filter(|_| path.join(oms::FILE).exists()) {
            Some(trust) => signature(&path, trust).map(|(signature, bytes)| (Some(signature), Some(bytes)))?,
            None => (None, None),
        };
        let wrong = |why: String| CustodyError::Set { path: path.clone(), why };
        let parsed = match signature {
            Some(signature) => PolicySet::parse_signed(&files, signature),
            None => PolicySet::parse(&files),
        };
        let own = own.iter().map(|file| Ok(Source::new(file.display().to_string(), read::text(file, LONGEST)?)));
        let own = own.collect::<Result<Vec<_>, CustodyError>>()?;
        let set = parsed.map_err(|error| match error {
            SetError::NotAsSigned { .. } => CustodyError::SetChanged { path: path.clone(), why: error.to_string() },
            error => wrong(error.to_string()),
        })?;
        let demands = machine_demands()?;
        let fixed = if written == OPEN_POLICY { Ok(()) } else { expect_fixed(&path, &set, &demands) };
        fixed?;
        let set = set.with_own(&own).map_err(|error| wrong(error.to_string()))?;
        Ok(ReadSet { path, files, own, signature: bytes, set, demands })
    }
}

/// Every file of a set, by its name.
fn in_directory(path: &Path) -> Result<Vec<Source>, CustodyError> {
    let no_set = |found: &str| CustodyError::NoSet { path: path.to_owned(), found: found.to_owned() };
    if !path.exists() {
        return Err(no_set("nothing"));
    }
    if !path.is_dir() {
        return Err(no_set("a file"));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io("list", path))? {
        let file = entry.map_err(io("list", path))?.path();
        expect_read(path, &file)?;
        let is_text = file.extension().is_some_and(|ending| ending == "cedar" || ending == "toml");
        if let (true, Some(name)) = (is_text, file.file_name().and_then(|name| name.to_str())) {
            files.push(Source::new(name, read::text(&file, LONGEST)?));
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    if files.iter().all(|file| !file.name.ends_with(".cedar")) {
        return Err(no_set("a directory without rules"));
    }
    Ok(files)
}

/// Refuses what looks like a rule and would not be read: it may be the one that forbids.
fn expect_read(set: &Path, file: &Path) -> Result<(), CustodyError> {
    let ending = file.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
    let is_other = ["cedar", "toml"].iter().any(|known| ending != **known && ending.eq_ignore_ascii_case(known));
    if !is_other && !file.is_dir() {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let what = if file.is_dir() { "a directory, where nothing is read" } else { "a name that is not read" };
    let why = format!("{name}: {what}; expected *.cedar and *.toml in the set's own directory");
    Err(CustodyError::Set { path: set.to_owned(), why })
}

/// Refuses places that another working directory would make another place, where the machine demands this set.
fn expect_fixed(path: &Path, set: &PolicySet, demands: &[Demands]) -> Result<(), CustodyError> {
    let Some((name, place)) = set.gate().facts().relative().filter(|_| !demands.is_empty()) else { return Ok(()) };
    let why = format!(
        "facts: {name}: path = {place:?} is another place in every directory, and {MACHINE} demands this set: expected an absolute path, or sha256"
    );
    Err(CustodyError::Set { path: path.to_owned(), why })
}

/// The signature of a set by a key that may sign sets, and the file that it stands in.
fn signature(path: &Path, trust: &Trust) -> Result<(Signature, Vec<u8>), CustodyError> {
    let file = path.join(oms::FILE);
    let bytes = read::bytes(&file, LONGEST)?;
    let signed = oms::read_bytes(&file, &bytes, &trust.with_role(role::POLICY)?)?;
    let signer = Signer { name: signed.signer.name.clone(), key: signed.signer.key.fingerprint().to_string() };
    let files = signed.manifest.resources.iter().map(|resource| (resource.file.clone(), resource.digest));
    let covers =
        Manifest::of_digests(files).map_err(|error| CustodyError::Set { path: path.to_owned(), why: error.to_string() })?;
    Ok((Signature { signer, covers }, bytes))
}

fn machine_demands() -> Result<Vec<Demands>, CustodyError> {
    let path = Path::new(MACHINE);
    if !trust::is_there(path)? {
        return Ok(Vec::new());
    }
    let source = Source::new(MACHINE, read::text(path, LONGEST)?);
    let demands = Demands::parse(&source).map_err(|error| CustodyError::Set { path: path.to_owned(), why: error.to_string() })?;
    Ok(vec![demands])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_set_needs_no_files() {
        let read = ReadSet::read(OPEN_POLICY, &[], None).unwrap();
        assert!(read.set.gate().rules().iter().count() > 0);
    }

    #[test]
    fn a_set_that_is_not_there_is_named() {
        let error = ReadSet::read("/nowhere/rules", &[], None).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/rules: nothing, expected a directory with policy.cedar and facts.toml");
    }

    #[test]
    fn what_looks_like_a_rule_and_is_not_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path();
        std::fs::write(set.join("policy.cedar"), "@id(\"all\")\npermit(principal, action, resource);").unwrap();
        std::fs::write(set.join("facts.toml"), "").unwrap();
        std::fs::write(set.join("README.md"), "why").unwrap();
        let read = || ReadSet::read(&set.display().to_string(), &[], None).map(drop).map_err(|error| error.to_string());
        read().unwrap();
        std::fs::write(set.join("forbid.CEDAR"), "").unwrap();
        let refused = read().unwrap_err();
        assert!(refused.contains("forbid.CEDAR: a name that is not read; expected *.cedar"), "{refused}");
        std::fs::remove_file(set.join("forbid.CEDAR")).unwrap();
        std::fs::create_dir(set.join("more")).unwrap();
        let refused = read().unwrap_err();
        assert!(refused.contains("more: a directory, where nothing is read"), "{refused}");
    }

    #[test]
    fn a_set_that_is_demanded_names_places_that_are_the_same_everywhere() {
        let set = |path: &str| {
            let facts = Source::new("facts.toml", format!("[data.letters]\npath = {path:?}\n"));
            PolicySet::parse(&[Source::new("policy.cedar", "@id(\"all\")\npermit(principal, action, resource);"), facts]).unwrap()
        };
        let (relative, absolute) = (set("data/letters"), set("/projects/letters"));
        expect_fixed(Path::new("rules"), &relative, &[]).unwrap();
        expect_fixed(Path::new("rules"), &absolute, &[Demands::default()]).unwrap();
        let refused = expect_fixed(Path::new("rules"), &relative, &[Demands::default()]).unwrap_err().to_string();
        assert!(refused.starts_with("rules: facts: data:letters: path = \"data/letters\" is another place"), "{refused}");
    }

    #[test]
    fn facts_that_do_not_parse_are_told_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let added = folder.path().join("mine.toml");
        std::fs::write(&added, "[data.letters]\nresidency = 3\n").unwrap();
        let error = ReadSet::read(OPEN_POLICY, std::slice::from_ref(&added), None).unwrap_err().to_string();
        assert!(error.contains("mine.toml:2"), "{error}");
    }
}

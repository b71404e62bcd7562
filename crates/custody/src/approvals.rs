//! Approvals by other people: signed files beside a run.
//!
//! ```text
//! RUN/approvals/export-adapter-amal-2026-11-22-0123456789abcdef.json    a DSSE envelope over an [`Approval`], signed by the key of the
//!                                                                       person who approves; the digits are of its digest
//! ```
//!
//! Whose key it is, the directory of trusted keys says: the name of the key is the name of the person, and `roles.json` gives it the role
//! `approve`. An approval is good for one action with one artefact of one run, up to its last day. One that is not good is set aside with the
//! reason and stops nothing: the policy then does not know of it, and says what is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sirocco_files::{BareDigest, read, replace};
use sirocco_policy::{Action, Day, Name, Who, WhoKind};
use sirocco_signing::dsse::Envelope;
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::trust::{Trust, role};

use crate::error::{CustodyError, io};

/// Where the approvals of a run lie.
pub const DIRECTORY: &str = "approvals";
/// What the payload is.
const PAYLOAD: &str = "application/vnd.sirocco.approval+json";
/// No approval is longer, in bytes.
const LONGEST: u64 = 1 << 20;
/// The version of [`Approval`].
const VERSION: u32 = 1;

/// What somebody approves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The version of this record.
    pub v: u32,
    /// What may be done.
    pub action: Action,
    /// With what.
    pub artefact: Name,
    /// Of which run: [`run_id`].
    pub run: String,
    /// Who approves, by the name of the key.
    pub approver: String,
    /// The day on which it was given.
    pub day: Day,
    /// The last day on which it is good.
    pub until: Day,
}

/// What an approval has to be about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What is to be done.
    pub action: Action,
    /// With what.
    pub artefact: &'a Name,
    /// Of which run: [`run_id`].
    pub run: &'a str,
    /// Today.
    pub day: Day,
}

/// Who approved, and which files say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals {
    /// People with a good approval.
    pub approved_by: BTreeSet<Who>,
    /// Files about this action that are not good, with the reason. Approvals of other actions are not among them.
    pub set_aside: Vec<(PathBuf, String)>,
}

/// One run among those of the same name: its name, the digest of the settings that no resuming changes, and that of the tokens it is trained
/// on (`data`): the same settings with other data are another run.
pub fn run_id(run: &sirocco_config::Run, data: &str) -> String {
    format!("{}@{}@{data}", run.name, run.settled_digest())
}

impl Approval {
    /// An approval that is given today.
    pub fn new(about: &About<'_>, approver: &str, until: Day) -> Approval {
        let About { action, artefact, run, day } = *about;
        let (artefact, run, approver) = (artefact.clone(), run.to_owned(), approver.to_owned());
        Approval { v: VERSION, action, artefact, run, approver, day, until }
    }

    /// Signs it and writes it into a run's directory, beside those that are there, because decisions rest on them.
    ///
    /// # Errors
    /// A name that cannot be that of a file; a directory that cannot be written.
    pub fn write(&self, run: &Path, key: &PrivateKey) -> Result<PathBuf, CustodyError> {
        let folder = run.join(DIRECTORY);
        let record = |found: String| CustodyError::Record { path: folder.clone(), found, expected: "an approval" };
        let payload = serde_json::to_vec(self).map_err(|error| record(error.to_string()))?;
        let envelope = Envelope::sign(PAYLOAD, payload, key).to_json()?;
        let digest: String = BareDigest::of(envelope.as_bytes()).to_string().chars().take(16).collect();
        let kind = self.artefact.kind.word();
        let path = folder.join(format!("{}-{kind}-{}-{}-{digest}.json", self.action, self.approver, self.day));
        if path.parent() != Some(folder.as_path()) || self.approver.contains(['/', '\0']) {
            return Err(record(format!("the name {:?}, which cannot be that of a file", self.approver)));
        }
        std::fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        replace::file_and_name(&path, envelope.as_bytes(), 0o644)?;
        Ok(path)
    }
}

/// Reads the approvals of a run and keeps those that are good for what is asked about.
///
/// # Errors
/// A directory that cannot be listed.
pub fn read(run: &Path, trust: &Trust, about: &About<'_>) -> Result<Approvals, CustodyError> {
    let folder = run.join(DIRECTORY);
    let mut found = Approvals::default();
    if !folder.is_dir() {
        return Ok(found);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(io("list", &folder))? {
        paths.push(entry.map_err(io("list", &folder))?.path());
    }
    paths.sort();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        match approver(&path, trust, about) {
            Ok(Some(who)) => drop(found.approved_by.insert(who)),
            Ok(None) => {}
            Err(why) => found.set_aside.push((path, why)),
        }
    }
    Ok(found)
}

/// Whose good approval a file is; `None` if it is about another action. The error is why it is not good.
fn approver(path: &Path, trust: &Trust, about: &About<'_>) -> Result<Option<Who>, String> {
    let bytes = read::bytes_if_there(path, LONGEST).map_err(|error| error.to_string())?.ok_or("it is gone")?;
    let envelope = Envelope::parse(path, &bytes).map_err(|error| error.to_string())?;
    let approval: Approval = serde_json::from_slice(&envelope.payload).map_err(|error| format!("its payload: {error}"))?;
    if approval.action != about.action {
        return Ok(None);
    }
    let trusted = trust.with_role(role::APPROVE).map_err(|error| error.to_string())?;
    let signers = envelope.verify(path, PAYLOAD, &trusted).map_err(|error| error.to_string())?;
    if signers.iter().all(|signer| signer.name != approval.approver) {
        let names: Vec<_> = signers.iter().map(|signer| signer.name.as_str()).collect();
        return Err(format!("it is signed by {}: expected {}, who it says approves", names.join(", "), approval.approver));
    }
    good(&approval, about)?;
    Ok(Some(Who::new(WhoKind::Person, approval.approver)))
}

fn good(approval: &Approval, about: &About<'_>) -> Result<(), String> {
    if approval.v != VERSION {
        return Err(format!("it is of version {}: expected {VERSION}", approval.v));
    }
    if approval.run != about.run {
        return Err(format!("it is for the run {}: expected {}", approval.run, about.run));
    }
    if approval.artefact != *about.artefact {
        return Err(format!("it is for {}: expected {}", approval.artefact, about.artefact));
    }
    if about.day < approval.day || approval.until < about.day {
        return Err(format!("it is good from {} to {}: today is {}", approval.day, approval.until, about.day));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "run@1";

    struct Office {
        folder: tempfile::TempDir,
        amal: PrivateKey,
        trust: Trust,
    }

    fn office(role: &str) -> Office {
        let folder = tempfile::tempdir().unwrap();
        let trust = folder.path().join("trust");
        std::fs::create_dir(&trust).unwrap();
        let amal = PrivateKey::generate().unwrap();
        std::fs::write(trust.join("amal.pub"), amal.public().pem()).unwrap();
        std::fs::write(trust.join("roles.json"), format!("{{\"amal\": [{role:?}]}}")).unwrap();
        Office { trust: Trust::read(&trust).unwrap(), folder, amal }
    }

    fn adapter() -> Name {
        "adapter:run".parse().unwrap()
    }

    fn about(artefact: &Name) -> About<'_> {
        About { action: Action::Export, artefact, run: RUN, day: "2026-11-22".parse().unwrap() }
    }

    fn until() -> Day {
        "2026-11-30".parse().unwrap()
    }

    /// What comes of an approval by `name` with `key` under the question `asked`.
    fn outcome(office: &Office, approval: &Approval, key: &PrivateKey, asked: &About<'_>) -> Approvals {
        approval.write(office.folder.path(), key).unwrap();
        read(office.folder.path(), &office.trust, asked).unwrap()
    }

    #[test]
    fn a_good_approval_counts() {
        let (office, artefact) = (office("approve"), adapter());
        let found = outcome(&office, &Approval::new(&about(&artefact), "amal", until()), &office.amal, &about(&artefact));
        assert_eq!(found.approved_by, BTreeSet::from([Who::new(WhoKind::Person, "amal")]));
        assert_eq!(found.set_aside, []);
    }

    #[test]
    fn for_anything_else_it_does_not() {
        let (office, artefact, merged) = (office("approve"), adapter(), "merged:run".parse::<Name>().unwrap());
        let given = Approval::new(&about(&artefact), "amal", until());
        let others = [
            About { run: "run@2", ..about(&artefact) },
            About { artefact: &merged, ..about(&artefact) },
            About { day: "2026-12-01".parse().unwrap(), ..about(&artefact) },
            About { day: "2026-11-21".parse().unwrap(), ..about(&artefact) },
        ];
        for asked in others {
            let found = outcome(&office, &given, &office.amal, &asked);
            assert!(found.approved_by.is_empty() && found.set_aside.len() == 1, "{asked:?}: {found:?}");
        }
        let found = outcome(&office, &given, &office.amal, &About { action: Action::Merge, ..about(&artefact) });
        assert_eq!(found, Approvals::default());
    }

    #[test]
    fn only_the_key_of_that_person_counts_and_only_with_the_role() {
        let (trusted, artefact, other) = (office("approve"), adapter(), PrivateKey::generate().unwrap());
        let given = Approval::new(&about(&artefact), "amal", until());
        let found = outcome(&trusted, &given, &other, &about(&artefact));
        assert!(found.approved_by.is_empty() && found.set_aside.len() == 1, "{found:?}");
        let borrowed = Approval { approver: "karim".to_owned(), ..given.clone() };
        let found = outcome(&office("approve"), &borrowed, &trusted.amal, &about(&artefact));
        assert!(found.approved_by.is_empty(), "{found:?}");
        let other_role = office("release");
        let found = outcome(&other_role, &given, &other_role.amal, &about(&artefact));
        assert!(found.approved_by.is_empty() && found.set_aside.len() == 1, "{found:?}");
        let office = office("approve");
        let found = outcome(&office, &borrowed, &office.amal, &about(&artefact));
        assert!(found.set_aside[0].1.contains("expected karim"), "{found:?}");
    }

    #[test]
    fn a_changed_byte_does_not_count() {
        let (office, artefact) = (office("approve"), adapter());
        let path = Approval::new(&about(&artefact), "amal", until()).write(office.folder.path(), &office.amal).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let later = Approval::new(&about(&artefact), "amal", "2026-12-30".parse().unwrap());
        let other = later.write(office.folder.path(), &PrivateKey::generate().unwrap()).unwrap();
        let payload =
            |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["payload"].as_str().unwrap().to_owned();
        let forged = text.replace(&payload(&text), &payload(&std::fs::read_to_string(other).unwrap()));
        std::fs::write(&path, forged).unwrap();
        let found = read(office.folder.path(), &office.trust, &about(&artefact)).unwrap();
        assert!(
            found.approved_by.is_empty() && found.set_aside.len() == 2,
            "the forged one, and the one it came from: {found:?}"
        );
    }

    #[test]
    fn nobody_is_called_a_path() {
        let (office, artefact) = (office("approve"), adapter());
        let error = Approval::new(&about(&artefact), "../amal", until()).write(office.folder.path(), &office.amal);
        assert!(error.unwrap_err().to_string().contains("cannot be that of a file"));
    }
}

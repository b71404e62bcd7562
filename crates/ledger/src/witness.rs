//! Trust policies: which logs are known, which witnesses, and how many of them must have cosigned. C2SP tlog-policy, "Policy file syntax".

use crate::LedgerError;
use crate::checkpoint::SignedCheckpoint;
use crate::error::shown;
use crate::key::{KeyType, VerifierKey};
use crate::note::list;
use crate::tile::decimal;

const WHAT: &str = "policy";
/// The most logs, witnesses and groups; the specification asks for 32 of each at least.
pub const POLICY_LIMIT: usize = 1024;

/// A log or a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// Its name in the policy: a log's is the log's own.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where it can be reached; not used here.
    pub url: Option<String>,
}

/// What a name of a policy stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Member {
    /// A witness, by its place.
    Witness(usize),
    /// At least so many of these members, by their places; all stand before the group.
    Group { needed: usize, members: Vec<usize> },
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustPolicy {
    logs: Vec<Party>,
    witnesses: Vec<Party>,
    /// Witnesses and groups in the order of their lines, each with whether a group has it.
    named: Vec<(Vec<u8>, Member, bool)>,
    quorum: Option<usize>,
}

/// A witness whose cosignature verifies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    /// Its name in the policy.
    pub witness: String,
    /// When it says that it signed, in seconds since 1970.
    pub time: u64,
}

/// A checkpoint that satisfies a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The log's name.
    pub log: String,
    /// The witnesses of the policy that have cosigned it.
    pub witnesses: Vec<Cosigned>,
}

impl TrustPolicy {
    /// A policy that knows logs by their keys and asks for no witnesses.
    ///
    /// # Errors
    /// [`LedgerError::WrongKeyType`] for a key that is not a log's.
    pub fn of_logs(keys: impl IntoIterator<Item = VerifierKey>) -> Result<Self, LedgerError> {
        let party = |key: VerifierKey| {
            let key = key.of_type(KeyType::Ed25519)?;
            Ok(Party { name: key.name().to_owned(), key, url: None })
        };
        Ok(Self { logs: keys.into_iter().map(party).collect::<Result<_, LedgerError>>()?, ..Self::default() })
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the line, and [`LedgerError::WrongKeyType`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut policy = Self::default();
        let mut quorum = None;
        let body = bytes.strip_suffix(b"\n").ok_or_else(|| wrong(0, "end", bytes, "a newline"))?;
        for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            if let Some(bad) = line.iter().find(|byte| (**byte < 0x20 && **byte != b'\t') || **byte == 0x7f) {
                return Err(wrong(number, "character", &[*bad], "no control characters but tab and newline"));
            }
            let items: Vec<&[u8]> = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|item| !item.is_empty()).collect();
            match items.as_slice() {
                [] => {}
                [first, ..] if first.starts_with(b"#") => {}
                [b"log", key, url @ ..] => policy.add_log(number, key, url)?,
                [b"witness", name, key, url @ ..] => policy.add_witness(number, name, key, url)?,
                [b"group", name, needed, members @ ..] => policy.add_group(number, name, needed, members)?,
                [b"quorum", name] if quorum.is_none() => quorum = Some(policy.quorum(number, name)?),
                [b"quorum", ..] => return Err(wrong(number, "quorum", line, "one line `quorum <name>`")),
                _ => return Err(wrong(number, "line", line, "log, witness, group or quorum with their items")),
            }
        }
        policy.quorum = quorum.ok_or_else(|| wrong(0, "end", b"", "a line `quorum <name>`"))?;
        Ok(policy)
    }

    /// The logs it knows.
    pub fn logs(&self) -> &[Party] {
        &self.logs
    }

    /// The witnesses it knows.
    pub fn witnesses(&self) -> &[Party] {
        &self.witnesses
    }

    /// Is `signed` signed by a known log under its own name, and cosigned by a quorum?
    ///
    /// # Errors
    /// [`LedgerError::NotSigned`], [`LedgerError::BadSignature`] or [`LedgerError::NoQuorum`].
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<Accepted, LedgerError> {
        let origin = &signed.checkpoint.origin;
        let logs: Vec<&VerifierKey> = self.logs.iter().map(|log| &log.key).filter(|key| key.name() == origin).collect();
        if logs.is_empty() {
            let expected = list(self.logs.iter().map(|log| log.key.label()));
            return Err(LedgerError::NotSigned { found: format!("the unknown log {origin}"), expected });
        }
        signed.note.verify(&logs)?;
        let keys: Vec<&VerifierKey> = self.witnesses.iter().map(|witness| &witness.key).collect();
        let cosigned = match signed.note.verify(&keys) {
            Ok(found) => found,
            Err(LedgerError::NotSigned { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let time = |witness: &Party| cosigned.iter().find(|by| *by.key == witness.key).and_then(|by| by.time);
        let times: Vec<Option<u64>> = self.witnesses.iter().map(time).collect();
        let found = self.witnesses.iter().zip(&times);
        let witnesses: Vec<Cosigned> =
            found.filter_map(|(witness, time)| Some(Cosigned { witness: witness.name.clone(), time: (*time)? })).collect();
        if self.reached(&times) {
            return Ok(Accepted { log: origin.clone(), witnesses });
        }
        let name = self.quorum.and_then(|at| self.named.get(at)).map(|(name, ..)| String::from_utf8_lossy(name).into_owned());
        let found = list(witnesses.into_iter().map(|witness| witness.witness));
        Err(LedgerError::NoQuorum { quorum: name.unwrap_or_default(), found })
    }

    /// Do the witnesses that have a time make the quorum? Groups refer to what stands before them, so one pass decides all.
    fn reached(&self, times: &[Option<u64>]) -> bool {
        let mut holds: Vec<bool> = Vec::with_capacity(self.named.len());
        for (_, member, _) in &self.named {
            holds.push(match member {
                Member::Witness(at) => times.get(*at).is_some_and(Option::is_some),
                Member::Group { needed, members } => {
                    members.iter().filter(|at| holds.get(**at).copied().unwrap_or(false)).count() >= *needed
                }
            });
        }
        self.quorum.is_none_or(|at| holds.get(at).copied().unwrap_or(false))
    }

    fn add_log(&mut self, line: usize, key: &[u8], url: &[&[u8]]) -> Result<(), LedgerError> {
        let key = vkey(line, key)?.of_type(KeyType::Ed25519)?;
        unique(line, &self.logs, &key)?;
        self.logs.push(Party { name: key.name().to_owned(), key, url: one_url(line, url)? });
        Ok(())
    }

    fn add_witness(&mut self, line: usize, name: &[u8], key: &[u8], url: &[&[u8]]) -> Result<(), LedgerError> {
        let key = vkey(line, key)?.of_type(KeyType::Cosignature)?;
        unique(line, &self.witnesses, &key)?;
        self.name(line, name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(Party { name: String::from_utf8_lossy(name).into_owned(), key, url: one_url(line, url)? });
        Ok(())
    }

    fn add_group(&mut self, line: usize, name: &[u8], needed: &[u8], members: &[&[u8]]) -> Result<(), LedgerError> {
        let count = members.len();
        let needed = match needed {
            b"any" => Some(1),
            b"all" => Some(count),
            number => std::str::from_utf8(number).ok().and_then(decimal).and_then(|number| usize::try_from(number).ok()),
        };
        let in_range = needed.filter(|needed| (1..=count).contains(needed));
        let needed = in_range.ok_or_else(|| wrong(line, "group", name, "any, all or 1 to the number of members, and members"))?;
        let mut places = Vec::with_capacity(count);
        for member in members {
            let at = self.place(line, member)?;
            let taken = self.named.get_mut(at).map(|(_, _, taken)| std::mem::replace(taken, true));
            if taken != Some(false) {
                return Err(wrong(line, "group", member, "a name that is in no group yet"));
            }
            places.push(at);
        }
        self.name(line, name, Member::Group { needed, members: places })
    }

    fn quorum(&self, line: usize, name: &[u8]) -> Result<Option<usize>, LedgerError> {
        if name == b"none" { Ok(None) } else { self.place(line, name).map(Some) }
    }

    fn place(&self, line: usize, name: &[u8]) -> Result<usize, LedgerError> {
        let found = self.named.iter().position(|(known, ..)| known == name);
        found.ok_or_else(|| wrong(line, "name", name, "a witness or group of a line before"))
    }

    fn name(&mut self, line: usize, name: &[u8], member: Member) -> Result<(), LedgerError> {
        if name == b"none" || self.named.iter().any(|(known, ..)| known == name) || self.named.len() >= POLICY_LIMIT {
            return Err(wrong(line, "name", name, format!("a new name, not `none`, of at most {POLICY_LIMIT}")));
        }
        self.named.push((name.to_vec(), member, false));
        Ok(())
    }
}

fn wrong(line: usize, place: &str, found: &[u8], expected: impl Into<String>) -> LedgerError {
    let place = if line == 0 { place.to_owned() } else { format!("line {line}, {place}") };
    LedgerError::malformed(WHAT, place, shown(found), expected)
}

fn vkey(line: usize, text: &[u8]) -> Result<VerifierKey, LedgerError> {
    let text = std::str::from_utf8(text).map_err(|_| wrong(line, "key", text, "NAME+ID+BASE64"))?;
    VerifierKey::parse(text).map_err(|error| match error {
        LedgerError::Malformed { what, place, found, expected } => {
            LedgerError::Malformed { what, place: format!("line {line}, {place}"), found, expected }
        }
        other => other,
    })
}

fn unique(line: usize, parties: &[Party], key: &VerifierKey) -> Result<(), LedgerError> {
    if parties.len() >= POLICY_LIMIT || parties.iter().any(|party| party.key.public() == key.public()) {
        return Err(wrong(line, "key", key.label().as_bytes(), format!("a new public key, of at most {POLICY_LIMIT}")));
    }
    Ok(())
}

fn one_url(line: usize, items: &[&[u8]]) -> Result<Option<String>, LedgerError> {
    match items {
        [] => Ok(None),
        [url] => Ok(Some(String::from_utf8_lossy(url).into_owned())),
        [_, second, ..] => Err(wrong(line, "item", second, "the end of the line after the URL")),
    }
}

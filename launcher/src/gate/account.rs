//! What an account keeps for all it does: keys that sign, and a ledger of what belongs to no run.
use std::path::{Path, PathBuf};

use sirocco_config::places;
use sirocco_custody::artefact::{self, Used};
use sirocco_custody::{Account, Book, Class, Custody, CustodyError, Keys, Lineage, log_name, trust};
use sirocco_policy::Name;
use sirocco_signing::trust::{Trust, role};

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::waiting;

/// The account's ledger, open for writing.
pub(crate) fn book(custody: &Custody) -> Result<Book, Failure> {
    let path = places::ledger().ok_or_else(|| homeless("ledger", "XDG_STATE_HOME"))?;
    Ok(Book::open(&path, custody.author()?)?)
}

/// Signs all that the account's ledger holds.
pub(crate) fn seal(book: &Book) -> Result<(), Failure> {
    Ok(book.seal(&keys(None)?.ledger, &log_name(&Account::own(None).name))?)
}

/// The keys that were named, or else the account's, which seal the account's ledger. They are made where there are none.
pub(crate) fn keys(named: Option<&Path>) -> Result<Keys, Failure> {
    keys_for(named, None)
}

/// The same for keys that seal another ledger, too, such as that of a run.
pub(crate) fn keys_for(named: Option<&Path>, ledger: Option<PathBuf>) -> Result<Keys, Failure> {
    let path = directory(named)?;
    let of_account = if named.is_none() { places::ledger() } else { None };
    let ledgers: Vec<PathBuf> = of_account.into_iter().chain(ledger).collect();
    let (keys, made) = Keys::for_ledgers(&path, &ledgers, &Account::own(None).name)?;
    if made {
        say(format_args!("note: {}: new keys, with which this account signs; sirocco keys show {0}", path.display()));
    }
    Ok(keys)
}

/// Whose signatures are believed: `trust`, or else the keys that sign here; above both, the machine's. `None`: there are no keys yet.
pub(crate) fn trust(named: Option<&Path>, keys: Option<&Path>) -> Result<Option<Trust>, Failure> {
    let directory = match named {
        Some(named) => named.to_owned(),
        None => directory(keys)?,
    };
    if named.is_none() && !directory.is_dir() {
        return Ok(trust::by_machine()?);
    }
    Ok(Some(trust::believed(&directory)?))
}

/// Refuses trusted keys without the one that would sign the checkpoints of a run. Where neither is there yet, both are made together.
pub(crate) fn expect_signer(named: Option<&Path>, keys: Option<&Path>) -> Result<(), Failure> {
    let path = directory(keys)?;
    if named.is_none() && !path.is_dir() {
        // New keys could not be among those that the machine names.
        return match trust::by_machine()?.map(|machine| machine.with_role(role::CHECKPOINT)) {
            Some(Ok(_)) => Err(Failure::usage("this machine names the keys that sign checkpoints, and there are none here yet")
                .help("sirocco keys new DIR makes a pair; whoever runs the machine adds release.pub to /etc/sirocco/trust")),
            _ => Ok(()),
        };
    }
    let trusted = named.unwrap_or(&path);
    let believed = trust::believed(trusted)?;
    if path.is_dir() {
        return Ok(Keys::read(&path)?.expect_believed(&believed, trusted)?);
    }
    let message = format!("{}: no key of {} is there, which has none yet", trusted.display(), path.display());
    let make = format!("sirocco keys new {} makes them; then copy release.pub from there", path.display());
    Err(Failure::usage(message).help(format_args!("{make}, with the role \"checkpoint\" if there is a roles.json")))
}

/// The same for sets: the account's own keys sign none, unless somebody gave them that role.
pub(crate) fn trust_for_sets(named: Option<&Path>, keys: Option<&Path>) -> Result<Option<Trust>, Failure> {
    if named.is_none() && keys.is_none() && places::keys().is_none() {
        return Ok(None);
    }
    Ok(trust(named, keys)?.filter(|trust| named.is_some() || trust.with_role(role::POLICY).is_ok()))
}

/// Verifies something that was exported here or brought in, before it is used.
pub(crate) fn verified(directory: &Path, trust: &Trust) -> Result<Used, CustodyError> {
    let verified = || artefact::verified_for(directory, trust, &[role::RELEASE, role::IMPORT], &[]);
    waiting::shown(&format!("comparing {} with its signature", directory.display()), verified)
}

/// Records in the account's ledger that something is not what was signed. What was found is told whether that succeeds or not.
pub(crate) fn not_used(custody: &Custody, path: &Path, error: &CustodyError) {
    if error.class() != Class::File {
        return;
    }
    let recorded = book(custody).and_then(|book| {
        book.not_used(path, error)?;
        seal(&book)
    });
    if let Err(other) = recorded {
        say(format_args!("note: what was found is not recorded: {}", other.message));
    }
}

/// Says that the rules in force allow everything where a record has labels that limit something.
pub(crate) fn warn_unheeded(custody: &Custody, artefact: &Name, lineage: &Lineage) {
    let labels: Vec<&str> = custody.unheeded(lineage).into_iter().collect();
    if !labels.is_empty() {
        let labels = labels.join(", ");
        say(format_args!(
            "note: {artefact}: its record has labels that the rules in force do not heed ({labels}); --policy names others"
        ));
    }
}

fn directory(named: Option<&Path>) -> Result<PathBuf, Failure> {
    named.map(Path::to_owned).or_else(places::keys).ok_or_else(|| homeless("keys", "XDG_CONFIG_HOME"))
}

fn homeless(what: &str, variable: &str) -> Failure {
    let message = format!("this account has no place for its {what}: expected {variable} or HOME as an absolute path");
    Failure::new(Kind::Machine, message).help(format_args!("set {variable} to a directory that is yours"))
}

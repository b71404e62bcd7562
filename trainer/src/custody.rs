//! Whom this program asks, where it writes down what was done, and with what it signs: what a run and an export have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};
use sirocco_checkpoint::{Checkpoint, Checkpoints, FileDigest, ModelDir};
use sirocco_config::{Run, places};
use sirocco_custody::approvals::{self, About};
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Book, Custody, CustodyError, Deed, History, Keys, Lineage, Origin, Settings, Statement, today, trust};
use sirocco_files::BareDigest;
use sirocco_ledger::Digest;
use sirocco_ledger::time::Time;
use sirocco_policy::{Action, Decision, Kind, Labels, Name, Who};
use sirocco_signing::manifest::KnownFile;
use sirocco_signing::provenance::{Build, Facts};
use sirocco_signing::trust::{Trust, role};

use crate::failure::Failure;

/// Reads the rules of a run, and who asks.
pub(crate) fn open(directory: &Path, run: &Run) -> Result<Custody, Failure> {
    let failed = |error| Failure::custody(error, directory);
    let base = std::env::current_dir().map_err(Failure::failed)?;
    let trust = run.policy.trust.as_deref().map(trust::believed).transpose();
    let settings = Settings { account: crate::confined::account(), ..Settings::of_run(run) };
    Custody::open(settings, &base, trust.map_err(failed)?.as_ref()).map_err(failed)
}

/// What the one process has that writes: the keys and the run's ledger.
pub(crate) struct Keeper {
    directory: PathBuf,
    keys: Keys,
    trust: Trust,
    book: Book,
    began: Time,
    configuration: BareDigest,
}

impl Keeper {
    /// Reads the keys, or makes them where there are none, and opens the ledger. A lost key is told before anything else is done.
    pub(crate) fn open(directory: &Path, run: &Run, custody: &Custody) -> Result<Keeper, Failure> {
        let failed = |error| Failure::custody(error, directory);
        let path = run.policy.keys.clone().or_else(places::keys).ok_or_else(|| {
            Failure::machine("there is no directory for the keys that sign: neither XDG_CONFIG_HOME nor HOME is set")
                .help("policy.keys in run.toml names one")
        })?;
        let ledger = directory.join("ledger");
        // The account's own keys seal the account's ledger, too.
        let of_account = if run.policy.keys.is_none() { places::ledger() } else { None };
        let ledgers: Vec<PathBuf> = [ledger.clone()].into_iter().chain(of_account).collect();
        let (keys, made) = Keys::for_ledgers(&path, &ledgers, &custody.who().name).map_err(failed)?;
        if made {
            say(&format!("made the keys that sign what is published here: {}; keep a copy\n", path.display()));
        }
        let trust = keys.trust(run.policy.trust.as_deref()).map_err(failed)?;
        keys.expect_believed(&trust, run.policy.trust.as_deref().unwrap_or(&path)).map_err(failed)?;
        custody.keep_texts(directory).map_err(failed)?;
        let book = Book::open(&ledger, custody.author().map_err(failed)?).map_err(failed)?;
        book.expect_key(&keys.ledger).map_err(failed)?;
        let run_file = directory.join("run.toml");
        book.history(&keys.ledger).and_then(|history| history.expect_policy(run, &run_file)).map_err(failed)?;
        let text = std::fs::read(&run_file).map_err(|error| Failure::usage(format!("{}: {error}", run_file.display())))?;
        let (began, configuration) = (SystemTime::now().into(), BareDigest::of(&text));
        Ok(Keeper { directory: directory.to_owned(), keys, trust, book, began, configuration })
    }

    /// Compares the tokens of one side of the data with those that the run's ledger says were prepared: labels are those of the data that they
    /// were made of.
    pub(crate) fn expect_prepared(&self, side: &str, digest: &str) -> Result<(), Failure> {
        let expected = self.history().map_err(|error| self.failed(error))?.prepared(side);
        if expected.is_some_and(|expected| expected.to_string() == digest) {
            return Ok(());
        }
        let expected = expected.map_or_else(|| "none".to_owned(), |expected| expected.to_string());
        let path = self.directory.join("tokens").join(side);
        Err(Failure::data(format!(
            "{}: found tokens with the digest {digest}, the run's ledger names {expected}",
            path.display()
        ))
        .help("put the tokens back that were made for this run, or remove them: sirocco train makes them again"))
    }

    /// Who has signed that `action` may be done with `artefact` of this run on these tokens. What does not count is said and set aside: the
    /// policy then names what is missing.
    pub(crate) fn approved_by(
        &self,
        (run, data): (&Run, &str),
        action: Action,
        artefact: &Name,
    ) -> Result<BTreeSet<Who>, Failure> {
        let about = About { action, artefact, run: &approvals::run_id(run, data), day: today() };
        let found = approvals::read(&self.directory, &self.trust, &about).map_err(|error| self.failed(error))?;
        for (path, why) in found.set_aside {
            say(&format!("note: {}: this approval does not count: {why}\n", path.display()));
        }
        Ok(found.approved_by)
    }

    /// The failure of something that this did.
    pub(crate) fn failed(&self, error: CustodyError) -> Failure {
        Failure::custody(error, &self.directory)
    }

    /// Writes an action down.
    pub(crate) fn write(&self, mut deed: Deed) -> Result<(), CustodyError> {
        deed.configuration = Some(deed.configuration.unwrap_or_else(|| self.configuration.into()));
        self.book.write(deed)
    }

    /// The ledger itself, for decisions.
    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Waits until everything is on disk.
    pub(crate) fn sync(&self) -> Result<(), CustodyError> {
        self.book.sync()
    }

    /// Signs the ledger as it is now, and says how long that took.
    pub(crate) fn seal(&self, run: &str) -> Result<(), CustodyError> {
        let began = Instant::now();
        let history = self.history()?;
        self.book.seal(&self.keys.ledger, &history.log_name(run))?;
        let (seconds, entries) = (began.elapsed().as_secs_f64(), history.entries().len());
        tracing::info!(seconds, entries, "ledger sealed");
        Ok(())
    }

    /// What was written down so far.
    pub(crate) fn history(&self) -> Result<History, CustodyError> {
        self.book.history(&self.keys.ledger)
    }

    /// The statement of where something comes from.
    pub(crate) fn facts(&self, custody: &Custody, run: &Run, made: (&Name, &Lineage)) -> Result<Facts, CustodyError> {
        let (made, lineage) = made;
        let asked = json!({"seed": run.seed, "method": run.method, "train": run.train});
        let mesh = json!({"pp": run.parallel.pp, "dp": run.parallel.dp, "fsdp": run.parallel.fsdp, "tp": run.parallel.tp});
        let statement = Statement {
            build: Build::FineTune,
            run: self.history()?.log_name(&run.name),
            when: (self.began, SystemTime::now().into()),
            parameters: object(asked),
            settled: Map::from_iter([("mesh".to_owned(), mesh)]),
            configuration: self.configuration,
            lineage,
            made,
        };
        statement.facts(custody)
    }

    /// Signs a directory whose files are written; its digest.
    pub(crate) fn publish(&self, directory: &Path, made: &Made<'_>) -> Result<BareDigest, CustodyError> {
        let began = Instant::now();
        let now: Time = SystemTime::now().into();
        let facts = Facts { finished: now.to_string(), ..made.facts.clone() };
        let known = known(made.files);
        let making = Making {
            artefact: made.artefact,
            lineage: made.lineage,
            labels: made.labels,
            run: made.run,
            known: &known,
            facts: &facts,
        };
        let digest = artefact::publish(directory, &making, &self.keys.release)?;
        tracing::info!(step = made.run.1, seconds = began.elapsed().as_secs_f64(), "signed");
        Ok(digest)
    }

    /// Verifies a checkpoint whose files were compared with its manifest: whose it is, and where it comes from. Its directory's digest is for
    /// comparing it with the ledger.
    pub(crate) fn verified(&self, checkpoint: &Checkpoint) -> Result<(BareDigest, Origin), Failure> {
        let (directory, step) = (checkpoint.path(), checkpoint.state().step);
        if !artefact::is_signed(directory) {
            return Err(self.unsigned(directory));
        }
        let files: Vec<FileDigest> = checkpoint.files().cloned().collect();
        let used = artefact::verified(directory, &self.trust, role::CHECKPOINT, &known(&files))
            .map_err(|error| self.not_used(directory, error).help(self.other(directory)))?;
        match used.origin.filter(|origin| origin.step == step && origin.artefact.kind == Kind::Checkpoint) {
            Some(origin) => Ok((used.digest, origin)),
            None => Err(Failure::data(format!(
                "{}: its signed record is not that of a checkpoint of step {step}",
                directory.display()
            ))
            .help(self.other(directory))),
        }
    }

    /// What to type where a checkpoint is not believed: to go on from the newest of the others that is.
    fn other(&self, bad: &Path) -> String {
        let checkpoints = Checkpoints::new(&self.directory);
        let believed = |step: u64| {
            let checkpoint = checkpoints.load(step).ok()?;
            let files: Vec<FileDigest> = checkpoint.files().cloned().collect();
            artefact::verified(checkpoint.path(), &self.trust, role::CHECKPOINT, &known(&files)).ok().map(|_| step)
        };
        let others = checkpoints.steps().unwrap_or_default().into_iter().rev().filter(|step| checkpoints.step_path(*step) != bad);
        sirocco_config::other_checkpoint(bad, others.into_iter().find_map(believed))
    }

    fn unsigned(&self, directory: &Path) -> Failure {
        Failure::data(format!(
            "{} has no signature: it was made by a version without signatures, or somebody took it away; expected origin.json and model.sig",
            directory.display()
        ))
        .help(self.other(directory))
    }

    /// The digest of a base's directory, and where it comes from, if somebody signed that. `files` were read before; what lies beside them is
    /// read now.
    pub(crate) fn base(&self, base: &ModelDir, files: &[FileDigest]) -> Result<(BareDigest, Option<Origin>), Failure> {
        let (known, not_used) = (known(files), |error| self.not_used(base.path(), error));
        if artefact::is_signed(base.path()) {
            let used = artefact::verified_for(base.path(), &self.trust, &[role::RELEASE, role::IMPORT], &known);
            let used = used.map_err(not_used)?;
            if let Some(origin) = used.origin {
                return Ok((used.digest, Some(origin)));
            }
        }
        // Also of one that was signed elsewhere, perhaps without some of its files.
        Ok((artefact::measured(base.path(), &known).map_err(not_used)?, None))
    }

    /// Refuses a base with other files than those that a checkpoint was trained from, whichever they are.
    pub(crate) fn expect_base(&self, base: &ModelDir, files: &[FileDigest], origin: &Origin) -> Result<(), Failure> {
        let (found, _) = self.base(base, files)?;
        let of_checkpoint = origin.lineage.made.get(&origin.artefact).into_iter().flatten();
        let bases = of_checkpoint.filter(|part| matches!(part.kind, Kind::Model | Kind::Merged));
        let trained: Vec<&BareDigest> = bases.filter_map(|name| origin.lineage.digests.get(name)).collect();
        if trained.contains(&&found) {
            return Ok(());
        }
        let expected = trained.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        Err(self.not_used(base.path(), CustodyError::OtherBase { path: base.path().to_owned(), found, expected }))
    }

    /// The failure of something whose signature or record does not hold, once it is written down.
    fn not_used(&self, directory: &Path, error: CustodyError) -> Failure {
        unwritten(self.book.not_used(directory, &error));
        self.failed(error)
    }

    /// A failure, once it is written down where a file is to blame: what lies in `directory` is not what its own records say.
    pub(crate) fn found(&self, directory: &Path, failure: Failure) -> Failure {
        if failure.is_of_a_file() {
            unwritten(self.book.refused(directory, failure.message()));
        }
        failure
    }
}

fn unwritten(written: Result<(), CustodyError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "what was found is not recorded");
    }
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What is signed.
pub(crate) struct Made<'a> {
    /// What it is.
    pub(crate) artefact: &'a Name,
    /// Where it comes from.
    pub(crate) lineage: &'a Lineage,
    /// What the policy said that it inherits.
    pub(crate) labels: &'a Labels,
    /// The run and the step.
    pub(crate) run: (&'a str, u64),
    /// Files whose digests are known from writing them.
    pub(crate) files: &'a [FileDigest],
    /// The statement.
    pub(crate) facts: &'a Facts,
}

/// Digests of what went in, for an entry.
pub(crate) fn inputs(lineage: &Lineage) -> BTreeMap<String, Digest> {
    lineage.digests.iter().map(|(name, digest)| (name.to_string(), (*digest).into())).collect()
}

/// A decision in one line, for the log.
pub(crate) fn log(decision: &Decision) {
    tracing::info!("{decision}");
}

fn known(files: &[FileDigest]) -> Vec<KnownFile> {
    files.iter().filter_map(|file| KnownFile::from_hex(&file.name, file.bytes, &file.sha256)).collect()
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

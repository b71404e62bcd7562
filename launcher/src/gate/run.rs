//! The questions that the launcher asks about a run.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::measured::{Bytes, DataFile, data_of, is_missing};
use super::{account, confinement};
use crate::confined::{self, in_job};
use crate::failure::Failure;
use crate::output::say;
use crate::preflight::Place;
use crate::train::directory::RunDirectory;
use crate::train::here;
use crate::train::tokens::{SIDES, Tokens};
use sirocco_checkpoint::{Checkpoint, Checkpoints};
use sirocco_config::Run;
use sirocco_custody::approvals::{self, About, run_id};
use sirocco_custody::{Book, Custody, DATA_PREPARED, Deed, Lineage, Question, Settings, artefact, today, tokens_of};
use sirocco_ledger::Digest;
use sirocco_ledger::tlog_proof::CHECKPOINT;
use sirocco_policy::{Action, Admitted, Confinement, Decision, Kind, Name, Who, verb};
use sirocco_signing::manifest::KnownFile;
use sirocco_signing::trust::role;
use sirocco_tokens::TokenCache;

/// Data that may be tokenised.
pub(crate) type AdmittedData = Admitted<verb::Prepare, DataFile>;

/// The policy of a run, ready to be asked.
pub(crate) struct RunPolicy {
    custody: Custody,
    checkpoint: Name,
    run: Box<Run>,
    model: PathBuf,
    keys: Option<PathBuf>,
    trust: Option<PathBuf>,
    /// The confinement that the ranks will have where this process does not start them: they ask again.
    elsewhere: Option<Confinement>,
}

impl RunPolicy {
    /// The same, for ranks that are to work at that place.
    pub(crate) fn for_place(run: &Run, place: Place) -> Result<RunPolicy, Failure> {
        let elsewhere = if place == Place::Cluster { in_job::highest_in_policy(run) } else { None };
        Ok(RunPolicy { elsewhere, ..RunPolicy::open(run)? })
    }

    /// Reads the rules and facts that a run file names.
    pub(crate) fn open(run: &Run) -> Result<RunPolicy, Failure> {
        let (keys, trust) = (run.policy.keys.clone(), run.policy.trust.clone());
        let for_sets = account::trust_for_sets(trust.as_deref(), keys.as_deref())?;
        let settings = Settings { account: confined::account(), ..Settings::of_run(run) };
        let custody = Custody::open(settings, &here()?, for_sets.as_ref())?;
        let checkpoint = Name::new(Kind::Checkpoint, run.name.clone());
        Ok(RunPolicy {
            custody,
            checkpoint,
            run: Box::new(run.clone()),
            model: run.model.path.clone(),
            keys,
            trust,
            elsewhere: None,
        })
    }

    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// What approvals call the run in a directory; `None` where its data was not tokenised yet. Where the tokens are gone, the newest
    /// checkpoint says what they were.
    pub(crate) fn id(&self, directory: &Path) -> Result<Option<String>, Failure> {
        let path = directory.join("tokens").join(SIDES[0]);
        if path.is_file() {
            return Ok(Some(run_id(&self.run, TokenCache::open(&path)?.digest())));
        }
        let newest = Checkpoints::new(directory).open_latest()?;
        Ok(newest.map(|checkpoint| run_id(&self.run, &checkpoint.state().data_digest)))
    }

    /// Measures every data file of the run. Of what `tokens` holds already, the digest from then counts.
    pub(crate) fn measure(&self, run: &Run, tokens: Option<&Path>) -> Result<Vec<DataFile>, Failure> {
        let named = |Bytes { path, digest, is_cached }| {
            let name = self.custody.uses(&mut Lineage::default(), Kind::Data, &path, digest);
            DataFile { name, path, digest, is_cached }
        };
        Ok(data_of(run, tokens)?.into_iter().map(named).collect())
    }

    /// Asks for a plan whether the run may be trained or resumed.
    pub(crate) fn plan(&self, action: Action, data: &[DataFile], directory: Option<&Path>) -> Result<Decision, Failure> {
        Ok(self.custody.ask(self.question(action, data, directory)?)?)
    }

    /// The same of a run whose data may not be there yet: what is not there is known by its place alone. A refusal is recorded.
    pub(crate) fn plan_early(&self, action: Action, run: &Run, directory: Option<&Path>) -> Result<(), Failure> {
        let mut lineage = Lineage::default();
        let files = run.data.train.iter().chain(&run.data.valid);
        let data: Vec<Name> = files.map(|path| self.custody.will_use(&mut lineage, Kind::Data, path)).collect();
        self.ask_first(self.planned(action, lineage, data, directory)?, directory)
    }

    /// Asks before a run is prepared: may it be trained, and may what is not tokenised yet be? A refusal is recorded in the ledger of the
    /// run that would be resumed; one that would begin has none yet, and it stands in the account's.
    pub(crate) fn expect(&self, action: Action, data: &[DataFile], directory: Option<&Path>) -> Result<(), Failure> {
        let confinement = self.elsewhere.or_else(confinement);
        self.ask_first(Question { confinement, ..self.question(action, data, directory)? }, directory)?;
        self.expect_preparing(data, directory)?;
        self.expect_signer()
    }

    /// Asks whether what is not tokenised yet may be. A refusal is recorded as by [`expect`](Self::expect).
    pub(crate) fn expect_preparing(&self, data: &[DataFile], directory: Option<&Path>) -> Result<(), Failure> {
        data.iter().filter(|file| !file.is_cached).try_for_each(|file| self.ask_first(self.preparing(file), directory))
    }

    fn ask_first(&self, question: Question, begun: Option<&Path>) -> Result<(), Failure> {
        let Some((entry, refused)) = self.custody.refusal(question) else { return Ok(()) };
        // It stays a refusal where it cannot be recorded.
        if let Err(other) = self.record(entry, begun) {
            say(format_args!("note: this refusal is not recorded: {}", other.message));
        }
        Err(refused.into())
    }

    fn record(&self, entry: Deed, begun: Option<&Path>) -> Result<(), Failure> {
        let Some(directory) = begun else {
            let book = account::book(&self.custody)?;
            book.write(entry)?;
            return account::seal(&book);
        };
        let ledger = directory.join(RunDirectory::LEDGER);
        let keys = account::keys_for(self.keys.as_deref(), Some(ledger.clone()))?.ledger;
        let book = self.book(directory)?;
        book.expect_key(&keys)?;
        book.write(entry)?;
        // What was never sealed is the run's own to seal, with the keys that it has there.
        let is_sealed = ledger.join(CHECKPOINT).is_file();
        if is_sealed { Ok(book.seal(&keys, &self.run.name)?) } else { Ok(book.sync()?) }
    }

    /// The same for who only wants to know; nothing is recorded.
    pub(crate) fn may_prepare(&self, data: &[DataFile]) -> Result<(), Failure> {
        for file in data.iter().filter(|file| !file.is_cached) {
            // As for a plan: a process that asks for others is not confined as they will be.
            let confinement = self.elsewhere.or_else(confined::measured);
            self.custody.ask(Question { planned: true, confinement, ..self.preparing(file) })?;
        }
        Ok(())
    }

    /// Opens the ledger in a directory: the run's own, or one that goes with what is only tried. What it will name as having decided is kept
    /// beside it.
    pub(crate) fn book(&self, directory: &Path) -> Result<Book, Failure> {
        self.custody.keep_texts(directory)?;
        Ok(Book::open(&directory.join(RunDirectory::LEDGER), self.custody.author()?)?)
    }

    /// Lets data be tokenised.
    pub(crate) fn admit(&self, data: Vec<DataFile>, book: &Book) -> Result<Vec<AdmittedData>, Failure> {
        let open = data.into_iter().filter(|file| !file.is_cached);
        open.map(|file| Ok(self.custody.admit::<verb::Prepare, _>(self.preparing(&file), file, book)?)).collect()
    }

    /// Records that data was tokenised.
    pub(crate) fn prepared(&self, data: &[AdmittedData], tokens: &Tokens, book: &Book) -> Result<(), Failure> {
        if !data.is_empty() {
            let mut deed = Deed::new(DATA_PREPARED);
            for file in data.iter().map(Admitted::thing) {
                deed = deed.input(file.name.to_string(), Digest::from(file.digest));
            }
            for (side, digest) in tokens.digests() {
                deed = deed.output(tokens_of(side), digest);
            }
            book.write(deed)?;
        }
        Ok(book.sync()?)
    }

    /// Whether an approval of that person would count now; `None` where no key is trusted yet.
    pub(crate) fn counts(&self, directory: &Path, about: &About<'_>, approver: &str) -> Result<Option<bool>, Failure> {
        let Some(trust) = account::trust(self.trust.as_deref(), self.keys.as_deref())? else { return Ok(None) };
        let found = approvals::read(directory, &trust, about)?;
        Ok(Some(found.approved_by.iter().any(|who| who.name == approver)))
    }

    /// Refuses a checkpoint that is not as somebody who is believed has signed it, as the ranks do. Its bytes were compared before.
    pub(crate) fn expect_signed(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        // One without a signature, as versions before made them, is told by the ranks.
        let trust =
            account::trust(self.trust.as_deref(), self.keys.as_deref())?.filter(|_| artefact::is_signed(checkpoint.path()));
        let Some(trust) = trust else { return Ok(()) };
        let files = checkpoint.files();
        let known = files.filter_map(|file| KnownFile::from_hex(&file.name, file.bytes, &file.sha256));
        let used = artefact::verified(checkpoint.path(), &trust, role::CHECKPOINT, &known.collect::<Vec<_>>());
        let help = "sirocco train says with which other checkpoint the run could go on, if there is one";
        used.map(|_| ()).map_err(|error| Failure::from(error).help(help))
    }

    /// Refuses keys that could not sign what the run will publish.
    pub(crate) fn expect_signer(&self) -> Result<(), Failure> {
        account::expect_signer(self.trust.as_deref(), self.keys.as_deref())
    }

    fn preparing(&self, file: &DataFile) -> Question {
        let mut lineage = Lineage::default();
        let name = self.custody.uses(&mut lineage, Kind::Data, &file.path, file.digest);
        Question { confinement: confinement(), ..Question::new(Action::Prepare, name, lineage) }
    }

    /// A question about the run as it will be.
    pub(crate) fn question(&self, action: Action, data: &[DataFile], directory: Option<&Path>) -> Result<Question, Failure> {
        let mut lineage = Lineage::default();
        let uses = |file: &DataFile| self.custody.uses(&mut lineage, Kind::Data, &file.path, file.digest);
        let data: Vec<Name> = data.iter().map(uses).collect();
        self.planned(action, lineage, data, directory)
    }

    fn planned(&self, action: Action, lineage: Lineage, data: Vec<Name>, run: Option<&Path>) -> Result<Question, Failure> {
        let mut lineage = lineage;
        let model = self.base(&mut lineage)?;
        lineage.makes(&self.checkpoint, data.into_iter().chain([model]));
        remember(&mut lineage, run);
        let artefact = made_by(action, &self.checkpoint, &mut lineage);
        // Where nothing was measured, what the site demands is assumed of the nodes.
        let confinement = self.elsewhere.or_else(confined::measured);
        let mut question = Question { planned: true, confinement, ..Question::new(action, artefact, lineage) };
        question.approved_by = self.approvals(action, &question.artefact, run)?;
        Ok(question)
    }

    /// The base. One with a signature is what its record says, and is verified; of another only the place is known before the ranks read it.
    fn base(&self, lineage: &mut Lineage) -> Result<Name, Failure> {
        if is_missing(&self.model) || !artefact::is_signed(&self.model) {
            return Ok(self.custody.will_use(lineage, Kind::Model, &self.model));
        }
        let trust = account::trust(self.trust.as_deref(), self.keys.as_deref())?;
        let Some(trust) = trust else {
            let message = format!("{}: it is signed, and there is no key to believe", self.model.display());
            return Err(Failure::usage(message).help("[policy] trust names a directory with the public keys that are believed"));
        };
        let used = account::verified(&self.model, &trust);
        let used = used.inspect_err(|error| account::not_used(&self.custody, &self.model, error))?;
        let Some(origin) = used.origin else { return Ok(self.custody.will_use(lineage, Kind::Model, &self.model)) };
        lineage.joins(&origin.lineage);
        Ok(self.custody.holds(lineage, origin.artefact, &self.model, used.digest))
    }

    /// Who has approved that; what does not count is named.
    pub(crate) fn approvals(&self, action: Action, artefact: &Name, directory: Option<&Path>) -> Result<BTreeSet<Who>, Failure> {
        let Some(directory) = directory.filter(|directory| directory.join(approvals::DIRECTORY).is_dir()) else {
            return Ok(BTreeSet::new());
        };
        let Some(trust) = account::trust(self.trust.as_deref(), self.keys.as_deref())? else { return Ok(BTreeSet::new()) };
        let Some(id) = self.id(directory)? else {
            say(format_args!("note: no approval counts before the data is tokenised: an approval is for a run on its data"));
            return Ok(BTreeSet::new());
        };
        let about = About { action, artefact, run: &id, day: today() };
        let found = approvals::read(directory, &trust, &about)?;
        for (path, why) in found.set_aside {
            say(format_args!("note: {}: this approval does not count: {why}", path.display()));
        }
        Ok(found.approved_by)
    }
}

/// What the newest checkpoint says of itself. For a plan it is believed: it only makes the answer stricter, and the ranks, which verify it, say
/// what is wrong with one that cannot be read. Nothing but its record is read, by one thread: this process may still have to be confined.
pub(crate) fn remember(lineage: &mut Lineage, run: Option<&Path>) {
    let newest = run.and_then(|directory| {
        let checkpoints = Checkpoints::new(directory);
        Some(checkpoints.step_path(checkpoints.steps().ok()?.pop()?))
    });
    if let Some(origin) = newest.and_then(|path| artefact::said(&path).ok().flatten()) {
        lineage.joins(&origin.lineage);
    }
}

/// What is done next in a run's directory: as long as nothing was published there, it begins.
pub(crate) fn next_action(directory: &Path) -> Action {
    match Checkpoints::new(directory).steps() {
        Ok(steps) if steps.is_empty() => Action::Train,
        // What cannot be read is told by whoever goes on from it.
        _ => Action::Resume,
    }
}

/// What comes of an action on a run.
pub(crate) fn made_by(action: Action, checkpoint: &Name, lineage: &mut Lineage) -> Name {
    let kind = match action {
        Action::Merge => Kind::Merged,
        Action::Export | Action::SendOut => Kind::Adapter,
        Action::Serve | Action::AddAdapter => Kind::Endpoint,
        _ => return checkpoint.clone(),
    };
    let artefact = Name::new(kind, checkpoint.name.clone());
    lineage.makes(&artefact, [checkpoint.clone()]);
    artefact
}

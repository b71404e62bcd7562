//! `sirocco bundle pack`: the policy is asked about every part, then all are packed, and the sending is recorded.
use std::collections::BTreeSet;

use sirocco_bundle::{BundleError, Cover, Packed, Part, pack};
use sirocco_config::Run;
use sirocco_custody::{Book, Custody, Deed, Keys, Question, today};
use sirocco_ledger::Fact;
use sirocco_policy::{Action, Admitted, Guarded as _, Name, Who, verb};
use sirocco_signing::trust::Trust;

use super::NAMED;
use super::shown::Shown;
use super::watched::Requests;
use crate::cli::{BundlePack, Overrides};
use crate::confined;
use crate::failure::Failure;
use crate::gate::{self, RunPolicy, account};
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::run_to_resume;

/// Whom the sending asks: the rules that the options name, or those of a run.
enum Asked {
    Account(Custody),
    Run(RunPolicy, RunDirectory, Box<Run>),
}

impl Asked {
    fn open(arguments: &BundlePack) -> Result<Asked, Failure> {
        let Some(path) = &arguments.run else { return Ok(Asked::Account(gate::custody(&arguments.options)?)) };
        let directory = RunDirectory::existing(path)?;
        if let Some(who) = directory.at_work() {
            let message = format!("{}: {who} works on it: expected a run that has ended, or has stopped", directory.shown());
            return Err(Failure::usage(message).help(format_args!("sirocco watch {}", directory.word())));
        }
        let run = run_to_resume(&directory, &Overrides { ranks: None, set: vec![] })?.1;
        Ok(Asked::Run(RunPolicy::open(&run)?, directory, Box::new(run)))
    }

    fn custody(&self) -> &Custody {
        match self {
            Asked::Account(custody) => custody,
            Asked::Run(policy, ..) => policy.custody(),
        }
    }

    fn book(&self) -> Result<Book, Failure> {
        let book = match self {
            Asked::Account(custody) => account::book(custody)?,
            Asked::Run(policy, directory, _) => policy.book(directory.path())?,
        };
        if let Some(deed) = confined::deed()? {
            book.write(deed)?;
        }
        Ok(book)
    }

    fn keys(&self, arguments: &BundlePack) -> Result<Keys, Failure> {
        match self {
            Asked::Account(_) => account::keys(arguments.keys.as_deref()),
            Asked::Run(_, directory, run) => {
                account::keys_for(run.policy.keys.as_deref(), Some(directory.path().join(RunDirectory::LEDGER)))
            }
        }
    }

    fn trust(&self, arguments: &BundlePack) -> Result<Option<Trust>, Failure> {
        match self {
            Asked::Account(_) => account::trust(arguments.options.trust.as_deref(), arguments.keys.as_deref()),
            Asked::Run(_, _, run) => account::trust(run.policy.trust.as_deref(), run.policy.keys.as_deref()),
        }
    }

    /// A run is asked by the rules that it began with.
    fn expect_settled(&self, book: &Book, keys: &Keys) -> Result<(), Failure> {
        let Asked::Run(_, directory, run) = self else { return Ok(()) };
        Ok(book.history(&keys.ledger)?.expect_policy(run, &directory.run_file())?)
    }

    /// Outside of runs nobody approves anything.
    fn approved_by(&self, artefact: &Name) -> Result<BTreeSet<Who>, Failure> {
        match self {
            Asked::Account(_) => Ok(BTreeSet::new()),
            Asked::Run(policy, directory, _) => policy.approvals(Action::SendOut, artefact, Some(directory.path())),
        }
    }

    fn purpose(&self, arguments: &BundlePack) -> Option<String> {
        match self {
            Asked::Account(_) => arguments.options.purpose.clone(),
            Asked::Run(_, _, run) => run.policy.purpose.clone(),
        }
    }

    fn seal(&self, book: &Book, keys: &Keys, arguments: &BundlePack) -> Result<(), Failure> {
        let sealed = match self {
            // The account's ledger has one key, whoever signs the bundle.
            Asked::Account(_) => account::seal(book),
            Asked::Run(_, _, run) => {
                let name = book.history(&keys.ledger)?.log_name(&run.name);
                book.seal(&keys.ledger, &name).map_err(Failure::from)
            }
        };
        sealed.map_err(|failure: Failure| Failure {
            message: format!("{}: written, and not sealed in the ledger: {}", arguments.to.display(), failure.message),
            ..failure
        })
    }
}

pub(super) fn run(arguments: &BundlePack) -> Result<(), Failure> {
    let requests = Requests::heed()?;
    let asked = Asked::open(arguments)?;
    let (keys, trust, book) = (asked.keys(arguments)?, asked.trust(arguments)?, asked.book()?);
    asked.expect_settled(&book, &keys)?;
    let recipients: BTreeSet<String> = arguments.recipients.iter().cloned().collect();
    let mut parts = Vec::new();
    for path in &arguments.artefacts {
        let part = requests.watched("reading", 0, |pulse| Part::of(path, asked.custody(), trust.as_ref(), pulse));
        if let Err(BundleError::Custody(error)) = &part {
            account::not_used(asked.custody(), path, error);
        }
        parts.push(part?);
    }
    let admitted = admit(&asked, parts, &recipients, &book)?;
    let cover = Cover { purpose: asked.purpose(arguments), recipients };
    let total = admitted.iter().fold(0_u64, |sum, part| sum.saturating_add(part.thing().bytes()));
    let packed = requests.watched("packing", total, |pulse| {
        pack(&admitted, (asked.custody(), cover, today()), &arguments.to, &keys.release, pulse)
    })?;
    for part in &admitted {
        book.write(sent(part.thing(), &packed, arguments))?;
    }
    book.sync()?;
    asked.seal(&book, &keys, arguments)?;
    let to = arguments.to.display().to_string();
    let shown = Shown::packed(to.clone(), packed.digest.to_string(), &packed.record);
    if arguments.json {
        return output::json(&shown);
    }
    shown.print(&format!("{to}: {} in {}", output::count(admitted.len() as u64, "part"), output::bytes(packed.bytes)))
}

/// Asks about every part, and records every answer, before anything is packed.
fn admit(
    asked: &Asked,
    parts: Vec<Part>,
    recipients: &BTreeSet<String>,
    book: &Book,
) -> Result<Vec<Admitted<verb::SendOut, Part>>, Failure> {
    let mut answers = Vec::new();
    for part in parts {
        let artefact = part.artefact().clone();
        account::warn_unheeded(asked.custody(), &artefact, part.lineage());
        let question = Question {
            confinement: gate::confinement(),
            approved_by: asked.approved_by(&artefact)?,
            recipients: recipients.clone(),
            ..Question::new(Action::SendOut, artefact, part.lineage().clone())
        };
        answers.push(asked.custody().admit::<verb::SendOut, _>(question, part, book));
    }
    book.sync()?;
    Ok(answers.into_iter().collect::<Result<_, _>>()?)
}

/// The entry of one part.
fn sent(part: &Part, packed: &Packed, arguments: &BundlePack) -> Deed {
    let file = arguments.to.file_name().unwrap_or_default().to_string_lossy();
    let recipients: Vec<&str> = packed.record.recipients.iter().map(String::as_str).collect();
    Deed::new("artefact.sent")
        .fact("to", Fact::Text(arguments.to.display().to_string()))
        .fact("recipients", Fact::Text(recipients.join(", ")))
        .input(part.artefact().to_string(), part.digest().into())
        .output(format!("{NAMED}{file}"), packed.digest.into())
}

//! What stands between a directory and the endpoint: its signature, the answer of the policy, and the record of both.
//!
//! ```text
//! directories ──► parts: verified, or known by their bytes ──► Serve, AddAdapter ──► Admission ──► loading, listening
//!                                                                  └──► the account's ledger, signed
//! ```
//!
//! All of it is done before the endpoint listens; a request is only counted.

pub(crate) mod account;
mod parts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sirocco_config::places;
use sirocco_confine::Level;
use sirocco_custody::{Book, Custody, CustodyError, Deed, Keys, Lineage, Naming, Question, Settings, log_name, trust};
use sirocco_ledger::{Digest, Fact};
use sirocco_policy::{Action, Admitted, Confinement, Guarded, Kind, Name, verb};
use sirocco_signing::trust::Trust;
use tracing::{info, warn};

use crate::args::Args;
use crate::confined;
use crate::failure::Failure;
use parts::Part;

/// The directory that an endpoint serves.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: Name,
    model: PathBuf,
}

/// An adapter that an endpoint takes.
#[derive(Debug)]
pub(crate) struct Addition {
    endpoint: Name,
    adapter: PathBuf,
}

impl Guarded for Endpoint {
    fn artefact(&self) -> &Name {
        &self.name
    }
}

impl Guarded for Addition {
    fn artefact(&self) -> &Name {
        &self.endpoint
    }
}

/// What may be loaded and listened for.
pub(crate) struct Admission {
    /// The endpoint with its model.
    endpoint: Admitted<verb::Serve, Endpoint>,
    /// The adapters, in the order of the command line.
    adapters: Vec<Admitted<verb::AddAdapter, Addition>>,
    /// The model, then the adapters.
    parts: Vec<Part>,
}

impl Admission {
    /// The directory of the model.
    pub(crate) fn model(&self) -> &Path {
        &self.endpoint.thing().model
    }

    /// The directories of the adapters.
    pub(crate) fn adapters(&self) -> impl Iterator<Item = &Path> {
        self.adapters.iter().map(|admitted| admitted.thing().adapter.as_path())
    }
}

/// The gate and the ledger of the account that serves.
pub(crate) struct Desk {
    custody: Custody,
    trust: Trust,
    keys: Keys,
    book: Book,
    ledger: PathBuf,
    endpoint: Name,
}

/// The least level of confinement at which the policy would let all of this be served, and never less than `--confinement`. Where names do not
/// tell, as far as the kernel goes: what is asked with signatures and digests decides.
pub(crate) fn needed(args: &Args) -> Result<Level, Failure> {
    // What is wrong with it is said when it is used.
    let trust = args.trust.clone().or_else(places::keys).and_then(|path| trust::believed(&path).ok());
    let custody = rules(args, trust.as_ref())?;
    let needs = custody.needs(|naming| questions(&custody, args, naming));
    Ok(Level::of_number(needs.number()).unwrap_or(Level::Site).max(args.confinement()))
}

/// What will be asked, before anything was verified.
fn questions(custody: &Custody, args: &Args, naming: Naming) -> Vec<Question> {
    let endpoint = Name::new(Kind::Endpoint, "endpoint");
    let mut lineage = Lineage::default();
    let mut parts = vec![naming(custody, &mut lineage, Kind::Model, &args.model)];
    parts.extend(args.adapters.iter().map(|(_, directory)| naming(custody, &mut lineage, Kind::Adapter, directory)));
    lineage.makes(&endpoint, parts);
    let actions = if args.adapters.is_empty() { vec![Action::Serve] } else { vec![Action::Serve, Action::AddAdapter] };
    actions.into_iter().map(|action| Question::new(action, endpoint.clone(), lineage.clone())).collect()
}

fn rules(args: &Args, trust: Option<&Trust>) -> Result<Custody, Failure> {
    let settings = Settings {
        set: args.policy.clone(),
        facts: args.facts.clone(),
        purpose: args.purpose.clone(),
        site: args.site.clone(),
        account: confined::account(),
    };
    let base = std::env::current_dir().map_err(|source| Failure::System { what: "the working directory", source })?;
    Custody::open(settings, &base, trust).map_err(Failure::Rules)
}

impl Desk {
    /// Reads rules and keys and opens the account's ledger, for an endpoint of this name.
    pub(crate) fn open(args: &Args, name: &str) -> Result<Desk, Failure> {
        let keys = account::keys()?;
        let trust = keys.trust(args.trust.as_deref()).map_err(Failure::Trust)?;
        let custody = rules(args, Some(&trust))?;
        let ledger = account::ledger()?;
        let author = custody.author().map_err(Failure::Account)?;
        let book = Book::open(&ledger, author).map_err(Failure::Account)?;
        book.expect_key(&keys.ledger).map_err(Failure::Account)?;
        Ok(Desk { custody, trust, keys, book, ledger, endpoint: Name::new(Kind::Endpoint, name) })
    }

    /// Verifies every directory, then asks for the endpoint and for each of its adapters. What was answered is signed, also a refusal.
    pub(crate) fn admit(&self, args: &Args) -> Result<Admission, Failure> {
        if let Some(deed) = confined::deed()? {
            self.book.write(deed).map_err(Failure::Account)?;
        }
        let admission = self.ask(args);
        if matches!(admission, Err(Failure::Refused(_) | Failure::Artefact(_))) {
            self.seal().map_err(Failure::Account)?;
        }
        admission
    }

    /// Finds out what a directory is. One that is not what was signed is written down.
    fn examine(&self, kind: Kind, directory: &Path) -> Result<Part, Failure> {
        let part = Part::examine(&self.custody, &self.trust, kind, directory);
        if let Err(Failure::Artefact(error)) = &part
            && let Err(unwritten) = self.book.not_used(directory, error)
        {
            warn!(error = %unwritten, ledger = %self.ledger.display(), "what was found is not recorded");
        }
        part
    }

    fn ask(&self, args: &Args) -> Result<Admission, Failure> {
        let start = std::time::Instant::now();
        let mut parts = vec![self.examine(Kind::Model, &args.model)?];
        for (_, directory) in &args.adapters {
            parts.push(self.examine(Kind::Adapter, directory)?);
        }
        info!(directories = parts.len(), seconds = start.elapsed().as_secs_f64(), "examined");
        for part in &parts {
            let labels = self.custody.unheeded(&part.lineage);
            if !labels.is_empty() {
                warn!(artefact = %part.name, ?labels, "its record has labels that the rules in force do not heed; --policy names others");
            }
        }
        let mut lineage = Lineage::default();
        let endpoint = Endpoint { name: self.endpoint.clone(), model: args.model.clone() };
        let question = self.question(Action::Serve, &mut lineage, &parts[0]);
        let endpoint = self.custody.admit(question, endpoint, &self.book).map_err(refusal)?;
        let mut adapters = Vec::new();
        for ((_, directory), part) in args.adapters.iter().zip(&parts[1..]) {
            let addition = Addition { endpoint: self.endpoint.clone(), adapter: directory.clone() };
            // The endpoint has taken those before.
            let question = self.question(Action::AddAdapter, &mut lineage, part);
            adapters.push(self.custody.admit(question, addition, &self.book).map_err(refusal)?);
        }
        Ok(Admission { endpoint, adapters, parts })
    }

    /// May the endpoint, which `lineage` describes so far, have this part, too?
    fn question(&self, action: Action, lineage: &mut Lineage, part: &Part) -> Question {
        let mut with = part.lineage.clone();
        with.joins(lineage);
        with.makes(&self.endpoint, [part.name.clone()]);
        lineage.clone_from(&with);
        Question { confinement: confined::level(), ..Question::new(action, self.endpoint.clone(), with) }
    }

    /// Records that the endpoint listens, and signs the ledger.
    pub(crate) fn started(&self, admission: &Admission, address: SocketAddr, names: &[String]) -> Result<(), Failure> {
        let served = admission.parts.iter().zip(names);
        let served = served.map(|(part, name)| format!("{name} = {} sha256:{}", part.name, part.digest)).collect();
        let mut deed = Deed::new("endpoint.started")
            .fact("endpoint", Fact::Text(self.endpoint.to_string()))
            .fact("address", Fact::Text(address.to_string()))
            .fact("confinement", Fact::Text(confined::level().map_or("unknown", Confinement::word).to_owned()))
            .fact("served", Fact::List(served));
        for part in &admission.parts {
            deed = deed.input(part.name.to_string(), Digest::from(part.digest));
        }
        self.book.write(deed).and_then(|()| self.seal()).map_err(Failure::Account)
    }

    /// Records that the endpoint is gone. Its requests are answered by then: what fails here is only said.
    pub(crate) fn ended(&self, reason: &str, answered: u64) {
        let deed = Deed::new("endpoint.ended")
            .fact("endpoint", Fact::Text(self.endpoint.to_string()))
            .fact("reason", Fact::Text(reason.to_owned()))
            .fact("requests", Fact::Number(i64::try_from(answered).unwrap_or(i64::MAX)));
        if let Err(error) = self.book.write(deed).and_then(|()| self.seal()) {
            warn!(%error, ledger = %self.ledger.display(), "the end of the endpoint could not be recorded");
        }
    }

    fn seal(&self) -> Result<(), CustodyError> {
        self.book.seal(&self.keys.ledger, &log_name(&self.custody.who().name))
    }

    /// What the event of a started server says of custody.
    pub(crate) fn described(&self, admission: &Admission, names: &[String]) -> Value {
        let part = |(part, name): (&Part, &String)| json!({"name": name, "artefact": part.name.to_string(), "sha256": part.digest.to_string(), "signed_by": part.signer});
        let artefacts: Vec<Value> = admission.parts.iter().zip(names).map(part).collect();
        let confinement = json!({"level": confined::level().map(Confinement::word), "attempts": confined::attempts()});
        json!({"endpoint": self.endpoint.to_string(), "artefacts": artefacts, "confinement": confinement, "ledger": self.ledger.display().to_string()})
    }
}

fn refusal(error: CustodyError) -> Failure {
    match error {
        CustodyError::Refused(decision) => Failure::Refused(decision),
        error => Failure::Account(error),
    }
}

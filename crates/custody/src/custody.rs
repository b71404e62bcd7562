//! The gate as programs see it: a set of rules, the account that asks, the site, the clock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sirocco_config::Run;
use sirocco_ledger::{Author, Digest, Fact};
use sirocco_policy::{Action, Admitted, Day, Decision, Gate, Guarded, Kind, Name, Request, Sha256Digest, Verb, Who, WhoKind};

use crate::account::{Account, host};
use crate::book::{Book, Deed};
use crate::error::{CustodyError, io};
use crate::lineage::Lineage;
use crate::set::PolicySet;

/// What a program is told about whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The policy set: `configs/policies/open`, or a directory.
    pub set: String,
    /// Files of facts that a user adds.
    pub facts: Vec<PathBuf>,
    /// For what, by its name in the facts.
    pub purpose: Option<String>,
    /// The site, by its name in the facts.
    pub site: String,
}

impl Settings {
    /// As a run file has them.
    pub fn of_run(run: &Run) -> Settings {
        let (policy, site) = (&run.policy, Path::new(&run.site.profile));
        // A profile of one's own is a path; facts speak of its name.
        let site = site.file_stem().map_or_else(|| run.site.profile.clone(), |stem| stem.to_string_lossy().into_owned());
        Settings { set: policy.set.clone(), facts: policy.facts.clone(), purpose: policy.purpose.clone(), site }
    }
}

/// What is asked, besides who, where and when.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is to be done.
    pub action: Action,
    /// With what, or what will come of it.
    pub artefact: Name,
    /// Where it comes from.
    pub lineage: Lineage,
    /// The node, once there is one.
    pub node: Option<String>,
    /// The level of confinement that was measured.
    pub confinement: Option<u8>,
    /// Asked before it is queued.
    pub planned: bool,
    /// Who approved.
    pub approved_by: BTreeSet<Who>,
    /// Who receives it.
    pub recipients: BTreeSet<String>,
}

impl Question {
    /// A question about what is to be done here and now.
    pub fn new(action: Action, artefact: Name, lineage: Lineage) -> Question {
        Question {
            action,
            artefact,
            lineage,
            node: None,
            confinement: None,
            planned: false,
            approved_by: BTreeSet::new(),
            recipients: BTreeSet::new(),
        }
    }
}

/// Rules, facts, and who asks.
pub struct Custody {
    gate: Gate,
    set: PolicySet,
    settings: Settings,
    who: Who,
}

impl Custody {
    /// Reads the rules, and finds out who and where this process is.
    ///
    /// # Errors
    /// A set that is not there or not right.
    pub fn open(settings: Settings) -> Result<Custody, CustodyError> {
        let set = PolicySet::read(&settings.set, &settings.facts, None)?;
        let gate = set.gate()?;
        let account = Account::own().name;
        // The facts say whether an account is a person's or a service's.
        let service = Who::new(WhoKind::Service, account.clone());
        let who = if gate.facts().principal(&service).is_some() { service } else { Who::new(WhoKind::Person, account) };
        Ok(Custody { gate, set, settings, who })
    }

    /// The rules and facts.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The texts that they were read from.
    pub fn set(&self) -> &PolicySet {
        &self.set
    }

    /// Who asks.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Whom entries of a ledger name. Reads the program's own file.
    ///
    /// # Errors
    /// A file of /proc that cannot be read.
    pub fn author(&self) -> Result<Author, CustodyError> {
        let own = PathBuf::from("/proc/self/exe");
        let binary = Digest::of_file(&own).map_err(io("read", &own))?;
        Ok(Author { identity: self.who.to_string(), host: host()?, binary })
    }

    /// The name under which the facts know something that lies at `path` with these bytes; its path, where they do not.
    pub fn name_of(&self, kind: Kind, path: &Path, digest: Option<&Sha256Digest>) -> Name {
        let facts = self.gate.facts();
        let by_digest = digest.and_then(|digest| facts.with_digest(digest)).filter(|name| name.kind == kind);
        let by_path = || path.to_str().and_then(|path| facts.at_path(path)).filter(|name| name.kind == kind);
        by_digest.or_else(by_path).unwrap_or_else(|| Name::new(kind, path.display().to_string()))
    }

    /// The whole question.
    pub fn request(&self, question: Question) -> Request {
        let Question { action, artefact, lineage, node, confinement, planned, approved_by, recipients } = question;
        let Lineage { made, recorded, digests } = lineage;
        Request {
            who: self.who.clone(),
            action,
            artefact,
            made,
            recorded,
            digests,
            site: self.settings.site.clone(),
            node,
            confinement,
            planned,
            purpose: self.settings.purpose.clone(),
            day: today(),
            approved_by,
            recipients,
        }
    }

    /// May this be done? For plans: nothing passes on it.
    ///
    /// # Errors
    /// [`CustodyError::Refused`].
    pub fn ask(&self, question: Question) -> Result<Decision, CustodyError> {
        let decision = self.gate.ask(&self.request(question));
        if decision.allowed { Ok(decision) } else { Err(CustodyError::Refused(Box::new(decision))) }
    }

    /// Lets `thing` pass if the policy allows it, and records in `book` what was decided, also where it was refused.
    ///
    /// # Errors
    /// [`CustodyError::Refused`]; a ledger that cannot be written.
    pub fn admit<V: Verb, T: Guarded>(&self, question: Question, thing: T, book: &Book) -> Result<Admitted<V, T>, CustodyError> {
        let request = self.request(question);
        let answer = self.gate.admit::<V, T>(&request, thing);
        let decision = match &answer {
            Ok(admitted) => admitted.decision(),
            Err(refused) => &*refused.decision,
        };
        book.write(asked(&request, decision))?;
        answer.map_err(|refused| CustodyError::Refused(refused.decision))
    }
}

/// The entry of a question and its answer. The request is there whole, so that the decision can be made again.
fn asked(request: &Request, decision: &Decision) -> Deed {
    let rules = decision.rule_ids().map(str::to_owned).collect();
    let policy = Digest::from_bytes(*decision.digests.rules.as_bytes());
    let mut deed = Deed::new(format!("policy.{}", request.action.word().to_lowercase()))
        .fact("artefact", Fact::Text(request.artefact.to_string()))
        .fact("request", Fact::Text(request.canonical()))
        .fact("facts", Fact::Text(decision.digests.facts.to_string()))
        .fact("answer", Fact::Text(decision.to_string()));
    deed.decision = Some(sirocco_ledger::Decision { allowed: decision.allowed, policy, rules });
    for (name, digest) in &request.digests {
        deed = deed.input(name.to_string(), Digest::from_bytes(*digest.as_bytes()));
    }
    deed
}

/// The day by this machine's clock, in UTC.
fn today() -> Day {
    Day::new(time::OffsetDateTime::from(SystemTime::now()).date())
}

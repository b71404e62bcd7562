//! The gate as programs see it: a set of rules, the account that asks, the site, the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sirocco_config::{OPEN_POLICY, Run};
use sirocco_ledger::{Author, Digest, Fact};
use sirocco_policy::{
    Action, Admitted, Confinement, Day, Decision, Gate, Guard, Guarded, Kind, Labels, Name, Request, Sha256Digest, Verb, Who,
    WhoKind,
};

use sirocco_signing::trust::Trust;

use crate::account::{Account, host};
use crate::book::{Book, Deed};
use crate::error::CustodyError;
use crate::lineage::Lineage;
use crate::set::ReadSet;

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
    /// The account, as whoever started this process found it: for confined processes, which cannot ask a directory service.
    pub account: Option<String>,
}

impl Settings {
    /// As a run file has them.
    pub fn of_run(run: &Run) -> Settings {
        let (policy, site) = (&run.policy, Path::new(&run.site.profile));
        // A profile of one's own is a path; facts speak of its name.
        let site = site.file_stem().map_or_else(|| run.site.profile.clone(), |stem| stem.to_string_lossy().into_owned());
        Settings { set: policy.set.clone(), facts: policy.facts.clone(), purpose: policy.purpose.clone(), site, account: None }
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
    /// The node of what is planned, once there is one. What is not only planned is done on this one.
    pub node: Option<String>,
    /// The level of confinement that was measured.
    pub confinement: Option<Confinement>,
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
    guard: Guard,
    set: ReadSet,
    settings: Settings,
    who: Who,
    /// Where relative paths start, for people and in facts; without links.
    base: PathBuf,
    /// The places of the facts that are written otherwise than they were resolved.
    places: BTreeMap<String, String>,
}

impl Custody {
    /// Reads the rules, and finds out who and where this process is. `base` is where relative paths of facts start: the directory in which
    /// the command was typed. `trust` has keys that may sign sets.
    ///
    /// # Errors
    /// A set that is not there, not right, or not what this machine takes.
    pub fn open(settings: Settings, base: &Path, trust: Option<&Trust>) -> Result<Custody, CustodyError> {
        let mut set = ReadSet::read(&settings.set, &settings.facts, trust)?;
        let base = std::fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
        // The set may say `data/letters` and a user `/data/letters`, typed in `/`: one place, of which both descriptions hold.
        let mut places = BTreeMap::new();
        set.set = set.set.with_places(|written| {
            let real = place(&base, Path::new(written));
            if real != written {
                places.insert(written.to_owned(), real.clone());
            }
            real
        });
        let guard = set.set.guard(&set.demands);
        let guard = guard.map_err(|why| CustodyError::NotTaken { path: set.path.clone(), why })?;
        let account = Account::own(settings.account.as_deref()).name;
        // The facts say whether an account is a person's or a service's.
        let service = Who::new(WhoKind::Service, account.clone());
        let is_service = guard.gate().facts().principal(&service).is_some();
        let who = if is_service { service } else { Who::new(WhoKind::Person, account) };
        Ok(Custody { guard, set, settings, who, base, places })
    }

    /// The rules and facts.
    pub fn gate(&self) -> &Gate {
        self.guard.gate()
    }

    /// The texts that they were read from.
    pub fn set(&self) -> &ReadSet {
        &self.set
    }

    /// Who asks.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The site, by its name in the facts.
    pub fn site(&self) -> &str {
        &self.settings.site
    }

    /// Something whose name is known, as that of a verified artefact is, lies at `path` and has these bytes.
    pub fn holds(&self, lineage: &mut Lineage, name: Name, path: &Path, digest: Sha256Digest) -> Name {
        let mut found = Lineage::default();
        let described = self.uses(&mut found, name.kind, path, digest);
        lineage.uses(name, Some(digest), found.paths.remove(&described))
    }

    /// The labels of records that limit something, where the rules are those that allow everything, and so heed none of them.
    pub fn unheeded(&self, lineage: &Lineage) -> BTreeSet<&'static str> {
        if self.settings.set != OPEN_POLICY {
            return BTreeSet::new();
        }
        lineage.recorded.values().flat_map(Labels::limiting).collect()
    }

    /// Whom entries of a ledger name. Reads the program's own file.
    ///
    /// # Errors
    /// A file of /proc that cannot be read.
    pub fn author(&self) -> Result<Author, CustodyError> {
        let own = PathBuf::from("/proc/self/exe");
        let binary = Digest::of_file(&own)?.0;
        Ok(Author { identity: self.who.to_string(), host: host()?, binary })
    }

    /// Something that lies at `path` and has these bytes is used: under the name that the facts know it by, or else its path.
    pub fn uses(&self, lineage: &mut Lineage, kind: Kind, path: &Path, digest: Sha256Digest) -> Name {
        self.lies(lineage, kind, path, Some(digest))
    }

    /// The same for a plan, before its bytes were read.
    pub fn will_use(&self, lineage: &mut Lineage, kind: Kind, path: &Path) -> Name {
        self.lies(lineage, kind, path, None)
    }

    fn lies(&self, lineage: &mut Lineage, kind: Kind, path: &Path, digest: Option<Sha256Digest>) -> Name {
        let written = place(&self.base, path);
        let name = self.gate().facts().known_as(kind, Some(&written), digest.as_ref());
        // The same bytes lie elsewhere, too: a name has one place, and each place has its say.
        let name = name.filter(|name| lineage.paths.get(name).is_none_or(|place| *place == written));
        let name = name.unwrap_or_else(|| Name::new(kind, path.display().to_string()));
        lineage.uses(name, digest, Some(written))
    }

    /// A lineage as it can travel: with the labels of everything that it begins with, which elsewhere no path and perhaps no fact tells.
    #[must_use]
    pub fn remembered(&self, lineage: &Lineage) -> Lineage {
        let used = lineage.made.values().flatten().chain(lineage.digests.keys());
        let begins: BTreeSet<&Name> = used.filter(|name| !lineage.made.contains_key(name)).collect();
        let mut whole = lineage.clone();
        for name in begins {
            let asks = Action::ALL.into_iter().find(|action| action.takes().contains(&name.kind));
            let Some(action) = asks else { continue };
            // The labels stand in every answer, whatever it is.
            let labels = self.gate().ask(&self.request(Question::new(action, name.clone(), lineage.clone()))).labels;
            whole.recorded.insert(name.clone(), labels);
        }
        whole
    }

    /// The whole question.
    pub fn request(&self, question: Question) -> Request {
        let Question { action, artefact, lineage, node, confinement, planned, approved_by, recipients } = question;
        let Lineage { made, recorded, digests, paths, verified } = lineage;
        // What is done now is done here; a plan may be for elsewhere.
        let node = node.or_else(|| if planned { None } else { host().ok() });
        Request {
            who: self.who.clone(),
            action,
            artefact,
            made,
            recorded,
            verified_records: verified,
            digests,
            paths,
            places: self.places.clone(),
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
        let decision = self.gate().ask(&self.request(question));
        if decision.allowed { Ok(decision) } else { Err(CustodyError::Refused(Box::new(decision))) }
    }

    /// The refusal, if it may not be done, with its entry: for whoever asks before the ledger is open.
    pub fn refusal(&self, question: Question) -> Option<(Deed, CustodyError)> {
        let request = self.request(question);
        let decision = self.gate().ask(&request);
        (!decision.allowed).then(|| (asked(&request, &decision), CustodyError::Refused(Box::new(decision))))
    }

    /// Lets `thing` pass if the policy allows it, and records in `book` what was decided, also where it was refused.
    ///
    /// # Errors
    /// [`CustodyError::Refused`]; a ledger that cannot be written.
    pub fn admit<V: Verb, T: Guarded>(&self, question: Question, thing: T, book: &Book) -> Result<Admitted<V, T>, CustodyError> {
        let (deed, answer) = self.decide(question, thing);
        book.write(deed)?;
        answer
    }

    /// The same where another process writes the ledger: the entry is handed out, to be brought there also where it is a refusal.
    ///
    /// # Errors
    /// [`CustodyError::Refused`], as the answer.
    pub fn decide<V: Verb, T: Guarded>(&self, question: Question, thing: T) -> (Deed, Result<Admitted<V, T>, CustodyError>) {
        let request = self.request(question);
        let answer = self.guard.admit::<V, T>(&request, thing);
        let decision = match &answer {
            Ok(admitted) => admitted.decision(),
            Err(refused) => &*refused.decision,
        };
        let deed = asked(&request, decision);
        (deed, answer.map_err(|refused| CustodyError::Refused(refused.decision)))
    }
}

/// The one spelling of a place: absolute, with links resolved as far as it is there.
fn place(base: &Path, path: &Path) -> String {
    let whole = base.join(path);
    let mut there = whole.as_path();
    // What is not there yet has the links of what is.
    let real = loop {
        if let Ok(real) = std::fs::canonicalize(there) {
            let rest = whole.strip_prefix(there).ok().filter(|rest| !rest.as_os_str().is_empty());
            break rest.map_or_else(|| real.clone(), |rest| real.join(rest));
        }
        match there.parent() {
            Some(parent) => there = parent,
            None => break whole.clone(),
        }
    };
    real.display().to_string()
}

/// The entry of a question and its answer. The request is there whole, so that the decision can be made again.
fn asked(request: &Request, decision: &Decision) -> Deed {
    let rules = decision.rule_ids().map(str::to_owned).collect();
    let policy = Digest::from(decision.digests.rules);
    let mut deed = Deed::new(format!("policy.{}", request.action.word().to_lowercase()))
        .fact("artefact", Fact::Text(request.artefact.to_string()))
        .fact("request", Fact::Text(request.canonical()))
        .fact("facts", Fact::Text(decision.digests.facts.to_string()))
        .fact("answer", Fact::Text(decision.to_string()));
    if let Some(signer) = &decision.signed_by {
        deed = deed.fact("signed_by", Fact::Text(format!("{} {}", signer.name, signer.key)));
    }
    deed.decision = Some(sirocco_ledger::Decision { allowed: decision.allowed, policy, rules });
    for (name, digest) in &request.digests {
        deed = deed.input(name.to_string(), Digest::from(*digest));
    }
    deed
}

/// The day by this machine's clock, in UTC.
pub fn today() -> Day {
    Day::new(time::OffsetDateTime::from(SystemTime::now()).date())
}

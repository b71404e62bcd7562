//! `sirocco evidence`: a bundle from which others can see what was done in a run. It is made here, and handed on by a person: that it leaves
//! is not this command's doing, and where the rules have a say in it, `sendOut` is asked then.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use sirocco_config::{Run, RunFile, places};
use sirocco_custody::{Book, Custody, Keys, Settings};
use sirocco_evidence::{Check, Demand, Files, Gathered, Numbered, Parts, PolicyTexts, State, Trusted, approvals, sealed, verify};
use sirocco_ledger::Fact;
use sirocco_ledger::disk::Directory;
use sirocco_ledger::source::Source as _;
use sirocco_ledger::time::Time;

use crate::cli;
use crate::failure::{Failure, Kind};
use crate::ledger::{broken, not_evident};
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::here;

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Made {
    bundle: String,
    run: String,
    log: String,
    entries: u64,
    files: usize,
    artefacts: Vec<String>,
    ok: bool,
    checks: Vec<Check>,
}

/// A run with what signs for it.
struct Site {
    directory: RunDirectory,
    run: Run,
    custody: Custody,
    keys: Keys,
    trusted: Trusted,
}

impl Site {
    fn open(path: &Path) -> Result<Site, Failure> {
        let directory = RunDirectory::existing(path)?;
        let run = RunFile::read(&directory.typed_run_file())?.check(&here()?)?;
        if let Some(who) = directory.at_work() {
            let message = format!("{}: {who} works on it: expected a run that has ended, or has stopped", directory.shown());
            return Err(Failure::usage(message).help(format_args!("sirocco watch {}", directory.word())));
        }
        let none =
            || Failure::new(Kind::Machine, "no keys to sign with: neither [policy] keys nor XDG_CONFIG_HOME nor HOME is set");
        let path = run.policy.keys.clone().or_else(places::keys).ok_or_else(none)?;
        let keys = Keys::read(&path)?;
        let trust = keys.trust(run.policy.trust.as_deref())?;
        let custody = Custody::open(Settings::of_run(&run), &here()?, Some(&trust))?;
        let trusted = Trusted { trust, ledgers: vec![keys.ledger.verifier()] };
        Ok(Site { directory, run, custody, keys, trusted })
    }

    /// The ledger, with all of it under a signature.
    fn sealed(&self) -> Result<(Directory, Vec<Numbered>), Failure> {
        let path = self.directory.path().join("ledger");
        let ledger = Directory::new(&path);
        if ledger.read("checkpoint").map_err(|error| broken(&error))?.is_none() {
            let message = format!("{}: found no sealed ledger, expected that of a run that has started", path.display());
            return Err(Failure::new(Kind::Input, message));
        }
        let author = self.custody.author()?;
        let book = Book::open(&path, author)?;
        book.seal(&self.keys.ledger, &self.run.name)?;
        let (_, entries) = sealed(&ledger).map_err(|error| broken(&error))?;
        Ok((ledger, entries))
    }

    /// Signed directories that are still there: checkpoints, exports that the ledger names, and those that were typed.
    fn artefacts(&self, entries: &[Numbered], typed: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let checkpoints = self.directory.path().join("checkpoints");
        let listed = std::fs::read_dir(&checkpoints).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let exported = entries.iter().filter(|one| one.entry.verb == "artefact.exported");
        let exported = exported.filter_map(|one| match one.entry.facts.get("to") {
            Some(Fact::Text(path)) => Some(PathBuf::from(path)),
            _ => None,
        });
        let is_signed = |path: &PathBuf| path.join("model.sig").is_file();
        let mut found: BTreeSet<PathBuf> =
            listed.chain(exported).filter(is_signed).filter_map(|path| path.canonicalize().ok()).collect();
        for path in typed {
            if !is_signed(path) {
                let message = format!("{}: found no model.sig, expected a signed export of this run", path.display());
                return Err(Failure::new(Kind::Input, message));
            }
            found.extend(path.canonicalize().ok());
        }
        Ok(found.into_iter().collect())
    }
}

pub(crate) fn run(arguments: &cli::Evidence) -> Result<(), Failure> {
    let site = Site::open(&arguments.run)?;
    let (ledger, entries) = site.sealed()?;
    let artefacts = site.artefacts(&entries, &arguments.exports)?;
    let made = (site.custody.who().to_string(), Time::from(SystemTime::now()).to_string());
    let keys = BTreeMap::from([
        ("release.pub".to_owned(), site.keys.public().pem().to_owned()),
        ("ledger.pub".to_owned(), format!("{}\n", site.keys.ledger.verifier())),
    ]);
    let parts = Parts {
        run: &site.run.name,
        site: site.custody.site(),
        made: (&made.0, &made.1),
        ledger: &ledger,
        policies: &PolicyTexts::kept(site.directory.path()).map_err(not_evident)?,
        approvals: approvals(site.directory.path()).map_err(not_evident)?,
        artefacts: &artefacts,
        trust: &site.trusted.trust,
        keys,
    };
    let mut gathered = Gathered::of(&parts).map_err(not_evident)?;
    let page = page::page(&gathered)?;
    gathered.add(sirocco_evidence::layout::PAGE, page.into_bytes());
    gathered.write(&arguments.to, &site.keys.release).map_err(not_evident)?;
    tell(arguments, &site, &gathered)
}

/// Reads what was written, as others will.
fn tell(arguments: &cli::Evidence, site: &Site, gathered: &Gathered) -> Result<(), Failure> {
    let files = Files::read(&arguments.to).map_err(not_evident)?;
    let report = verify(&files, &Demand { trusted: &site.trusted, earlier: Vec::new(), artefacts: Vec::new() });
    let record = &gathered.record;
    let made = Made {
        bundle: arguments.to.display().to_string(),
        run: record.run.clone(),
        log: record.log.clone(),
        entries: record.entries,
        files: files.files.len(),
        artefacts: record.artefacts.iter().map(|one| one.artefact.clone()).collect(),
        ok: report.ok,
        checks: report.checks,
    };
    if let Some(finding) =
        made.checks.iter().filter(|check| check.state == State::Failed).flat_map(|check| &check.findings).next()
    {
        let message =
            format!("{}: written, but it does not show all that it claims: {}: {}", made.bundle, finding.file, finding.what);
        return Err(Failure::new(Kind::Input, message)
            .help("sirocco-verify lists every finding; RUN/policy holds the rules and facts that decided"));
    }
    if arguments.json {
        return output::json(&made);
    }
    let counts = [output::count(made.entries, "entry"), output::count(made.files as u64, "file")];
    output::line(format_args!("{}: {} of {}, {}", made.bundle, counts[0].replace("entrys", "entries"), made.log, counts[1]))?;
    for check in &made.checks {
        let state = if check.state == State::Ok { "ok" } else { "not asked" };
        output::line(format_args!("{}{state}: {}", output::named(check.check), check.looked_at))?;
    }
    output::line("nothing has left: who sends it on answers for that")
}

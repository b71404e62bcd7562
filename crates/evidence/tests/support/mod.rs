//! A small run without training: asked, recorded, published, sealed. What is tested is the bundle made of it.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests fail as tests do; each file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Map;
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Account, Book, Custody, Deed, Keys, Lineage, Question, Settings, Statement};
use sirocco_evidence::{Demand, Files, Gathered, Parts, PolicyTexts, Report, State, Trusted, approvals, verify};
use sirocco_files::{BareDigest, Digest};
use sirocco_ledger::disk::Directory;
use sirocco_ledger::time::Time;
use sirocco_policy::{Action, Confinement, Kind, Name, SCHEMA, Who, WhoKind, verb};
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::Options;
use sirocco_signing::oms;
use sirocco_signing::provenance::Build;
use sirocco_signing::trust::Trust;
use tempfile::TempDir;

/// A report of a node on which nothing got through.
pub(crate) const REPORT: &str =
    r#"{"applied":{"level":"landlock"},"attempts":[{"name":"tcp","got_through":false}],"findings":[],"absent":[]}"#;
/// What approvals call the run.
pub(crate) const RUN_ID: &str = "demo@settings@tokens";
const RULES: &str = "@id(\"most\")\npermit(principal, action, resource);\n\
                     @id(\"stays\")\nforbid(principal, action == Action::\"sendOut\", resource);\n";

/// A run's directory with its keys.
pub(crate) struct Run {
    pub(crate) folder: TempDir,
    pub(crate) custody: Custody,
    pub(crate) keys: Keys,
    pub(crate) book: Book,
}

impl Run {
    /// Nothing has been done yet.
    pub(crate) fn new() -> Run {
        Run::under(None)
    }

    /// The same, under rules that this key has signed.
    pub(crate) fn under(office: Option<&PrivateKey>) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("rules");
        std::fs::create_dir(&set).unwrap();
        std::fs::write(set.join("policy.cedar"), RULES).unwrap();
        let facts = format!("[site.local]\ncountry = \"LU\"\n[person.\"{}\"]\nroles = [\"engineer\"]\n", Account::own(None).name);
        std::fs::write(set.join("facts.toml"), facts).unwrap();
        let own = folder.path().join("mine.toml");
        std::fs::write(&own, "[data.letters]\npath = \"letters.jsonl\"\n").unwrap();
        std::fs::write(folder.path().join("letters.jsonl"), "{}\n").unwrap();
        let trust = office.map(|key| {
            oms::sign(&set, key, Options::default()).unwrap();
            let trust = folder.path().join("office");
            std::fs::create_dir(&trust).unwrap();
            std::fs::write(trust.join("office.pub"), key.public().pem()).unwrap();
            std::fs::write(trust.join("roles.json"), "{\"office\": [\"policy\"]}").unwrap();
            Trust::read(&trust).unwrap()
        });
        let set = set.to_str().unwrap().to_owned();
        let settings = Settings { set, facts: vec![own], purpose: None, site: "local".to_owned(), account: None };
        let custody = Custody::open(settings, folder.path(), trust.as_ref()).unwrap();
        let keys = Keys::create(&folder.path().join("keys"), "tests").unwrap();
        let book = Book::open(&folder.path().join("ledger"), custody.author().unwrap()).unwrap();
        Run { folder, custody, keys, book }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lineage(&self, made: &Name) -> Lineage {
        let mut lineage = Lineage::default();
        let data = self.custody.uses(&mut lineage, Kind::Data, &self.path("letters.jsonl"), BareDigest::of(b"{}\n"));
        let base = self.custody.uses(&mut lineage, Kind::Model, self.folder.path(), BareDigest::of(b"base"));
        lineage.makes(made, [data, base]);
        lineage
    }

    /// Asks; records the answer.
    pub(crate) fn ask<V: sirocco_policy::Verb>(&self, action: Action, artefact: &str) -> bool {
        self.ask_approved::<V>(action, artefact, &[])
    }

    /// The same with the approvals of these people.
    pub(crate) fn ask_approved<V: sirocco_policy::Verb>(&self, action: Action, artefact: &str, by: &[&str]) -> bool {
        let name: Name = artefact.parse().unwrap();
        let mut question = Question::new(action, name.clone(), self.lineage(&name));
        question.confinement = Some(Confinement::NetworkNamespace);
        question.approved_by = by.iter().map(|name| Who::new(WhoKind::Person, *name)).collect();
        self.custody.admit::<V, _>(question, name, &self.book).is_ok()
    }

    /// Asks as if it were at another site, where it is refused.
    pub(crate) fn refused_at(&self, site: &str) {
        let set = self.custody.set().path.display().to_string();
        let settings = Settings { set, facts: vec![self.path("mine.toml")], purpose: None, site: site.to_owned(), account: None };
        let custody = Custody::open(settings, self.folder.path(), None).unwrap();
        let name: Name = "adapter:demo".parse().unwrap();
        let question = Question::new(Action::SendOut, name.clone(), self.lineage(&name));
        assert!(custody.admit::<verb::SendOut, _>(question, name, &self.book).is_err());
    }

    pub(crate) fn did(&self, deed: Deed) {
        self.book.write(deed).unwrap();
    }

    /// Publishes a directory with weights under a name, and records it.
    pub(crate) fn publishes(&self, verb: &str, artefact: &str, directory: &str) {
        let (made, path): (Name, PathBuf) = (artefact.parse().unwrap(), self.path(directory));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("weights.safetensors"), vec![7; 5000]).unwrap();
        let (lineage, now) = (self.lineage(&made), Time::from_millis(1_800_000_000_000));
        let statement = Statement {
            build: Build::FineTune,
            run: "demo".to_owned(),
            when: (now, now),
            parameters: Map::new(),
            settled: Map::new(),
            configuration: BareDigest::of(b"run.toml"),
            lineage: &lineage,
            made: &made,
        };
        let facts = statement.facts(&self.custody).unwrap();
        let labels =
            self.custody.ask(Question::new(Action::Train, "checkpoint:demo".parse().unwrap(), lineage.clone())).unwrap().labels;
        let making = Making { artefact: &made, lineage: &lineage, labels: &labels, run: ("demo", 4), known: &[], facts: &facts };
        let digest = artefact::publish(&path, &making, &self.keys.release).unwrap();
        self.did(Deed::new(verb).output(artefact, Digest::from(digest)));
    }

    pub(crate) fn seal(&self) {
        self.book.seal(&self.keys.ledger, "sirocco/demo/0123456789abcdef").unwrap();
    }

    /// The whole run, as programs record one.
    pub(crate) fn whole() -> Run {
        let run = Run::new();
        run.begins();
        run.ends();
        run
    }

    pub(crate) fn begins(&self) {
        assert!(self.ask::<verb::Train>(Action::Train, "checkpoint:demo"));
        self.did(
            Deed::new("node.confined")
                .fact("level", sirocco_ledger::Fact::Number(3))
                .fact("report", sirocco_ledger::Fact::Text(REPORT.to_owned())),
        );
        self.did(Deed::new("run.started").fact("run_id", sirocco_ledger::Fact::Text(RUN_ID.to_owned())));
        self.publishes("checkpoint.published", "checkpoint:demo", "checkpoints/step-00000004");
        self.seal();
    }

    pub(crate) fn ends(&self) {
        self.did(Deed::new("run.ended"));
        assert!(self.ask::<verb::Export>(Action::Export, "adapter:demo"));
        self.publishes("artefact.exported", "adapter:demo", "demo-adapter");
        assert!(!self.ask::<verb::SendOut>(Action::SendOut, "adapter:demo"));
        self.seal();
    }

    pub(crate) fn texts(&self) -> PolicyTexts {
        self.custody.keep_texts(self.folder.path()).unwrap();
        let kept = PolicyTexts::kept(self.folder.path()).unwrap().remove(0);
        let read = self.custody.set();
        let set = read.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect();
        let own = read.own.iter().map(|file| ("000-mine.toml".to_owned(), file.text.clone())).collect();
        PolicyTexts { schema: SCHEMA.to_owned(), set, own, signed: kept.signed }
    }

    pub(crate) fn gather(&self, artefacts: &[&str]) -> Gathered {
        let trust = self.keys.trust(None).unwrap();
        let mut gathered = self.gather_of(&Directory::new(self.path("ledger")), artefacts, &trust);
        gathered.add("index.html", b"<!doctype html><title>demo</title>\n".to_vec());
        gathered
    }

    fn gather_of(&self, ledger: &Directory, artefacts: &[&str], trust: &Trust) -> Gathered {
        let artefacts: Vec<PathBuf> = artefacts.iter().map(|name| self.path(name)).collect();
        let key = self.keys.public().pem().to_owned();
        let parts = Parts {
            run: "demo",
            site: "local",
            made: ("person:tests", "2026-01-31T12:00:00.000Z"),
            ledger,
            policies: &[self.texts()],
            artefacts: &artefacts,
            trust,
            approvals: approvals(self.folder.path()).unwrap(),
            keys: BTreeMap::from([("release.pub".to_owned(), key)]),
        };
        Gathered::of(&parts).unwrap()
    }

    pub(crate) fn all(&self) -> Gathered {
        self.gather(&["checkpoints/step-00000004", "demo-adapter"])
    }

    pub(crate) fn trusted(&self) -> Trusted {
        Trusted::read(self.keys.path()).unwrap()
    }
}

/// The files of a bundle that is signed and written.
pub(crate) fn written(run: &Run, gathered: &Gathered) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("bundle");
    gathered.write(&to, &run.keys.release).unwrap();
    Files::read(&to).unwrap()
}

pub(crate) fn check(files: &Files, trusted: &Trusted) -> Report {
    verify(files, &Demand { trusted, earlier: Vec::new(), artefacts: Vec::new() })
}

/// The findings of all checks, as `check file: what`.
pub(crate) fn findings(report: &Report) -> Vec<String> {
    let of = |check: &sirocco_evidence::Check| -> Vec<String> {
        check.findings.iter().map(|one| format!("{} {}: {}", check.check, one.file, one.what)).collect()
    };
    report.checks.iter().flat_map(of).collect()
}

/// The names of the checks that failed.
pub(crate) fn failed(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.state == State::Failed).map(|check| check.check).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-R").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

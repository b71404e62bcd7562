//! Two sites: one that packs, one that opens. Their rules let everything pass, but what a test forbids.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests fail as tests do; each file uses its part")]

use std::path::{Path, PathBuf};

use serde_json::Map;
use sirocco_bundle::{Bundle, BundleError, Cover, Incoming, Packed, Part, pack, silent};
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Book, Custody, Keys, Lineage, Question, Settings, Statement, today};
use sirocco_files::BareDigest;
use sirocco_ledger::time::Time;
use sirocco_policy::{Action, Admitted, Guarded, Kind, Name, Verb, verb};
use sirocco_signing::provenance::Build;
use sirocco_signing::trust::Trust;
use tempfile::TempDir;

/// A site with its keys, its rules and its ledger.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) custody: Custody,
    pub(crate) keys: Keys,
    book: Book,
}

impl Site {
    pub(crate) fn new(facts: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("rules");
        std::fs::create_dir(&set).unwrap();
        std::fs::write(set.join("policy.cedar"), "@id(\"all\")\npermit(principal, action, resource);\n").unwrap();
        std::fs::write(set.join("facts.toml"), facts).unwrap();
        let set = set.to_str().unwrap().to_owned();
        let settings = Settings { set, facts: Vec::new(), purpose: None, site: "here".to_owned(), account: None };
        let custody = Custody::open(settings, folder.path(), None).unwrap();
        let keys = Keys::create(&folder.path().join("keys"), "tests").unwrap();
        let book = Book::open(&folder.path().join("ledger"), custody.author().unwrap()).unwrap();
        Site { folder, custody, keys, book }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// An adapter with origin, provenance and signature.
    pub(crate) fn adapter(&self, directory: &str) -> PathBuf {
        let path = self.path(directory);
        self.write(&format!("{directory}/weights.safetensors"), &[7; 700]);
        let (made, mut lineage): (Name, _) = ("adapter:demo".parse().unwrap(), Lineage::default());
        let data = self.custody.uses(&mut lineage, Kind::Data, &self.write("letters.jsonl", b"{}\n"), BareDigest::of(b"{}\n"));
        let base = self.custody.uses(&mut lineage, Kind::Model, &self.path("base"), BareDigest::of(b"base"));
        lineage.makes(&made, [data, base]);
        let now = Time::from_millis(1_800_000_000_000);
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
        let labels = self.custody.ask(Question::new(Action::Export, made.clone(), lineage.clone())).unwrap().labels;
        let lineage = self.custody.remembered(&lineage);
        let making = Making { artefact: &made, lineage: &lineage, labels: &labels, run: ("demo", 4), known: &[], facts: &facts };
        artefact::publish(&path, &making, &self.keys.release).unwrap();
        path
    }

    fn admit<V: Verb, T: Guarded>(&self, lineage: &Lineage, thing: T) -> Admitted<V, T> {
        let question = Question::new(V::ACTION, thing.artefact().clone(), lineage.clone());
        self.custody.admit(question, thing, &self.book).unwrap()
    }

    pub(crate) fn admitted(&self, paths: &[PathBuf]) -> Vec<Admitted<verb::SendOut, Part>> {
        let trust = self.keys.trust(None).unwrap();
        let part = |path: &PathBuf| Part::of(path, &self.custody, Some(&trust), &mut silent).unwrap();
        paths.iter().map(part).map(|part| self.admit(&part.lineage().clone(), part)).collect()
    }

    pub(crate) fn pack(&self, paths: &[PathBuf], to: &Path) -> Result<Packed, BundleError> {
        let cover = Cover { purpose: None, recipients: ["sister".to_owned()].into() };
        pack(&self.admitted(paths), (&self.custody, cover, today()), to, &self.keys.release, &mut silent)
    }

    /// This site's key as others trust it.
    pub(crate) fn trusted_for(&self, roles: &str) -> Trust {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sender.pub"), self.keys.public().pem()).unwrap();
        std::fs::write(folder.path().join("roles.json"), format!("{{\"sender\": [{roles}]}}")).unwrap();
        Trust::read(folder.path()).unwrap()
    }

    pub(crate) fn incoming(&self, bundle: &Bundle, to: &Path) -> Vec<Admitted<verb::Import, Incoming>> {
        let parts = bundle.incoming(&self.custody, to).unwrap();
        parts.into_iter().map(|part| self.admit(&part.lineage().clone(), part)).collect()
    }

    pub(crate) fn unpack(&self, bundle: &Bundle, to: &Path) -> Result<(), BundleError> {
        bundle.unpack(to, &self.incoming(bundle, to), &self.custody, &mut silent)
    }
}

pub(crate) fn open(path: &Path, trust: &Trust) -> Result<Bundle, BundleError> {
    Bundle::open(path, trust, &mut silent)
}

/// The one that packs, with a data file, an unsigned model and an adapter in one bundle, which is 10 to 20 kB.
pub(crate) fn sender() -> (Site, PathBuf) {
    let facts = "[data.letters]\npath = \"letters.jsonl\"\nresidency = [\"LU\"]\nclassification = \"restricted\"\n\
                 [model.base]\npath = \"base\"\nresidency = \"anywhere\"\n[model.tiny]\npath = \"tiny\"\nresidency = \"anywhere\"\nlicence = \"MIT\"\n[site.here]\ncountry = \"LU\"\n";
    let site = Site::new(facts);
    let adapter = site.adapter("demo-adapter");
    let paths = [site.write("letters.jsonl", b"{}\n"), site.path("tiny"), adapter, site.write("empty.txt", b"")];
    site.write("tiny/config.json", b"{}");
    site.write("tiny/deep/model.safetensors", &[1; 513]);
    let to = site.path("out.tar");
    site.pack(&paths, &to).unwrap();
    (site, to)
}

/// The names in a directory and below.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path.strip_prefix(root).unwrap().display().to_string()) }
        }
    }
    found.sort();
    found
}

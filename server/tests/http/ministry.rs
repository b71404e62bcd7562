//! A ministry whose letters stay in Luxembourg, and what was made of them: models and adapters with origin and signature.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Map;
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Account, Custody, Keys, Lineage, Question, Settings, Statement};
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::disk::Log;
use sirocco_ledger::source::{Source as _, entry};
use sirocco_ledger::time::Time;
use sirocco_ledger::tlog_proof::CHECKPOINT;
use sirocco_ledger::{Author, Digest, Entry};
use sirocco_policy::{Action, Kind, Name, Sha256Digest};
use sirocco_signing::provenance::Build;
use sirocco_tests::material::tiny_model;
use sirocco_tests::program::{Running, wait_for};
use tempfile::TempDir;

use crate::answers::write_adapter;
use crate::server::{LIMIT, serve};

const RULES: &str = r#"
@id("operators")
permit(principal, action, resource) when { principal.roles.contains("operator") };

@id("residency")
@advice("Use a site in a country that the owner names.")
forbid(principal, action, resource)
unless { resource.residency.anywhere || resource.residency.countries.contains(context.site.country) };
"#;

/// A directory with `rules`, the base model `tiny`, and the account's own keys.
pub(crate) struct Ministry {
    dir: TempDir,
}

impl Ministry {
    /// The operator is whoever runs the tests.
    pub(crate) fn new() -> Ministry {
        let dir = TempDir::new().unwrap();
        let set = dir.path().join("rules");
        fs::create_dir(&set).unwrap();
        fs::write(set.join("policy.cedar"), RULES).unwrap();
        let facts = format!(
            "[data.letters]\nresidency = [\"LU\"]\n[model.base]\npath = \"tiny\"\nresidency = \"anywhere\"\n\
             [site.bissen]\ncountry = \"LU\"\n[site.bologna]\ncountry = \"IT\"\n[person.\"{}\"]\nroles = [\"operator\"]\n",
            Account::own(None).name
        );
        fs::write(set.join("facts.toml"), facts).unwrap();
        tiny_model(&dir.path().join("tiny"));
        Ministry { dir }
    }

    /// From here on only those serve who have no files but their own.
    pub(crate) fn ask_for_landlock(&self) {
        let rule = "@id(\"landlock\")\n@advice(\"Reach level 3.\")\nforbid(principal, action in [Action::\"serve\", \
                    Action::\"addAdapter\"], resource)\nunless { context.confinement.measured >= 3 };\n";
        fs::write(self.path("rules/policy.cedar"), format!("{RULES}\n{rule}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The keys that the server finds as its own.
    pub(crate) fn own_keys(&self) -> Keys {
        Keys::read_or_create(&self.path("config/sirocco/keys"), "tests").unwrap().0
    }

    /// Publishes a model that was made of letters.
    pub(crate) fn merged(&self, directory: &str, keys: &Keys) {
        tiny_model(&self.path(directory));
        self.publish(directory, &"merged:letters".parse().unwrap(), keys);
    }

    /// Publishes an adapter that was made of letters.
    pub(crate) fn adapter(&self, directory: &str, keys: &Keys) {
        write_adapter(&self.path(directory), "final");
        self.publish(directory, &"adapter:letters".parse().unwrap(), keys);
    }

    fn publish(&self, directory: &str, made: &Name, keys: &Keys) {
        let set = self.path("rules").to_str().unwrap().to_owned();
        let settings = Settings { set, facts: Vec::new(), purpose: None, site: "bissen".to_owned(), account: None };
        let custody = Custody::open(settings, self.dir.path(), None).unwrap();
        let mut lineage = Lineage::default();
        let letters = lineage.uses("data:letters".parse().unwrap(), Some(Sha256Digest::of(b"letters")), None);
        let base = custody.uses(&mut lineage, Kind::Model, &self.path("tiny"), Sha256Digest::of(b"base"));
        lineage.makes(made, [letters, base]);
        let now = Time::from_millis(1_800_000_000_000);
        let statement = Statement {
            build: Build::FineTune,
            run: "letters".to_owned(),
            when: (now, now),
            parameters: Map::new(),
            settled: Map::new(),
            configuration: Sha256Digest::of(b"run.toml"),
            lineage: &lineage,
            made,
        };
        let facts = statement.facts(&custody).unwrap();
        let labels = custody.ask(Question::new(Action::Export, made.clone(), lineage.clone())).unwrap().labels;
        let making =
            Making { artefact: made, lineage: &lineage, labels: &labels, run: ("letters", 3), known: &[], facts: &facts };
        artefact::publish(&self.path(directory), &making, &keys.release).unwrap();
    }

    /// A directory of trust with the public half of `keys` as `partner`, which has this role.
    pub(crate) fn trust(&self, keys: &Keys, role: &str) {
        let trust = self.path("trust");
        fs::create_dir(&trust).unwrap();
        fs::write(trust.join("partner.pub"), keys.public().pem()).unwrap();
        fs::write(trust.join("roles.json"), format!("{{\"partner\": [\"{role}\"]}}")).unwrap();
    }

    /// The server with these arguments, on a free port.
    pub(crate) fn serve(&self, args: &[&str]) -> Running {
        let fixed = ["--dtype", "fp32", "--listen", "127.0.0.1:0", "--threads", "1"];
        serve(self.dir.path(), &[args, &fixed].concat())
    }

    /// The same where the rules are asked, at a site.
    pub(crate) fn serve_at(&self, site: &str, args: &[&str]) -> Running {
        self.serve(&[args, &["--policy", "rules", "--site", site]].concat())
    }

    /// The entries that the server has signed.
    pub(crate) fn ledger(&self) -> Vec<Entry> {
        sealed(self.dir.path())
    }
}

/// Waits until the server is ready; gives what it has logged.
pub(crate) fn listens(running: &Running) -> String {
    wait_for("listening line", LIMIT, || running.stdout().contains("listening").then(|| running.stderr()))
}

/// The signed entries of the ledger under a directory that the server was started in.
pub(crate) fn sealed(directory: &Path) -> Vec<Entry> {
    let author = Author { identity: "person:reader".to_owned(), host: "here".to_owned(), binary: Digest::of(b"test") };
    let log = Log::open(&directory.join("state/sirocco/ledger"), author).unwrap();
    let tree = log.directory();
    let size = SignedCheckpoint::parse(&tree.read(CHECKPOINT).unwrap().unwrap()).unwrap().checkpoint.size;
    (0..size).map(|index| Entry::parse(&entry(&tree, index, size).unwrap()).unwrap()).collect()
}

//! Asked, recorded, signed, verified: one action from its question to what comes of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};

use serde_json::Map;
use sirocco_config::OPEN_POLICY;
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Account, Book, Custody, CustodyError, Keys, Lineage, Question, Settings, Statement};
use sirocco_files::{BareDigest, Digest};
use sirocco_ledger::disk::Log;
use sirocco_ledger::source::entry;
use sirocco_ledger::time::Time;
use sirocco_policy::{Action, Kind, Name, verb};
use sirocco_signing::provenance::Build;
use sirocco_signing::trust::role;
use tempfile::TempDir;

fn settings(set: &str, site: &str) -> Settings {
    Settings { set: set.to_owned(), facts: Vec::new(), purpose: None, site: site.to_owned(), account: None }
}

/// A set that keeps letters in Luxembourg, with the account that runs the tests as an engineer.
fn at_home(folder: &Path) -> String {
    let set = folder.join("rules");
    std::fs::create_dir(&set).unwrap();
    let rules = "@id(\"engineers\")\npermit(principal, action, resource) when { principal.roles.contains(\"engineer\") };\n\
                 @id(\"residency\")\nforbid(principal, action, resource) unless { \
                 resource.residency.anywhere || resource.residency.countries.contains(context.site.country) };\n";
    std::fs::write(set.join("policy.cedar"), rules).unwrap();
    let facts = format!(
        "[data.letters]\npath = \"letters.jsonl\"\nresidency = [\"LU\"]\n[site.bissen]\ncountry = \"LU\"\n[site.bologna]\ncountry = \"IT\"\n\
         [person.\"{}\"]\nroles = [\"engineer\"]\n",
        Account::own(None).name
    );
    std::fs::write(set.join("facts.toml"), facts).unwrap();
    set.to_str().unwrap().to_owned()
}

fn letters(folder: &Path) -> PathBuf {
    let path = folder.join("letters.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    path
}

fn ledger(folder: &TempDir, custody: &Custody) -> Book {
    Book::open(&folder.path().join("ledger"), custody.author().unwrap()).unwrap()
}

#[test]
fn what_was_decided_is_recorded_also_where_it_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (set, data) = (at_home(folder.path()), letters(folder.path()));
    let run: Name = "checkpoint:run".parse().unwrap();
    let mut answers = Vec::new();
    for site in ["bissen", "bologna"] {
        let custody = Custody::open(settings(&set, site), folder.path(), None).unwrap();
        let book = ledger(&folder, &custody);
        let mut lineage = Lineage::default();
        let used = custody.uses(&mut lineage, Kind::Data, &data, BareDigest::of(b"{}\n"));
        assert_eq!(used.to_string(), "data:letters");
        lineage.makes(&run, [used]);
        answers.push(custody.admit::<verb::Train, _>(Question::new(Action::Train, run.clone(), lineage), run.clone(), &book));
        book.sync().unwrap();
    }
    assert!(answers[0].is_ok());
    let Err(CustodyError::Refused(decision)) = &answers[1] else { panic!("{:?}", answers[1]) };
    assert_eq!(decision.rule_ids().collect::<Vec<_>>(), ["residency"]);

    let custody = Custody::open(settings(&set, "bissen"), folder.path(), None).unwrap();
    let keys = Keys::create(&folder.path().join("keys"), "tests").unwrap();
    ledger(&folder, &custody).seal(&keys.ledger, "tests/one").unwrap();
    let log = Log::open(&folder.path().join("ledger"), custody.author().unwrap()).unwrap();
    let said = |index| entry(&log.directory(), index, 2).map(|bytes| sirocco_ledger::Entry::parse(&bytes).unwrap()).unwrap();
    let [first, second] = [said(0), said(1)].map(|entry| entry.decision.unwrap());
    assert!(first.allowed && !second.allowed);
    assert_eq!(second.rules, ["residency"]);
}

#[test]
fn what_is_published_tells_the_next_question_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let custody = Custody::open(settings(OPEN_POLICY, "local"), folder.path(), None).unwrap();
    let keys = Keys::create(&folder.path().join("keys"), "tests").unwrap();
    let adapter = folder.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    std::fs::write(adapter.join("weights"), "w").unwrap();
    let made: Name = "adapter:run".parse().unwrap();
    let mut lineage = Lineage::default();
    let data = custody.uses(&mut lineage, Kind::Data, &letters(folder.path()), BareDigest::of(b"{}\n"));
    let base = custody.uses(&mut lineage, Kind::Model, folder.path(), BareDigest::of(b"base"));
    lineage.makes(&made, [data, base]);
    let now = Time::from_millis(1_800_000_000_000);
    let statement = Statement {
        build: Build::FineTune,
        run: "run".to_owned(),
        when: (now, now),
        parameters: Map::new(),
        settled: Map::new(),
        configuration: BareDigest::of(b"run.toml"),
        lineage: &lineage,
        made: &made,
    };
    let facts = statement.facts(&custody).unwrap();
    let decision = custody.ask(Question::new(Action::Export, made.clone(), lineage.clone())).unwrap();
    let making =
        Making { artefact: &made, lineage: &lineage, labels: &decision.labels, run: ("run", 3), known: &[], facts: &facts };
    let digest = artefact::publish(&adapter, &making, &keys.release).unwrap();

    let trust = keys.trust(None).unwrap();
    let used = artefact::verified(&adapter, &trust, role::RELEASE, &[]).unwrap();
    assert_eq!((used.signer.as_str(), used.digest), ("release", digest));
    let origin = used.origin.unwrap();
    assert_eq!((origin.step, origin.lineage.made.len(), origin.lineage.verified.len()), (3, 1, 1));

    std::fs::write(adapter.join("weights"), "W").unwrap();
    let error = artefact::verified(&adapter, &trust, role::RELEASE, &[]).unwrap_err().to_string();
    assert!(error.contains("weights"), "{error}");
}

#[test]
fn a_level_has_one_number_and_one_word_where_it_is_measured_and_where_it_is_demanded() {
    let measured = sirocco_confine::Level::ALL.map(|level| level.to_string());
    assert_eq!(measured, sirocco_policy::Confinement::ALL.map(|level| level.to_string()));
}

#[test]
fn a_file_in_a_described_directory_has_its_labels_wherever_facts_begin_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let set = at_home(folder.path());
    let facts = Path::new(&set).join("facts.toml");
    std::fs::create_dir(folder.path().join("texts")).unwrap();
    std::fs::write(folder.path().join("texts/a.jsonl"), "{}\n").unwrap();
    let without = std::fs::read_to_string(&facts).unwrap();
    for path in ["texts".to_owned(), folder.path().canonicalize().unwrap().join("texts").display().to_string()] {
        std::fs::write(&facts, format!("{without}[data.texts]\npath = \"{path}\"\nresidency = [\"LU\"]\n")).unwrap();
        for (site, allowed) in [("bissen", true), ("bologna", false)] {
            let custody = Custody::open(settings(&set, site), folder.path(), None).unwrap();
            let (run, mut lineage) = ("checkpoint:run".parse::<Name>().unwrap(), Lineage::default());
            let used = custody.uses(&mut lineage, Kind::Data, &folder.path().join("texts/a.jsonl"), BareDigest::of(b"{}\n"));
            lineage.makes(&run, [used]);
            let answer = custody.ask(Question::new(Action::Train, run.clone(), lineage.clone()));
            assert_eq!(answer.is_ok(), allowed, "{path} {site}: {answer:?}");
            // What travels has no paths.
            let text = serde_json::to_string(&custody.remembered(&lineage)).unwrap();
            let mut elsewhere: Lineage = serde_json::from_str(&text).unwrap();
            elsewhere.verified = elsewhere.recorded.keys().cloned().collect();
            let answer = custody.ask(Question::new(Action::Export, run, elsewhere));
            assert_eq!(answer.is_ok(), allowed, "{path} {site} elsewhere: {answer:?}");
        }
    }
}

#[test]
fn digests_of_the_ledger_and_of_manifests_are_the_same_bytes() {
    assert_eq!(Digest::from(BareDigest::of(b"x")), Digest::of(b"x"));
}

#[test]
fn one_place_has_the_labels_of_everybody_who_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (set, data) = (at_home(folder.path()), letters(folder.path()));
    let own = folder.path().join("own.toml");
    let link = folder.path().join("link.jsonl");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    // The set writes the place from here, a user writes it whole, through a link, or with a detour; the labels that are milder change nothing.
    let detour = folder.path().join("rules/../letters.jsonl");
    for path in [&data, &link, &detour] {
        std::fs::write(&own, format!("[data.mild]\npath = \"{}\"\nresidency = \"anywhere\"\n", path.display())).unwrap();
        for typed in [&data, &link] {
            let settings = Settings { facts: vec![own.clone()], ..settings(&set, "bologna") };
            let custody = Custody::open(settings, folder.path(), None).unwrap();
            let mut lineage = Lineage::default();
            let name = custody.uses(&mut lineage, Kind::Data, typed, BareDigest::of(b"{}\n"));
            let refused = custody.ask(Question::new(Action::Prepare, name, lineage)).unwrap_err().to_string();
            assert!(refused.contains("residency"), "{}: {refused}", path.display());
        }
    }
}

#[test]
fn the_same_bytes_in_two_places_have_the_labels_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let (set, data) = (at_home(folder.path()), letters(folder.path()));
    let (own, copy) = (folder.path().join("own.toml"), folder.path().join("copy.jsonl"));
    std::fs::copy(&data, &copy).unwrap();
    let digest = BareDigest::of(&std::fs::read(&data).unwrap());
    std::fs::write(&own, format!("[data.mild]\nsha256 = \"{digest}\"\nresidency = \"anywhere\"\n")).unwrap();
    let settings = Settings { facts: vec![own], ..settings(&set, "bologna") };
    let custody = Custody::open(settings, folder.path(), None).unwrap();
    let mut lineage = Lineage::default();
    let used = [&data, &copy].map(|path| custody.uses(&mut lineage, Kind::Data, path, digest));
    let made = Name::new(Kind::Checkpoint, "run");
    lineage.makes(&made, used);
    let refused = custody.ask(Question::new(Action::Train, made, lineage)).unwrap_err().to_string();
    assert!(refused.contains("residency"), "{refused}");
}

//! From one site to another in one file: packed where it may be sent, opened where it may come in, refused elsewhere.
use std::path::Path;

use serde_json::{Map, Value};
use sirocco_config::RunFile;
use sirocco_custody::artefact::{self, Making};
use sirocco_custody::{Account, Book, Custody, Deed, Keys, Lineage, Question, RUN_STARTED, Settings, Statement, settled};
use sirocco_files::BareDigest;
use sirocco_ledger::time::Time;
use sirocco_ledger::{Author, Digest};
use sirocco_policy::{Action, Kind, Name};
use sirocco_signing::provenance::Build;
use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};
use crate::json::documented;

/// What the one who packs knows of what is packed.
const OWN: &str = "\
[data.letters]
path = \"train.jsonl\"
residency = [\"LU\"]
classification = \"restricted\"

[data.held-out]
path = \"valid.jsonl\"
residency = [\"LU\", \"FR\"]

[model.base]
path = \"model\"
residency = \"anywhere\"
licence = \"MIT\"
";

/// Nothing may be where the labels do not allow it. The set describes places and nothing else.
const RULES: &str = "@id(\"everybody\")\npermit(principal, action, resource);\n\n@id(\"residency\")\n@advice(\"Use a site in a country \
                     that the residency names.\")\nforbid(principal, action, resource)\nunless { resource.residency.anywhere || \
                     resource.residency.countries.contains(context.site.country) };\n";
const PLACES: &str = "[site.local]\ncountry = \"LU\"\n\n[site.leonardo]\ncountry = \"IT\"\n";

/// A place with data, a model, and what its account says of them.
fn sender() -> Bench {
    let bench = Bench::with_trainer("ready; for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    bench.write("mine.toml", OWN);
    bench
}

/// Another place, with rules, that trusts the first one's key for what comes from elsewhere.
fn receiver(sender: &Bench) -> Bench {
    let bench = Bench::new();
    workplace(&bench.path(""));
    bench.write("rules/policy.cedar", RULES);
    bench.write("rules/facts.toml", PLACES);
    std::fs::create_dir(bench.path("trust")).unwrap();
    std::fs::copy(sender.path("config/sirocco/keys/release.pub"), bench.path("trust/ministry.pub")).unwrap();
    bench.write("trust/roles.json", "{\"ministry\": [\"import\"]}");
    bench
}

fn packed(bench: &Bench) -> Finished {
    bench.run(&["bundle", "pack", "train.jsonl", "valid.jsonl", "model", "--to", "out.tar", "--facts", "mine.toml"])
}

/// The bundle, carried over.
fn carried() -> (Bench, Bench) {
    let sender = sender();
    let finished = packed(&sender);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let receiver = receiver(&sender);
    std::fs::copy(sender.path("out.tar"), receiver.path("out.tar")).unwrap();
    (sender, receiver)
}

fn opened(bench: &Bench, site: &str) -> Finished {
    bench.run(&["bundle", "open", "out.tar", "--to", "in", "--trust", "trust", "--policy", "rules", "--site", site])
}

/// Everything that stands in a ledger, as text: enough to look for a word.
fn said(ledger: &Path) -> String {
    let (mut text, mut open) = (String::new(), vec![ledger.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    text
}

fn account(bench: &Bench) -> String {
    said(&bench.path("state/sirocco/ledger"))
}

/// Names of what lies in a bench.
fn names(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn expect(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    for word in words.iter().chain(&["error: ", "help: "]) {
        assert!(finished.err.contains(word), "{word}: {finished:?}");
    }
}

#[test]
fn data_and_a_model_travel_and_are_used_under_the_same_labels() {
    let (sender, receiver) = carried();
    for word in ["policy.sendout", "artefact.sent", "data:letters", "model:base", "bundle:out.tar"] {
        assert!(account(&sender).contains(word), "{word}");
    }
    assert!(sender.path("state/sirocco/ledger/checkpoint").is_file(), "the account's ledger is sealed");
    let before = names(&receiver);
    let checked = receiver.run(&["bundle", "check", "out.tar", "--trust", "trust"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for word in
        ["whole, signed by ministry", "data:letters: parts/train.jsonl, 1 file", "residency: LU; classification: restricted"]
    {
        assert!(checked.out.contains(word), "{word}: {checked:?}");
    }
    assert!(names(&receiver) == before && !receiver.path("state").exists(), "nothing is written");
    let finished = opened(&receiver, "local");
    assert!(finished.code == Some(0) && finished.out.contains("name it in [policy] facts"), "{finished:?}");
    for word in ["policy.import", "data.imported", "model.imported", "bundle:out.tar", "person:"] {
        assert!(account(&receiver).contains(word), "{word}");
    }
    for (name, place) in [("train.jsonl", "train.jsonl"), ("model/model.safetensors", "model/model.safetensors")] {
        let [one, other] = [sender.path(name), receiver.path("in/parts").join(place)].map(|path| std::fs::read(path).unwrap());
        assert!(one == other, "{name}");
    }
    // A run there, with the labels that came along.
    let asked = |facts: &str, profile: &str| {
        let sets = [
            "policy.set=rules",
            "data.train=[\"in/parts/train.jsonl\"]",
            "data.valid=[\"in/parts/valid.jsonl\"]",
            "model.path=in/parts/model",
            "site.account=a",
            facts,
            profile,
        ];
        let words: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        receiver.run(&[&["policy", "check", "run.toml"], &words[..]].concat())
    };
    let (with, without) = ("policy.facts=[\"in/facts.toml\"]", "policy.facts=[]");
    let allowed = asked(with, "site.profile=local");
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    let elsewhere = asked(with, "site.profile=leonardo");
    assert!(elsewhere.code == Some(3) && format!("{elsewhere:?}").contains("residency"), "{elsewhere:?}");
    let unlabelled = asked(without, "site.profile=local");
    assert!(unlabelled.code == Some(3) && format!("{unlabelled:?}").contains("not known"), "{unlabelled:?}");
}

#[test]
fn what_may_not_come_in_leaves_nothing_but_an_entry() {
    let (_, receiver) = carried();
    let before = names(&receiver);
    let refused = opened(&receiver, "leonardo");
    expect(&refused, 3, &["import data:", "rule residency", "Use a site in a country"]);
    let after: Vec<String> = names(&receiver).into_iter().filter(|name| name != "state" && name != "config").collect();
    assert_eq!(after, before);
    let said = account(&receiver);
    assert!(said.contains("policy.import") && said.contains("\"allowed\":false") && !said.contains("imported"), "{said}");
    assert_eq!(opened(&receiver, "local").code, Some(0));
}

#[test]
fn a_bundle_that_is_not_what_was_signed_is_named_and_leaves_nothing() {
    let (sender, receiver) = carried();
    let good = std::fs::read(receiver.path("out.tar")).unwrap();
    let before = names(&receiver);
    for (at, name) in [(good.len() - 3000, "parts/valid.jsonl"), (700, "model.sig"), (good.len() - 1, "the end")] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(receiver.path("out.tar"), &bad).unwrap();
        expect(&receiver.run(&["bundle", "check", "out.tar", "--trust", "trust"]), 4, &[name]);
        expect(&opened(&receiver, "local"), 4, &[name]);
    }
    std::fs::write(receiver.path("out.tar"), &good[..good.len() / 2]).unwrap();
    expect(&opened(&receiver, "local"), 4, &["the end of the bundle"]);
    std::fs::write(receiver.path("out.tar"), "no tar").unwrap();
    expect(&opened(&receiver, "local"), 4, &["out.tar"]);
    std::fs::remove_file(receiver.path("out.tar")).unwrap();
    expect(&opened(&receiver, "local"), 4, &["out.tar"]);
    std::fs::write(receiver.path("out.tar"), &good).unwrap();
    // Whom nobody trusts here, or not for this.
    receiver.write("trust/roles.json", "{\"ministry\": [\"policy\"]}");
    expect(&opened(&receiver, "local"), 2, &["no key with the role", "--trust names a directory"]);
    receiver.write("trust/roles.json", "{\"ministry\": [\"import\"]}");
    let stranger = Keys::create(&receiver.path("stranger"), "tests").unwrap();
    std::fs::write(receiver.path("trust/ministry.pub"), stranger.public().pem()).unwrap();
    expect(&opened(&receiver, "local"), 4, &["model.sig", "--trust names a directory"]);
    std::fs::remove_dir_all(receiver.path("stranger")).unwrap();
    std::fs::copy(sender.path("config/sirocco/keys/release.pub"), receiver.path("trust/ministry.pub")).unwrap();
    assert_eq!(names(&receiver), before);
    // Places.
    expect(&receiver.run(&["bundle", "open", "out.tar", "--to", "no/where", "--trust", "trust"]), 2, &["no: "]);
    expect(&receiver.run(&["bundle", "open", "out.tar", "--to", "model", "--trust", "trust"]), 2, &["model: is there already"]);
    expect(&packed(&sender), 2, &["out.tar: is there already"]);
    expect(&sender.run(&["bundle", "pack", "nowhere", "--to", "b.tar"]), 4, &["nowhere"]);
    assert!(!sender.path("b.tar").exists());
}

/// Of luxembourg-public, with this account as a steward who also trains, and what is known of this place.
fn luxembourg(bench: &Bench) {
    assert_eq!(bench.run(&["policy", "init", "lux", "--from", "luxembourg-public"]).code, Some(0));
    let labels = |residency: &str, classification: &str| {
        format!(
            "residency = {residency}\nclassification = \"{classification}\"\nlicence = \"MIT\"\ncommercial_use = true\n\
             personal_data = \"none\"\npurposes = \"any\"\nexpires = \"never\"\n"
        )
    };
    let open = labels("\"anywhere\"", "public");
    let ours = format!(
        "[data.train]\npath = \"train.jsonl\"\n{open}\n[data.valid]\npath = \"valid.jsonl\"\n{open}\n[model.base]\npath = \"model\"\n{open}\n\
         [data.letters]\npath = \"letters.jsonl\"\n{}\n[site.local]\ncountry = \"LU\"\noperator_country = \"LU\"\naccredited = \"restricted\"\n\
         confinement = \"environment\"\n\n[person.\"{}\"]\nroles = [\"data-steward\", \"engineer\"]\nclearance = \"restricted\"\n\
         country = \"LU\"\n",
        labels("[\"LU\"]", "restricted"),
        Account::own(None).name
    );
    bench.write("lux/ours.toml", &ours);
    bench.write("letters.jsonl", "{}\n");
}

/// The entry with which the ranks of the run begin.
fn began(bench: &Bench) {
    let run = RunFile::read(&bench.path("runs/tiny/run.toml")).unwrap().check(&bench.path("")).unwrap();
    let author = Author { identity: "person:amal".to_owned(), host: "node".to_owned(), binary: Digest::of(b"") };
    let book = Book::open(&bench.path("runs/tiny/ledger"), author).unwrap();
    book.write(Deed::new(RUN_STARTED).fact(settled::SETTLED, settled::policy(&run))).unwrap();
    book.sync().unwrap();
}

/// An adapter of the run `tiny`, made from letters that stay in Luxembourg, signed by the account.
fn adapter(bench: &Bench) {
    let settings = Settings {
        set: bench.path("lux").display().to_string(),
        facts: Vec::new(),
        purpose: None,
        site: "local".to_owned(),
        account: None,
    };
    let custody = Custody::open(settings, &bench.path(""), None).unwrap();
    let keys = Keys::read_or_create(&bench.path("config/sirocco/keys"), "tests").unwrap().0;
    bench.write("adapter/adapter_config.json", "{}");
    let (made, mut lineage): (Name, _) = ("adapter:tiny".parse().unwrap(), Lineage::default());
    let letters = custody.uses(&mut lineage, Kind::Data, &bench.path("letters.jsonl"), BareDigest::of(b"{}\n"));
    let base = custody.uses(&mut lineage, Kind::Model, &bench.path("model"), BareDigest::of(b"base"));
    lineage.makes(&made, [letters, base]);
    let now = Time::from_millis(1_800_000_000_000);
    let statement = Statement {
        build: Build::FineTune,
        run: "tiny".to_owned(),
        when: (now, now),
        parameters: Map::new(),
        settled: Map::new(),
        configuration: BareDigest::of(b"run.toml"),
        lineage: &lineage,
        made: &made,
    };
    let facts = statement.facts(&custody).unwrap();
    let question = Question::new(Action::Export, made.clone(), lineage.clone());
    let labels = custody.gate().ask(&custody.request(question)).labels;
    let lineage = custody.remembered(&lineage);
    let making = Making { artefact: &made, lineage: &lineage, labels: &labels, run: ("tiny", 10), known: &[], facts: &facts };
    artefact::publish(&bench.path("adapter"), &making, &keys.release).unwrap();
}

#[test]
fn luxembourg_sends_nothing_to_those_who_may_not_have_it() {
    let bench = sender();
    luxembourg(&bench);
    let pack = |recipients: &[&str]| {
        let own = ["bundle", "pack", "letters.jsonl", "--to", "out.tar", "--policy", "lux", "--purpose", "public-administration"];
        bench.run(&[&own[..], recipients].concat())
    };
    expect(
        &pack(&["--recipient", "partner-abroad"]),
        3,
        &["sendOut data:letters", "rule recipients-in-residency", "Every recipient"],
    );
    expect(&pack(&["--recipient", "newspaper"]), 3, &["rule recipients-cleared"]);
    expect(&pack(&[]), 3, &["not known: countries of the recipients"]);
    expect(&pack(&["--recipient", "sister-ministry"]), 3, &["no rule permits it"]);
    assert!(!bench.path("out.tar").exists());
    let said = account(&bench);
    assert!(said.contains("policy.sendout") && !said.contains("artefact.sent"), "{said}");
}

#[test]
fn what_a_run_made_is_sent_with_its_approvals_and_stands_in_its_ledger() {
    let bench = sender();
    luxembourg(&bench);
    assert_eq!(bench.run(&["keys", "new", "officer"]).code, Some(0));
    adapter(&bench);
    std::fs::create_dir(bench.path("trust")).unwrap();
    std::fs::copy(bench.path("officer/release.pub"), bench.path("trust/officer.pub")).unwrap();
    std::fs::copy(bench.path("config/sirocco/keys/release.pub"), bench.path("trust/site.pub")).unwrap();
    bench.write("trust/roles.json", "{\"officer\": [\"approve\"], \"site\": [\"checkpoint\", \"release\"]}");
    let policy = "[policy]\nset = \"lux\"\npurpose = \"public-administration\"\ntrust = \"trust\"\n";
    bench.write("run.toml", &format!("{}\n{policy}", bench.read("run.toml")));
    let trained = bench.run(&["train", "run.toml"]);
    assert_eq!(trained.code, Some(0), "{trained:?}");
    let pack = |recipient: &str| {
        bench.run(&["bundle", "pack", "adapter", "--to", "out.tar", "--run", "runs/tiny", "--recipient", recipient])
    };
    expect(&pack("sister-ministry"), 3, &["sendOut adapter:tiny", "no rule permits it"]);
    let approve = ["policy", "approve", "runs/tiny", "--action", "sendOut", "--as", "officer", "--key", "officer/release.key"];
    let approved = bench.run(&approve);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    expect(&pack("partner-abroad"), 3, &["rule recipients-in-residency"]);
    began(&bench);
    let run_file = bench.read("runs/tiny/run.toml");
    let set = format!("set = {:?}", bench.path("lux").display().to_string());
    bench.write("runs/tiny/run.toml", &run_file.replace(&set, "set = \"configs/policies/open\""));
    expect(
        &pack("partner-abroad"),
        4,
        &["[policy] set = \"configs/policies/open\"", "what the run began with", "help: put it back"],
    );
    bench.write("runs/tiny/run.toml", &run_file);
    let sent = pack("sister-ministry");
    assert!(sent.code == Some(0) && sent.out.contains("recipients     sister-ministry"), "{sent:?}");
    let ledger = said(&bench.path("runs/tiny/ledger"));
    for word in ["policy.sendout", "artefact.sent", "adapter:tiny", "person:officer", "sister-ministry"] {
        assert!(ledger.contains(word), "{word}: {ledger}");
    }
    assert!(bench.path("runs/tiny/ledger/checkpoint").is_file(), "it is sealed");
    assert!(!account(&bench).contains("sent"), "what a run did stands in its own ledger");
    let both = bench.run(&["bundle", "pack", "adapter", "--to", "b.tar", "--run", "runs/tiny", "--policy", "lux"]);
    assert_eq!(both.code, Some(2), "{both:?}");
    // The adapter is as believable there as here, and keeps its own record.
    let receiver = receiver(&bench);
    std::fs::copy(bench.path("out.tar"), receiver.path("out.tar")).unwrap();
    expect(&opened(&receiver, "leonardo"), 3, &["import adapter:", "rule residency"]);
    let open = opened(&receiver, "local");
    assert!(open.code == Some(0) && open.out.contains("in origin.json of each part"), "{open:?}");
    assert!(open.out.contains("adapter:tiny: parts/adapter, 4 files") && open.out.contains("signed by ministry"), "{open:?}");
    assert!(!receiver.path("in/facts.toml").exists() && account(&receiver).contains("adapter.imported"));
}

#[test]
fn every_field_is_documented_and_nobody_has_to_listen() {
    let (sender, receiver) = carried();
    let trust = ["--trust", "trust"];
    let commands: [(&str, &Bench, Vec<&str>); 3] = [
        ("bundle pack", &sender, vec!["bundle", "pack", "train.jsonl", "--to", "again.tar", "--json"]),
        ("bundle check", &receiver, [&["bundle", "check", "out.tar", "--json"], &trust[..]].concat()),
        ("bundle open", &receiver, [&["bundle", "open", "out.tar", "--to", "json", "--json"], &trust[..]].concat()),
    ];
    for (command, bench, arguments) in commands {
        let object = bench.run(&arguments).json();
        let part = object["parts"][0].as_object().unwrap();
        let fields: Vec<&String> = object.as_object().unwrap().keys().chain(part.keys()).collect();
        assert!(fields.len() > 12, "{object}");
        for field in fields {
            assert!(documented(command).contains(&field.as_str()), "{command}: `{field}` is not in json.md: {object}");
        }
    }
    let none = receiver.run(&["bundle", "check", "nowhere.tar", "--json", "--trust", "trust"]);
    assert_eq!(none.json()["error"]["kind"], Value::from("input"), "{none:?}");
    // Standard input closed, as under some batch systems.
    let script = "exec bin/sirocco bundle open out.tar --to closed --trust trust <&-";
    let mut closed = std::process::Command::new("sh");
    closed.args(["-c", script]).current_dir(receiver.path("")).env("XDG_CONFIG_HOME", receiver.path("config"));
    let closed = closed.env("XDG_STATE_HOME", receiver.path("state")).output().unwrap();
    assert!(closed.status.success() && receiver.path("closed/bundle.json").is_file(), "{closed:?}");
}

//! A run with a ledger, verified, shown, proven, and handed on as a bundle. The ledger is written by the library, the run is of a shell.
use std::path::Path;

use serde_json::Value;
use sirocco_custody::{Book, Custody, Deed, Keys, Lineage, Question, Settings};
use sirocco_policy::{Action, Kind, Name, verb};
use sirocco_tests::material::workplace;

use crate::bench::Bench;
use crate::json::documented;

/// A run `runs/tiny` whose ledger says that it was allowed, began, and ended; its keys lie in `keys`.
fn bench() -> Bench {
    let bench = Bench::with_trainer("ready; for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    bench.write("run.toml", &format!("{}\n[policy]\nkeys = \"keys\"\n", bench.read("run.toml")));
    let keys = Keys::read_or_create(&bench.path("keys"), "tests").unwrap().0;
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(0));
    // What the run itself wrote down is looked at elsewhere: here the entries are known one by one.
    let ledger = bench.path("runs/tiny/ledger");
    if ledger.exists() {
        std::fs::remove_dir_all(&ledger).unwrap();
    }
    record(&ledger, &bench.path(""), &keys);
    bench
}

fn record(ledger: &Path, base: &Path, keys: &Keys) {
    let settings = Settings {
        set: "configs/policies/open".to_owned(),
        facts: Vec::new(),
        purpose: None,
        site: "local".to_owned(),
        account: None,
    };
    let custody = Custody::open(settings, base, None).unwrap();
    let book = Book::open(ledger, custody.author().unwrap()).unwrap();
    let made: Name = "checkpoint:tiny".parse().unwrap();
    let mut lineage = Lineage::default();
    lineage.makes(&made, [Name::new(Kind::Data, "letters"), Name::new(Kind::Model, "base")]);
    let _ = custody.admit::<verb::Train, _>(Question::new(Action::Train, made.clone(), lineage), made, &book).unwrap();
    book.write(Deed::new("run.started")).unwrap();
    book.seal(&keys.ledger, "sirocco/tiny/0123456789abcdef").unwrap();
    book.write(Deed::new("run.ended")).unwrap();
    book.sync().unwrap();
}

#[test]
fn a_ledger_is_verified_shown_and_proven() {
    let bench = bench();
    let verified = bench.run(&["ledger", "verify", "runs/tiny"]);
    assert!(verified.code == Some(0) && verified.out.contains("2 entries, whole and signed"), "{verified:?}");
    let shown = bench.run(&["ledger", "show", "runs/tiny"]).out;
    assert!(shown.contains("policy.train allowed  checkpoint:tiny (rule unrestricted)"), "{shown}");
    assert!(shown.contains("run.ended") && shown.contains("not sealed yet"), "{shown}");
    let of = bench.run(&["ledger", "show", "runs/tiny", "--of", "checkpoint:tiny"]).out;
    assert_eq!(of, "checkpoint:tiny\n  data:letters\n  model:base\n");
    assert_eq!(bench.run(&["ledger", "show", "runs/tiny", "--data", "letters"]).out, "data:letters\n  checkpoint:tiny\n");
    let nobody = bench.run(&["ledger", "show", "runs/tiny", "--of", "adapter:x"]);
    assert!(nobody.code == Some(2) && nobody.err.contains("help: it names checkpoint:tiny"), "{nobody:?}");
    assert_eq!(bench.run(&["ledger", "prove", "runs/tiny", "--entry", "1", "--to", "one.tlog-proof"]).code, Some(0));
    assert!(bench.read("one.tlog-proof").starts_with("c2sp.org/tlog-proof@v1\n"));
    assert_eq!(
        bench.run(&["ledger", "prove", "runs/tiny", "--entry", "1", "--to", "one.tlog-proof"]).code,
        Some(2),
        "nothing is replaced"
    );
    assert_eq!(
        bench.run(&["ledger", "prove", "runs/tiny", "--entry", "2", "--to", "two.tlog-proof"]).code,
        Some(2),
        "not sealed yet"
    );
    assert_eq!(bench.run(&["ledger", "verify", "model"]).code, Some(2), "no ledger");
}

#[test]
fn a_ledger_that_was_changed_or_cut_is_told() {
    let bench = bench();
    std::fs::copy(bench.path("runs/tiny/ledger/checkpoint"), bench.path("seen")).unwrap();
    assert_eq!(bench.run(&["ledger", "verify", "runs/tiny", "--earlier", "seen"]).code, Some(0));
    let stranger = Keys::create(&bench.path("stranger"), "tests").unwrap();
    assert_eq!(stranger.path(), bench.path("stranger"));
    let other = bench.run(&["ledger", "verify", "runs/tiny", "--trust", "stranger"]);
    assert!(other.code == Some(4) && other.err.contains("not trusted"), "{other:?}");
    let tile = bench.path("runs/tiny/ledger/tile/entries/000.p/2");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    let found = bench.run(&["ledger", "verify", "runs/tiny", "--json"]);
    assert_eq!(found.code, Some(4));
    assert!(found.json()["error"]["message"].as_str().unwrap().contains("tile/entries/000.p/2"), "{found:?}");
}

#[test]
fn a_bundle_is_written_and_holds() {
    let bench = bench();
    for to in ["bundle", "bundle.tar"] {
        let made = bench.run(&["evidence", "runs/tiny", "--to", to]);
        assert!(made.code == Some(0) && made.out.contains("decisions      ok: 1 decisions"), "{made:?}");
        let files = sirocco_evidence::Files::read(&bench.path(to)).unwrap();
        let trusted = sirocco_evidence::Trusted::read(&bench.path("keys")).unwrap();
        let demand = sirocco_evidence::Demand { trusted: &trusted, earlier: Vec::new(), artefacts: Vec::new() };
        assert!(sirocco_evidence::verify(&files, &demand).ok);
        assert!(std::str::from_utf8(files.get("index.html").unwrap()).unwrap().contains("Evidence of tiny"));
    }
    let again = bench.run(&["evidence", "runs/tiny", "--to", "bundle"]);
    assert!(again.code == Some(2) && again.err.contains("is there already"), "{again:?}");
    let unsigned = bench.run(&["evidence", "runs/tiny", "--to", "more", "--export", "model"]);
    assert!(unsigned.code == Some(4) && unsigned.err.contains("no model.sig"), "{unsigned:?}");
}

#[test]
fn every_field_is_documented() {
    let bench = bench();
    let commands: &[(&str, &[&str])] = &[
        ("ledger verify", &["ledger", "verify", "runs/tiny", "--json"]),
        ("ledger show", &["ledger", "show", "runs/tiny", "--of", "checkpoint:tiny", "--json"]),
        ("ledger prove", &["ledger", "prove", "runs/tiny", "--entry", "0", "--to", "p", "--json"]),
        ("evidence", &["evidence", "runs/tiny", "--to", "bundle", "--json"]),
    ];
    for (command, arguments) in commands {
        let object = bench.run(arguments).json();
        let inner = ["of", "checks"].iter().filter_map(|name| object.get(name)).map(|value| value.get(0).unwrap_or(value));
        let named: Vec<&String> = inner.chain([&object]).filter_map(Value::as_object).flat_map(|object| object.keys()).collect();
        for field in named {
            assert!(documented(command).contains(&field.as_str()), "{command}: `{field}` is not in json.md: {object}");
        }
    }
}

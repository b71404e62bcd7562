//! Changes by somebody who has the key of bundles and signs again: each is found by the one check that stands for it, and by no accident.

mod support;

use sirocco_custody::approvals::{About, Approval};
use sirocco_custody::{Book, Deed, Keys};
use sirocco_evidence::{Demand, Gathered, Trusted, verify};
use sirocco_ledger::Fact;
use sirocco_ledger::disk::Directory;
use sirocco_ledger::tlog_proof::checkpoint;
use sirocco_policy::{Action, verb};
use sirocco_signing::keys::PrivateKey;
use support::{REPORT, RUN_ID, Run, check, copy, failed, findings, written};

/// Changes files, signs them, and says which checks fail.
fn after(run: &Run, change: impl FnOnce(&mut Gathered)) -> (Vec<&'static str>, Vec<String>) {
    let mut gathered = run.all();
    change(&mut gathered);
    let report = check(&written(run, &gathered), &run.trusted());
    (failed(&report), findings(&report))
}

fn replace(gathered: &mut Gathered, file: &str, from: &str, to: &str) {
    let text = String::from_utf8(gathered.files[file].clone()).expect("UTF-8");
    assert!(text.contains(from), "{file}: {text}");
    gathered.files.insert(file.to_owned(), text.replacen(from, to, 1).into_bytes());
}

#[test]
fn a_page_is_for_people_and_may_say_anything() {
    let run = Run::whole();
    assert!(after(&run, |bundle| bundle.add("index.html", b"all is well".to_vec())).0.is_empty());
}

/// What the check of signers says of a run, for a reader who believes `key` as that of `name` for `role` beside those of the run.
fn of_signers(run: &Run, (name, key, role): (&str, &PrivateKey, &str)) -> Vec<String> {
    let trust = run.path("trust");
    if !trust.exists() {
        copy(run.keys.path(), &trust);
    }
    std::fs::write(trust.join(format!("{name}.pub")), key.public().pem()).expect("a key");
    let roles = format!("{{\"release\": [\"checkpoint\", \"release\"], \"{name}\": [\"{role}\"]}}");
    std::fs::write(trust.join("roles.json"), roles).expect("the roles");
    let report = check(&written(run, &run.all()), &Trusted::read(&trust).expect("the keys"));
    assert!(failed(&report).iter().all(|check| *check == "signers"), "{:#?}", findings(&report));
    findings(&report)
}

#[test]
fn what_was_refused_at_another_site_is_no_finding() {
    let run = Run::whole();
    run.refused_at("abroad");
    run.seal();
    let (checks, lines) = after(&run, |_| {});
    assert!(checks.is_empty(), "{lines:#?}");
}

#[test]
fn an_approval_that_nobody_signed_is_a_finding() {
    let run = Run::new();
    run.begins();
    assert!(run.ask_approved::<verb::Export>(Action::Export, "adapter:demo", &["amal"]));
    run.publishes("artefact.exported", "adapter:demo", "demo-adapter");
    run.seal();
    let (amal, other) = (PrivateKey::generate().expect("a key"), PrivateKey::generate().expect("a key"));
    let of = |role| of_signers(&run, ("amal", &amal, role));
    assert!(of("approve")[0].contains("names the approval of person:amal"), "{:#?}", of("approve"));
    let today = sirocco_custody::today();
    let approves = |artefact: &str, id: &str, (from, until), key: &PrivateKey| {
        let artefact = artefact.parse().expect("a name");
        let about = About { action: Action::Export, artefact: &artefact, run: id, day: from };
        Approval::new(&about, "amal", until).write(run.folder.path(), key).expect("an approval");
        of("approve")
    };
    let (yesterday, id) = (today.before().expect("a day"), RUN_ID);
    for (artefact, id, days, key) in [
        ("merged:demo", id, (today, today), &amal),
        ("adapter:demo", "other@settings@tokens", (today, today), &amal),
        ("adapter:demo", "demo@others@tokens", (today, today), &amal),
        ("adapter:demo", "demo@settings@others", (today, today), &amal),
        ("adapter:demo", id, (yesterday, yesterday), &amal),
        ("adapter:demo", id, (today, today), &other),
    ] {
        assert_eq!(approves(artefact, id, days, key).len(), 1, "{artefact} {id}");
    }
    assert_eq!(approves("adapter:demo", id, (today, today), &amal), Vec::<String>::new());
    assert!(of("release")[0].contains("names the approval of person:amal"), "a key without that role: {:#?}", of("release"));
}

#[test]
fn rules_that_were_signed_are_shown_with_their_signature() {
    let (office, other) = (PrivateKey::generate().expect("a key"), PrivateKey::generate().expect("a key"));
    let run = Run::under(Some(&office));
    run.begins();
    run.ends();
    assert_eq!(of_signers(&run, ("office", &office, "policy")), Vec::<String>::new());
    let mut without = run.all();
    without.files.retain(|name, _| !name.contains("/signed/"));
    let report = check(&written(&run, &without), &Trusted::read(&run.path("trust")).expect("the keys"));
    assert_eq!(failed(&report), ["signers"], "{:#?}", findings(&report));
    for said in [of_signers(&run, ("office", &other, "policy")), of_signers(&run, ("office", &office, "approve"))] {
        assert!(said[0].contains("was made by rules that office "), "{said:#?}");
    }
}

#[test]
fn other_rules_and_facts_are_not_those_that_decided() {
    let run = Run::whole();
    let rows = [
        ("policy/1/set/policy.cedar", "@id(\"stays\")", "@id(\"goes\")"),
        ("policy/1/set/facts.toml", "LU", "FR"),
        ("policy/1/own/000-mine.toml", "letters", "lettres"),
        ("policy/1/schema.cedarschema", "action", "action "),
    ];
    for (file, from, to) in rows {
        let (checks, lines) = after(&run, |bundle| replace(bundle, file, from, to));
        assert_eq!(checks, ["decisions"], "{file}: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains("policy/1: has texts by which nothing was decided")), "{lines:#?}");
    }
}

#[test]
fn what_is_derived_from_the_ledger_cannot_differ_from_it() {
    let run = Run::whole();
    let (checks, lines) = after(&run, |bundle| replace(bundle, "decisions/00000000.json", "true", "false"));
    assert_eq!((checks, lines[0].contains("decisions/00000000.json")), (vec!["record"], true), "{lines:#?}");
    let node = run.all().record.nodes[0].file.clone();
    let (checks, lines) = after(&run, |bundle| replace(bundle, &node, "landlock", "hosts"));
    assert_eq!((checks, lines[0].contains(&node)), (vec!["record"], true), "{lines:#?}");
    for (from, to) in [
        ("\"allowed\": true", "\"allowed\": false"),
        ("\"entries\": 8", "\"entries\": 7"),
        ("\"run\": \"demo\"", "\"run\": \"other\""),
    ] {
        let (checks, lines) = after(&run, |bundle| replace(bundle, "evidence.json", from, to));
        assert_eq!(checks, ["record"], "{from}: {lines:#?}");
    }
    let (checks, _) = after(&run, |bundle| bundle.add("decisions/00000077.json", b"{}".to_vec()));
    assert_eq!(checks, ["record"]);
    let (checks, lines) = after(&run, |bundle| replace(bundle, "evidence.json", "\"site\": \"local\"", "\"site\": \"there\""));
    assert_eq!(checks, ["decisions"], "{lines:#?}");
}

#[test]
fn a_proof_of_something_else_is_none() {
    let run = Run::whole();
    let names: Vec<String> = run.all().files.keys().filter(|name| name.starts_with("proofs/")).cloned().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let (checks, lines) = after(&run, |bundle| {
        let other = bundle.files[&names[1]].clone();
        bundle.files.insert(names[0].clone(), other);
    });
    assert_eq!((checks, lines[0].contains(&names[0])), (vec!["proofs"], true), "{lines:#?}");
    assert_eq!(after(&run, |bundle| drop(bundle.files.remove(&names[2]))).0, ["proofs"]);
    assert_eq!(after(&run, |bundle| replace(bundle, &names[0], "index 0", "index 1")).0, ["proofs"]);
}

#[test]
fn a_ledger_by_another_key_is_not_the_sites() {
    let (run, other) = (Run::whole(), tempfile::tempdir().unwrap());
    let forger = Keys::create(&other.path().join("keys"), "tests").unwrap();
    let fork = other.path().join("ledger");
    let book = Book::open(&fork, run.custody.author().unwrap()).unwrap();
    book.write(Deed::new("run.ended")).unwrap();
    book.seal(&forger.ledger, "sirocco/demo/0123456789abcdef").unwrap();
    copy(&fork, &run.path("fork"));
    std::fs::rename(run.path("ledger"), run.path("ledger.old")).unwrap();
    std::fs::rename(run.path("fork"), run.path("ledger")).unwrap();
    let report = check(&written(&run, &run.gather(&[])), &run.trusted());
    assert!(failed(&report).contains(&"ledger"), "{:#?}", findings(&report));
    assert!(findings(&report).iter().any(|line| line.starts_with("ledger ledger/checkpoint")), "{:#?}", findings(&report));
}

#[test]
fn an_older_bundle_is_as_good_as_new_but_for_those_who_remember() {
    let run = Run::new();
    run.begins();
    let old = written(&run, &run.gather(&["checkpoints/step-00000004"]));
    let first = checkpoint(&Directory::new(run.path("ledger"))).unwrap();
    run.ends();
    let seen = checkpoint(&Directory::new(run.path("ledger"))).unwrap();
    let trusted = run.trusted();
    let with = |earlier| Demand { trusted: &trusted, earlier: vec![earlier], artefacts: Vec::new() };
    assert!(check(&old, &trusted).ok, "{:#?}", findings(&check(&old, &trusted)));
    let report = verify(&old, &with(seen.clone()));
    assert_eq!(failed(&report), ["ledger"], "{:#?}", findings(&report));
    assert!(findings(&report)[0].contains("entries are gone"), "{:#?}", findings(&report));
    let new = written(&run, &run.all());
    assert!(verify(&new, &with(first)).ok && verify(&new, &with(seen.clone())).ok);
    let mut forged = seen;
    forged.checkpoint.size += 1;
    forged.note.text = forged.checkpoint.to_text();
    assert_eq!(failed(&verify(&new, &with(forged))), ["ledger"], "a checkpoint that nobody signed is told, not believed");
}

#[test]
fn signatures_are_of_what_the_ledger_names() {
    let run = Run::whole();
    let other = Run::whole();
    std::fs::write(other.path("demo-adapter/weights.safetensors"), "other").unwrap();
    let folder = "signatures/demo-adapter/";
    for name in ["origin.json", "provenance.intoto.jsonl", "model.sig"] {
        let (checks, lines) = after(&run, |bundle| {
            let bytes = other.all().files[&format!("{folder}{name}")].clone();
            bundle.files.insert(format!("{folder}{name}"), bytes);
        });
        // Made alike, the record of the other run is the same text.
        if name != "origin.json" {
            assert_eq!((checks, lines[0].contains(name)), (vec!["artefacts"], true), "{name}: {lines:#?}");
        }
        assert_eq!(after(&run, |bundle| drop(bundle.files.remove(&format!("{folder}{name}")))).0, ["artefacts"], "{name}");
    }
    let (checks, _) = after(&run, |bundle| replace(bundle, &format!("{folder}origin.json"), "adapter:demo", "adapter:more"));
    assert_eq!(checks, ["artefacts"]);
    run.publishes("checkpoint.described", "adapter:more", "unrecorded");
    run.seal();
    let report = check(&written(&run, &run.gather(&["unrecorded"])), &run.trusted());
    assert_eq!(failed(&report), ["artefacts"], "{:#?}", findings(&report));
    assert!(findings(&report)[0].contains("no entry of the ledger published adapter:more"));
}

/// A run in which all is as it should be but for one thing that the ledger itself records.
fn recorded(deeds: impl FnOnce(&Run)) -> (Vec<&'static str>, Vec<String>) {
    let run = Run::new();
    deeds(&run);
    run.seal();
    let report = check(&written(&run, &run.gather(&[])), &run.trusted());
    (failed(&report), findings(&report))
}

fn confined(report: &str) -> Deed {
    Deed::new("node.confined").fact("report", Fact::Text(report.to_owned()))
}

#[test]
fn what_got_through_and_what_was_not_measured_is_told() {
    let begin = |run: &Run, deed: Option<Deed>| {
        assert!(run.ask::<verb::Train>(Action::Train, "checkpoint:demo"));
        deed.into_iter().for_each(|deed| run.did(deed));
        run.did(Deed::new("run.started"));
    };
    assert!(recorded(|run| begin(run, Some(confined(REPORT)))).0.is_empty());
    // A command beside the run, such as an export that was refused, says nothing of its ranks.
    let lower = REPORT.replace("landlock", "seccomp");
    let beside = recorded(|run| {
        run.did(confined(&lower));
        begin(run, Some(confined(REPORT)));
        run.did(confined(&lower));
    });
    assert!(beside.0.is_empty(), "{beside:#?}");
    let rows = [
        (REPORT.replace("false", "true"), "tcp: got through"),
        (REPORT.replace("landlock", "seccomp"), "level 1 was reached, but the decision rests on level 2"),
        (REPORT.replace(r#""applied":{"level":"landlock"}"#, r#""applied":null"#), "not said which level"),
        (REPORT.replace(r#"{"name":"tcp","got_through":false}"#, ""), "no attempt was made"),
        (REPORT.replace(r#""findings":[]"#, r#""findings":["x"]"#), "findings of its own"),
    ];
    for (report, expected) in rows {
        let (checks, lines) = recorded(|run| begin(run, Some(confined(&report))));
        assert_eq!((checks, lines[0].contains(expected)), (vec!["confinement"], true), "{expected}: {lines:#?}");
    }
    let (checks, lines) = recorded(|run| begin(run, None));
    assert_eq!((checks, lines[0].contains("was not measured")), (vec!["confinement"], true), "{lines:#?}");
    let (checks, lines) = recorded(|run| {
        run.did(confined(REPORT));
        assert!(run.ask::<verb::Train>(Action::Train, "checkpoint:demo"));
        let host = sirocco_custody::host().unwrap();
        run.did(Deed::new("run.started").fact("nodes", Fact::List(vec![host, "node-2".to_owned()])));
    });
    assert_eq!((checks, lines[0].contains("node-2")), (vec!["confinement"], true), "{lines:#?}");
}

#[test]
fn what_was_not_allowed_is_told() {
    let (checks, lines) = recorded(|run| run.did(Deed::new("run.started")));
    assert_eq!((checks, lines.len()), (vec!["decisions"], 2), "and the texts decided nothing: {lines:#?}");
    let (checks, lines) = recorded(|run| {
        assert!(run.ask::<verb::Export>(Action::Export, "adapter:demo"));
        run.did(Deed::new("artefact.exported").output("adapter:other", sirocco_files::Digest::of(b"")));
    });
    assert_eq!((checks, lines[0].contains("artefact.exported")), (vec!["decisions"], true), "{lines:#?}");
}

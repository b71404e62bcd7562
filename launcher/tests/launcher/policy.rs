//! What the policy refuses, at each gate of the launcher: the word, the rule, the exit code, and that nothing is left behind.

use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};

/// Data stays where its owner says. `unless` may be given another action, so that one gate alone refuses.
fn rules(actions: &str) -> String {
    format!(
        "@id(\"everybody\")\npermit(principal, action, resource);\n\n@id(\"residency\")\n@advice(\"Use a site in a country that the residency \
         names.\")\nforbid(principal, action in [{actions}], resource)\nunless {{ resource.residency.anywhere || \
         resource.residency.countries.contains(context.site.country) }};\n"
    )
}

pub(crate) const EVERY: &str =
    "Action::\"import\", Action::\"prepare\", Action::\"train\", Action::\"resume\", Action::\"export\"";

pub(crate) const FACTS: &str = "\
[data.letters]
path = \"train.jsonl\"
residency = [\"LU\"]

[data.held-out]
path = \"valid.jsonl\"
residency = [\"LU\"]

[model.base]
path = \"model\"
residency = \"anywhere\"

[site.local]
country = \"LU\"

[site.leonardo]
country = \"IT\"

[site.slurm]
country = \"LU\"
";

const CASES: &str = "\
[[case]]
name = \"at home\"
who = \"person:amal\"
action = \"prepare\"
artefact = \"data:letters\"
site = \"local\"
day = 2026-11-22
expect = \"allow\"
";

/// A workplace with a set in `rules/` whose rule `residency` is about `actions`.
pub(crate) fn bench(actions: &str) -> Bench {
    let bench = Bench::with_trainer("ready; for n in 1 2; do step $n 1.5; done; checkpoint 10");
    workplace(&bench.path(""));
    bench.write("rules/policy.cedar", &rules(actions));
    bench.write("rules/facts.toml", FACTS);
    bench.write("rules/cases.toml", CASES);
    bench
}

/// A command with the set, in Italy or at home.
pub(crate) fn asked(bench: &Bench, words: &[&str], profile: &str) -> Finished {
    let profile = format!("site.profile={profile}");
    let account: &[&str] = if profile.ends_with("leonardo") { &["--set", "site.account=a"] } else { &[] };
    bench.run(&[words, &["--set", "policy.set=rules", "--set", &profile], account].concat())
}

fn expect_refused(finished: &Finished) {
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.err.contains("rule residency"), "{finished:?}");
    assert!(finished.err.contains("help: Use a site in a country"), "{finished:?}");
    assert!(finished.err.contains("sirocco policy explain RUN.toml"), "{finished:?}");
}

/// The account's ledger as text; empty where there is none.
fn account(bench: &Bench) -> String {
    let (mut text, mut open) = (String::new(), vec![bench.path("state/sirocco/ledger")]);
    while let Some(directory) = open.pop() {
        // What is sealed lies in tiles.
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
            }
        }
    }
    text
}

#[test]
fn check_refuses_a_plan_abroad() {
    let bench = bench("Action::\"train\"");
    expect_refused(&asked(&bench, &["check", "run.toml"], "leonardo"));
    expect_refused(&asked(&bench, &["policy", "check", "run.toml"], "leonardo"));
    assert_eq!(account(&bench), "", "who only asks is not recorded");
    let home = asked(&bench, &["check", "run.toml"], "local");
    assert!(home.code == Some(0) && home.out.contains("policy     train allowed by everybody (set BENCH/rules)"), "{home:?}");
    assert_eq!(asked(&bench, &["policy", "check", "run.toml"], "local").code, Some(0));
}

#[test]
fn check_refuses_data_that_may_not_be_prepared() {
    let bench = bench("Action::\"prepare\"");
    expect_refused(&asked(&bench, &["check", "run.toml"], "leonardo"));
    expect_refused(&asked(&bench, &["policy", "check", "run.toml"], "leonardo"));
}

#[test]
fn submit_refuses_also_a_dry_run() {
    let bench = bench("Action::\"train\"");
    let submit = |profile: &str| asked(&bench, &["submit", "run.toml", "--dry-run"], profile);
    expect_refused(&submit("leonardo"));
    assert_eq!(submit("slurm").code, Some(0), "{:?}", submit("slurm"));
    expect_refused(&asked(&bench, &["submit", "run.toml"], "leonardo"));
    assert!(!bench.path("runs").exists());
}

/// Where a file speaks of Luxembourg and the place called `local` is in Italy.
fn abroad(bench: &Bench) {
    bench.write("rules/facts.toml", &FACTS.replace("[site.local]\ncountry = \"LU\"", "[site.local]\ncountry = \"IT\""));
}

#[test]
fn train_refuses_before_anything_is_made_and_records_it() {
    for (actions, verb) in [("Action::\"train\"", "policy.train"), ("Action::\"prepare\"", "policy.prepare")] {
        let bench = bench(actions);
        abroad(&bench);
        let refused = asked(&bench, &["train", "run.toml"], "local");
        expect_refused(&refused);
        assert!(!bench.path("runs/tiny").exists(), "{actions}: a refused run leaves no directory");
        let account = account(&bench);
        assert!(account.contains(verb) && account.contains("residency"), "{account}");
    }
}

#[test]
fn train_at_home_records_what_was_decided_and_prepared() {
    let bench = bench(EVERY);
    let trained = asked(&bench, &["train", "run.toml"], "local");
    assert_eq!(trained.code, Some(0), "{trained:?}");
    let ledger = String::from_utf8_lossy(&std::fs::read(bench.path("runs/tiny/ledger/journal")).unwrap()).into_owned();
    for part in ["policy.prepare", "data.prepared", "data:letters", "data:held-out", "tokens/train.tokens"] {
        assert!(ledger.contains(part), "{part}: {ledger}");
    }
    assert_eq!(ledger.matches("[\"everybody\"]").count(), 2, "this set allowed both files: {ledger}");
    assert_eq!(account(&bench), "", "what a run did stands in its own ledger");
    for place in ["train.jsonl", "letters"] {
        let shown = bench.run(&["ledger", "show", "runs/tiny", "--data", place]);
        assert!(shown.code == Some(0) && shown.out.starts_with("data:letters  "), "{shown:?}");
    }
    let all = bench.run(&["ledger", "show", "runs/tiny", "--data", "."]);
    assert!(all.out.contains("  data:letters") && all.out.contains("  data:held-out"), "all that lies there: {all:?}");
    assert_eq!(bench.run(&["ledger", "show", "runs/tiny", "--data", "model"]).code, Some(2));
}

#[test]
fn resuming_is_asked_about_again() {
    let bench = bench("Action::\"resume\"");
    assert_eq!(asked(&bench, &["train", "run.toml", "--until", "2"], "local").code, Some(0));
    abroad(&bench);
    expect_refused(&bench.run(&["train", "runs/tiny", "--set", "train.steps=20"]));
    expect_refused(&bench.run(&["check", "runs/tiny"]));
    let shown = bench.run(&["ledger", "show", "runs/tiny"]);
    let refusals = shown.out.lines().filter(|line| line.contains("policy.resume") && line.contains("REFUSED")).count();
    assert_eq!(refusals, 1, "in the ledger of the run, but for who only asks: {shown:?}");
    assert_eq!(account(&bench), "");
}

#[test]
fn facts_that_are_missing_are_named() {
    let bench = bench(EVERY);
    bench.write("rules/facts.toml", &FACTS.replace("path = \"train.jsonl\"", "path = \"elsewhere.jsonl\""));
    let refused = asked(&bench, &["check", "run.toml"], "local");
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("not known: residency of data:BENCH/train.jsonl"), "{refused:?}");
    bench.write("mine.toml", "[data.mine]\npath = \"train.jsonl\"\nresidency = \"LU\"\n");
    let told = bench.run(&["check", "run.toml", "--set", "policy.set=rules", "--set", "policy.facts=[\"mine.toml\"]"]);
    assert_eq!(told.code, Some(0), "{told:?}");
}

#[test]
fn a_set_that_is_not_right_is_a_fault_of_the_configuration() {
    let bench = bench(EVERY);
    bench.write("rules/facts.toml", &FACTS.replace("residency = \"anywhere\"", "residency = 3"));
    let wrong = asked(&bench, &["check", "run.toml"], "local");
    assert!(wrong.code == Some(2) && wrong.err.contains("facts.toml:11"), "{wrong:?}");
    bench.write("rules/facts.toml", FACTS);
    bench.write("rules/policy.cedar", "permit(principal, action, resource)\n");
    let wrong = asked(&bench, &["policy", "test", "rules"], "local");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let wrong = bench.run(&["policy", "test", "rules"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("policy.cedar:"), "{wrong:?}");
}

#[test]
fn corpora_and_models_are_asked_about_before_they_are_read() {
    let bench = bench(EVERY);
    bench.write("spec.toml", SPEC);
    bench.write("LICENCE", "free");
    let rows = (0..40).map(|n| format!("question {n},answer {n}\n")).collect::<String>();
    bench.write("train.csv", &format!("english,darija\n{rows}"));
    let italy = FACTS.replace("[site.local]\ncountry = \"LU\"", "[site.local]\ncountry = \"IT\"");
    bench.write("rules/facts.toml", &italy.replace("train.jsonl", "train.csv"));
    let prepare = |extra: &[&str]| bench.run(&[&["data", "prepare", "spec.toml"], extra].concat());
    expect_refused(&prepare(&["--policy", "rules"]));
    assert!(!bench.path("out").exists() && account(&bench).contains("policy.prepare"));
    let convert = |extra: &[&str]| bench.run(&[&["model", "convert", "train.jsonl", "converted"], extra].concat());
    let here = FACTS.replace("train.jsonl", "train.csv").replace("\"model\"", "\"train.jsonl\"");
    bench.write("rules/facts.toml", &here.replace("\"anywhere\"", "[\"LU\"]"));
    expect_refused(&convert(&["--policy", "rules", "--site", "leonardo"]));
    assert!(account(&bench).contains("policy.import"));
    assert_eq!(convert(&["--policy", "rules"]).code, Some(4), "it may come in, and is no model");
    let prepared = prepare(&["--policy", "rules"]);
    assert_eq!(prepared.code, Some(0), "{prepared:?}");
    assert!(account(&bench).contains("data.prepared"));
    assert!(bench.path("state/sirocco/ledger/checkpoint").is_file(), "the account's ledger is sealed");
}

/// What has no network and no files but its own does the same.
#[test]
fn tools_have_the_level_that_the_rules_ask_for() {
    let bench = bench(EVERY);
    let rule = "@id(\"landlock\")\n@advice(\"Reach level 3.\")\npermit(principal, action, resource)\n\
                when { context.confinement.measured >= 3 };\n";
    bench.write("rules/policy.cedar", rule);
    bench.write("spec.toml", SPEC);
    bench.write("LICENCE", "free");
    bench.write(
        "train.csv",
        &format!("english,darija\n{}", (0..40).map(|n| format!("question {n},answer {n}\n")).collect::<String>()),
    );
    // Not above the rest: what is temporary may always be written.
    std::fs::create_dir(bench.path("temporary")).unwrap();
    let run = |words: &[&str]| {
        let mut command = bench.command(words);
        Finished::new(
            &command.args(["--policy", "rules"]).env("TMPDIR", bench.path("temporary")).output().unwrap(),
            &bench.path(""),
        )
    };
    let prepared = run(&["data", "prepare", "spec.toml"]);
    if prepared.code == Some(5) && prepared.err.contains("no Landlock") {
        return;
    }
    assert_eq!(prepared.code, Some(0), "{prepared:?}");
    let again = run(&["data", "prepare", "spec.toml"]);
    let packed = run(&["bundle", "pack", "train.csv", "model", "--to", "out.tar"]);
    bench.write("trust/roles.json", "{\"ministry\": [\"import\"]}");
    std::fs::copy(bench.path("config/sirocco/keys/release.pub"), bench.path("trust/ministry.pub")).unwrap();
    let opened = run(&["bundle", "open", "out.tar", "--to", "in", "--trust", "trust"]);
    let converted = run(&["model", "convert", "train.csv", "converted"]);
    for done in [&prepared, &again, &packed, &opened, &converted] {
        assert!(done.err.contains("confined: level 3 (landlock)"), "{done:?}");
    }
    assert_eq!([&again, &packed, &opened, &converted].map(|done| done.code), [Some(0), Some(0), Some(0), Some(4)], "{opened:?}");
    assert!(bench.path("out/train.jsonl").is_file() && bench.path("in/bundle.json").is_file());
}

const SPEC: &str = "\
name = \"small\"
output = \"out\"
held_out = 0.1

[[source]]
name = \"letters\"
path = \"train.csv\"
format = \"csv\"
columns = [\"english\", \"darija\"]
prompt = \"{english}\"
answer = \"{darija}\"
split_by = \"english\"
licence = { name = \"CC0-1.0\", file = \"LICENCE\" }
";

#[test]
fn what_was_decided_is_decided_again_in_another_directory() {
    let bench = bench(EVERY);
    let refused = asked(&bench, &["train", "run.toml"], "leonardo");
    expect_refused(&refused);
    let shown = bench.run(&["ledger", "show", "state/sirocco/ledger", "--json"]).json();
    let entries = shown["entries"].as_array().unwrap();
    let request = entries.iter().rev().find_map(|entry| entry["facts"]["request"].as_str()).unwrap();
    // The facts write train.jsonl, the request has where that led.
    assert!(request.contains("BENCH/train.jsonl") && request.contains("\"places\""), "{request}");
    bench.write("elsewhere/request.json", request);
    let rules = bench.path("rules");
    let words = ["policy", "explain", "--request", "request.json", "--policy", rules.to_str().unwrap(), "--json"];
    let explained = bench.command(&words).current_dir(bench.path("elsewhere")).output().unwrap();
    let explained = Finished::new(&explained, &bench.path("")).json();
    assert_eq!(explained["decision"]["allowed"], false, "{explained}");
    assert_eq!(explained["decision"]["rules"][0]["id"], "residency", "{explained}");
    assert_eq!(explained["decision"]["labels"]["residency"], serde_json::json!(["LU"]), "as its owner labelled it: {explained}");
}

#[test]
fn sets_are_made_tried_and_explained() {
    let bench = bench(EVERY);
    for set in ["luxembourg-public", "france-defence", "morocco-public", "open"] {
        let made = bench.run(&["policy", "init", set, "--from", set]);
        assert_eq!(made.code, Some(0), "{made:?}");
        let tested = bench.run(&["policy", "test", set]);
        assert!(tested.code == Some(0) && tested.out.contains("as expected"), "{tested:?}");
        assert_eq!(bench.run(&["policy", "init", set, "--from", set]).code, Some(2), "nothing is replaced");
    }
    bench.write("rules/cases.toml", &CASES.replace("allow", "deny"));
    let failed = bench.run(&["policy", "test", "rules", "--json"]);
    assert!(failed.code == Some(1) && failed.json()["failed"][0]["name"] == "at home", "{failed:?}");
    assert_eq!(bench.run(&["keys", "new", "office"]).code, Some(0));
    let unsigned = bench.run(&["policy", "sign", "rules", "--key", "office/release.key"]);
    assert!(unsigned.code == Some(2) && !bench.path("rules/model.sig").exists(), "{unsigned:?}");
    let explained = asked(&bench, &["policy", "explain", "run.toml"], "leonardo");
    assert_eq!(explained.code, Some(0), "{explained:?}");
    for part in ["refused", "rule residency", "residency of", "site: leonardo (IT) → local (LU)"] {
        assert!(explained.out.contains(part), "{part}: {explained:?}");
    }
}

//! The policy sets in `configs/policies`: they are read, their cases pass, every rule of theirs decides in at least one case.

use std::collections::BTreeSet;
use std::path::Path;

use sirocco_policy::{Cases, Facts, Gate, Manifest, PolicySet, Rules, Source, explain};

const SETS: [&str; 4] = ["luxembourg-public", "france-defence", "morocco-public", "open"];

fn file(set: &str, name: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/policies").join(set).join(name);
    Source::new(name, std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn gate(set: &str) -> Gate {
    let rules = Rules::parse(&[file(set, "policy.cedar")]).unwrap_or_else(|error| panic!("{set}: {error}"));
    Gate::new(rules, Facts::parse(&[file(set, "facts.toml")]).unwrap_or_else(|error| panic!("{set}: {error}")))
}

fn cases(set: &str) -> Cases {
    Cases::parse(&file(set, "cases.toml")).unwrap_or_else(|error| panic!("{set}: {error}"))
}

#[test]
fn every_case_of_every_set_passes() {
    for set in SETS {
        let (gate, cases) = (gate(set), cases(set));
        assert!(cases.cases.len() >= 15, "{set}: {} cases", cases.cases.len());
        let outcomes = cases.run(&gate);
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).collect();
        let words: Vec<_> =
            failed.iter().map(|o| format!("{set}/{} {:?}: {:?}", o.case.at, o.case.name, o.differences)).collect();
        assert!(words.is_empty(), "{}", words.join("\n"));
    }
}

#[test]
fn every_rule_decides_a_case() {
    for set in SETS {
        let (gate, cases) = (gate(set), cases(set));
        let outcomes = cases.run(&gate);
        let decides: BTreeSet<&str> =
            outcomes.iter().flat_map(|outcome| outcome.decision.rules.iter().map(|rule| rule.id.as_str())).collect();
        let idle: Vec<_> = gate.rules().iter().map(|rule| rule.named.id.as_str()).filter(|id| !decides.contains(id)).collect();
        assert!(idle.is_empty(), "{set}: no case in which these decide: {idle:?}");
    }
}

/// A set without one of its rules is another set: some case notices each that is taken away.
#[test]
fn a_rule_that_is_taken_away_fails_a_case() {
    for set in SETS.into_iter().filter(|set| *set != "open") {
        let (whole, cases) = (gate(set), cases(set));
        for gone in whole.rules().iter() {
            let rest: String =
                whole.rules().iter().filter(|rule| rule.named.id != gone.named.id).map(|rule| rule.text.clone() + "\n").collect();
            let less = Gate::new(Rules::parse(&[Source::new("policy.cedar", rest)]).unwrap(), whole.facts().clone());
            let noticed = cases.run(&less).iter().any(|outcome| !outcome.differences.is_empty());
            assert!(noticed, "{set}: without {} every case still passes", gone.named.id);
        }
    }
}

#[test]
fn every_refusal_can_be_explained_and_every_decision_replayed() {
    for set in SETS {
        let (gate, cases) = (gate(set), cases(set));
        for case in &cases.cases {
            let explanation = explain(&gate, &case.request);
            let decision = &explanation.decision;
            assert_eq!(gate.replay(decision, &case.request), Ok(()), "{set}: {}", case.name);
            let text = serde_json::to_string(decision).unwrap();
            assert_eq!(serde_json::from_str::<sirocco_policy::Decision>(&text).unwrap(), *decision, "{set}: {}", case.name);
            let request = case.request.canonical();
            assert_eq!(serde_json::from_str::<sirocco_policy::Request>(&request).unwrap(), case.request, "{set}: {}", case.name);
        }
    }
}

#[test]
fn a_set_is_its_files() {
    for set in SETS {
        let files = ["policy.cedar", "facts.toml", "cases.toml"].map(|name| file(set, name));
        assert_eq!(PolicySet::parse(&files).unwrap().digest(), Manifest::of(&files).unwrap().digest());
    }
}

/// `cargo test --release -p sirocco-policy --test ready -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn how_long_answers_take() {
    let (gate, cases) = (gate("luxembourg-public"), cases("luxembourg-public"));
    let each = |what: &str, rounds: u32, answer: &dyn Fn(&sirocco_policy::Request)| {
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            cases.cases.iter().for_each(|case| answer(&case.request));
        }
        let count = rounds * u32::try_from(cases.cases.len()).unwrap();
        println!("{what}: {:.3} ms each, mean of {count}", start.elapsed().as_secs_f64() * 1e3 / f64::from(count));
    };
    each("a decision", 50, &|request| drop(gate.ask(request)));
    each("an explanation", 2, &|request| drop(explain(&gate, request)));
    let start = std::time::Instant::now();
    let _ = self::gate("luxembourg-public");
    println!("reading rules and facts: {:.3} ms", start.elapsed().as_secs_f64() * 1e3);
}

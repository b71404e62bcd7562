//! docs/policy.md: its facts, rules, cases, refusals and explanations are what it says.

mod common;

use std::path::Path;

use common::bare;
use sirocco_policy::{Cases, Confinement, Demands, Facts, Gate, Rules, explain};

/// The fenced blocks of the document: what stands behind the fence, and the text.
fn blocks() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let text = std::fs::read_to_string(path).expect("docs/policy.md");
    let parts: Vec<_> = text.split("\n```").collect();
    let fenced = parts.chunks(2).filter_map(|pair| pair.get(1));
    fenced
        .map(|block| block.split_once('\n').expect("a fence and a text"))
        .map(|(head, body)| (head.to_owned(), body.to_owned() + "\n"))
        .collect()
}

fn of(head: &str) -> String {
    blocks().into_iter().find(|(found, _)| found == head).unwrap_or_else(|| panic!("no block {head}")).1
}

fn gate() -> Gate {
    let rules = Rules::parse(&bare("policy.cedar", &of("cedar"))).unwrap_or_else(|error| panic!("{error}"));
    Gate::new(rules, Facts::parse(&bare("facts.toml", &of("toml"))).unwrap_or_else(|error| panic!("{error}")))
}

fn cases() -> Cases {
    Cases::parse(&bare("cases.toml", &of("toml cases"))[0]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_block_is_of_a_kind_that_is_tested() {
    let heads: Vec<_> = blocks().into_iter().map(|(head, _)| head).collect();
    let expected = [
        "toml",
        "sh",
        "toml own",
        "cedar",
        "cedar refused \"`has` is asked of resource.expires\"",
        "toml cases",
        "explain and not in Italy",
        "toml demands",
        "rust",
        // The launcher's tests type commands like these; crates/config/tests/recipes.rs reads the run file.
        "sh",
        "toml run",
        // tests/custody/approvals.rs goes this way.
        "sh",
        "sh",
    ];
    assert_eq!(heads, expected);
}

#[test]
fn own_facts_and_demands_are_read() {
    let facts = gate().facts().clone().with_own(&bare("own.toml", &of("toml own"))).unwrap_or_else(|error| panic!("{error}"));
    assert!(facts.is_own(&"data:interviews".parse().unwrap()));
    let text = of("toml demands").replace("DIGEST", &"1".repeat(64));
    let demands = Demands::parse(&bare("site.toml", &text)[0]).unwrap_or_else(|error| panic!("{error}"));
    assert!(demands.signed_policies && demands.policy_set.is_some());
}

/// The table of levels, the schema's comment and the program have the same numbers and words.
#[test]
fn levels_of_confinement_are_the_same_everywhere() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    let (document, schema) = (read("../../docs/policy.md"), read("src/schema.cedarschema"));
    for level in Confinement::ALL {
        assert!(document.contains(&format!("\n| {} | `{}` |", level.number(), level.word())), "{level}");
        assert!(schema.contains(&format!(" {} {}", level.number(), level.word())), "{level}");
    }
}

/// What the page shows of the library is what `tests/admission.rs` calls.
#[test]
fn the_names_for_programs_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admission.rs");
    let calls = std::fs::read_to_string(path).expect("tests/admission.rs");
    for name in ["PolicySet::parse_signed(", ".with_own(", ".guard(", ".admit::<verb::Train, _>("] {
        assert!(of("rust").contains(name) && calls.contains(name), "{name}");
    }
}

#[test]
fn the_cases_pass() {
    let cases = cases();
    assert_eq!(cases.cases.len(), 5);
    for outcome in cases.run(&gate()) {
        assert_eq!(outcome.differences, Vec::<String>::new(), "{}", outcome.case.name);
    }
}

#[test]
fn what_is_said_to_be_refused_is_refused() {
    for (head, text) in blocks() {
        if let Some(words) = head.strip_prefix("cedar refused ") {
            let error = Rules::parse(&bare("policy.cedar", &text)).expect_err(&text).to_string();
            assert!(error.contains(words.trim_matches('"')), "{error}");
        }
    }
}

#[test]
fn the_explanation_is_as_shown() {
    let (gate, cases) = (gate(), cases());
    for (head, text) in blocks() {
        if let Some(name) = head.strip_prefix("explain ") {
            let case = cases.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
            let changes = explain(&gate, &case.request).changes;
            let lines: String =
                changes.iter().map(|change| format!("{}: {} → {}\n", change.what, change.from, change.to)).collect();
            assert_eq!(lines, text);
        }
    }
}

//! Labels go with bytes: other names, other places, records without a signature, and what counts as verified.

mod common;

use common::{gate, request};
use sirocco_policy::{Facts, Gate, Labels, Name, Request, Rules, Sha256Digest, Source, explain};

const RULES: &str = "@id(\"all\")\npermit(principal, action, resource);\n\
    @id(\"home\")\nforbid(principal, action, resource) unless { resource.residency.anywhere || \
    resource.residency.countries.contains(context.site.country) };\n\
    @id(\"quarantine\")\nforbid(principal, action, resource) when { resource in DataSource::\"bad\" };";
const SITES: &str = "[site.bissen]\ncountry = \"LU\"\n[site.paris]\ncountry = \"FR\"\n";

fn digest(of: &str) -> Sha256Digest {
    Sha256Digest::of(of.as_bytes())
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// `[data.NAME]` with a digest and a residency.
fn data(of: &str, bytes: &str, residency: &str) -> String {
    format!("[data.{of}]\nsha256 = \"{}\"\nresidency = \"{residency}\"\n", digest(bytes))
}

fn train(from: &[&str], digests: &[(&str, &str)]) -> Request {
    let mut asked = request("train", "checkpoint:c", "bissen");
    asked.made.insert(name("checkpoint:c"), from.iter().map(|text| name(text)).collect());
    asked.digests = digests.iter().map(|(of, bytes)| (name(of), digest(bytes))).collect();
    asked
}

fn rule_ids(gate: &Gate, asked: &Request) -> Vec<String> {
    gate.ask(asked).rule_ids().map(str::to_owned).collect()
}

#[test]
fn bytes_under_another_name_keep_their_labels() {
    // The copy has labels of its own and no digest; the bytes are those of the letters.
    let facts = format!("{SITES}{}[data.copy]\nresidency = \"anywhere\"\n", data("letters", "L", "LU"));
    let gate = gate(RULES, &facts);
    let mut asked = train(&["data:copy"], &[("data:copy", "L")]);
    assert!(gate.ask(&asked).allowed);
    asked.site = "paris".to_owned();
    assert_eq!(rule_ids(&gate, &asked), ["home"]);
    let told: Vec<_> = gate.ask(&asked).facts.into_iter().filter(|fact| fact.about == "data:letters").collect();
    assert_eq!(told[0].value, "LU", "the decision says whose labels they are");
    asked.digests.insert(name("data:copy"), digest("other bytes"));
    assert!(gate.ask(&asked).allowed, "other bytes are not the letters");
}

#[test]
fn two_descriptions_of_the_same_bytes_hold_together_without_a_measurement() {
    let facts = format!("{SITES}{}{}", data("letters", "L", "LU"), data("copy", "L", "anywhere"));
    let mut asked = train(&["data:copy"], &[]);
    asked.site = "paris".to_owned();
    assert_eq!(rule_ids(&gate(RULES, &facts), &asked), ["home"]);
}

/// What is in quarantine stays there whatever it is called, and so does what another name of it was made from.
#[test]
fn lineage_goes_with_bytes_too() {
    let facts = format!("{SITES}{}[data.clean]\nresidency = \"LU\"\n", data("bad", "B", "LU"));
    let gate = gate(RULES, &facts);
    assert_eq!(rule_ids(&gate, &train(&["data:clean"], &[("data:clean", "B")])), ["quarantine"]);
    assert_eq!(rule_ids(&gate, &train(&["data:nobody-knows"], &[("data:nobody-knows", "B")])), ["quarantine"]);
    let adapters = format!("{facts}[adapter.a]\nsha256 = \"{}\"\nresidency = \"LU\"\n", digest("A"));
    let gate = common::gate(RULES, &adapters);
    let mut asked = request("export", "adapter:renamed", "bissen");
    asked.digests.insert(name("adapter:renamed"), digest("A"));
    assert!(gate.ask(&asked).allowed);
    asked.made.insert(name("adapter:a"), [name("data:bad")].into());
    assert_eq!(rule_ids(&gate, &asked), ["quarantine"]);
}

#[test]
fn bytes_that_nobody_named_are_known_by_their_digest() {
    let gate = gate(RULES, &format!("{SITES}{}", data("letters", "L", "LU")));
    let mut asked = train(&["data:found"], &[("data:found", "L")]);
    assert!(gate.ask(&asked).allowed, "{}", gate.ask(&asked));
    asked.digests.clear();
    let missing: Vec<_> = gate.ask(&asked).missing.iter().map(ToString::to_string).collect();
    assert!(
        missing.contains(&"residency of data:found (no fact describes it, and nothing says what it was made from)".to_owned())
    );
}

#[test]
fn what_lies_where_something_is_described_has_its_labels() {
    let letters = "[data.letters]\npath = \"data/letters\"\nresidency = \"LU\"\n[data.mine]\nresidency = \"anywhere\"\n";
    let gate = gate(RULES, &format!("{SITES}{letters}"));
    let mut asked = train(&["data:mine"], &[]);
    asked.site = "paris".to_owned();
    assert!(gate.ask(&asked).allowed);
    for place in ["data/letters", "./data/letters/part-1.jsonl", "data"] {
        asked.paths.insert(name("data:mine"), place.to_owned());
        assert_eq!(rule_ids(&gate, &asked), ["home"], "{place}");
    }
    asked.paths.insert(name("data:mine"), "data/letters-of-mine".to_owned());
    assert!(gate.ask(&asked).allowed);
    // A directory that holds the letters holds other things, too.
    let mut whole = train(&["data:all"], &[]);
    whole.paths.insert(name("data:all"), "data".to_owned());
    assert_eq!(gate.ask(&whole).missing[0].about, "data:all");
    whole.paths.insert(name("data:all"), "data/letters".to_owned());
    assert!(gate.ask(&whole).allowed);
}

#[test]
fn other_bytes_in_a_described_place_have_no_labels() {
    let letters = format!("{SITES}[data.letters]\npath = \"data/letters\"\nsha256 = \"{}\"\nresidency = \"LU\"\n", digest("L"));
    let mut asked = train(&["data:mine"], &[("data:mine", "M")]);
    asked.paths.insert(name("data:mine"), "data/letters".to_owned());
    let decision = gate(RULES, &letters).ask(&asked);
    assert_eq!(
        decision.missing[0].to_string(),
        "residency of data:letters (the bytes at hand have another digest than the facts name)"
    );
}

/// Everything that the facts describe is looked at, not only what the lineage begins with.
#[test]
fn verified_looks_at_every_described_name() {
    let rule = "@id(\"v\")\npermit(principal, action, resource) when { resource.verified };";
    let adapter = |bytes: &str| format!("[adapter.a]\nsha256 = \"{}\"\nresidency = \"LU\"\n", digest(bytes));
    let base = data("d", "D", "LU");
    let mut asked = request("merge", "merged:m", "bissen");
    asked.made.insert(name("merged:m"), [name("adapter:a")].into());
    asked.made.insert(name("adapter:a"), [name("data:d")].into());
    asked.digests = [(name("data:d"), digest("D")), (name("adapter:a"), digest("A"))].into();
    let allowed = |facts: &str, asked: &Request| gate(rule, &format!("{SITES}{facts}")).ask(asked).allowed;
    assert!(allowed(&(adapter("A") + &base), &asked));
    assert!(!allowed(&(adapter("other") + &base), &asked), "the adapter has other bytes than the facts describe");
    let mut unmeasured = asked.clone();
    unmeasured.digests.remove(&name("adapter:a"));
    assert!(!allowed(&(adapter("A") + &base), &unmeasured), "nobody measured the adapter");
    unmeasured.planned = true;
    assert!(allowed(&(adapter("A") + &base), &unmeasured), "a plan assumes it");
    assert!(!allowed(&format!("[adapter.a]\nresidency = \"LU\"\n{base}"), &asked), "the facts name no digest of the adapter");
    let known = format!("[adapter.a]\nresidency = \"LU\"\n{base}[adapter.b]\nsha256 = \"{}\"\n", digest("A"));
    assert!(allowed(&known, &asked), "they name it under another name");
    asked.digests.remove(&name("data:d"));
    assert!(!allowed(&(adapter("A") + &base), &asked), "nobody measured the data");
}

/// A record says what its writer wrote. Without a lineage to hold it against, it has to be signed.
#[test]
fn records_without_lineage_are_believed_only_if_verified() {
    let gate = gate(RULES, SITES);
    let mild: Labels = toml::from_str("residency = \"anywhere\"").unwrap();
    let mut asked = request("export", "adapter:from-abroad", "bissen");
    asked.recorded.insert(asked.artefact.clone(), mild);
    let decision = gate.ask(&asked);
    assert!(!decision.allowed);
    let why = "residency of adapter:from-abroad (only a record says it, whose signature was not verified)";
    assert!(decision.missing.iter().any(|missing| missing.to_string() == why), "{decision}");
    asked.verified_records.insert(asked.artefact.clone());
    let decision = gate.ask(&asked);
    assert_eq!(decision.labels.residency.map(|residency| residency.to_string()).as_deref(), Some("anywhere"));
    // What it was made from is still not known, and one rule asks.
    assert_eq!(decision.missing[0].name, "lineage");
    let home: String = RULES.split("@id(\"quarantine\")").next().unwrap().to_owned();
    assert!(common::gate(&home, SITES).ask(&asked).allowed);
    asked.verified_records.clear();
    assert!(!common::gate(&home, SITES).ask(&asked).allowed);
}

#[test]
fn changes_are_found_for_what_is_known_by_other_names() {
    let facts = format!("{SITES}{}[data.copy]\nresidency = \"anywhere\"\n", data("letters", "L", "LU"));
    let rules = Rules::parse(&[Source::new("policy.cedar", RULES)]).unwrap();
    let gate = Gate::new(rules, Facts::parse(&[Source::new("facts.toml", facts)]).unwrap());
    let mut asked = train(&["data:copy"], &[("data:copy", "L")]);
    asked.site = "paris".to_owned();
    let changes: Vec<_> =
        explain(&gate, &asked).changes.iter().map(|change| format!("{} → {}", change.what, change.to)).collect();
    assert_eq!(changes, ["site → bissen (LU)", "residency of data:letters → FR, LU"]);
}

//! The decision point: what it answers, what it lets pass, what it can replay.

mod common;

use common::{bare, gate, request, rules};
use sirocco_policy::{Confinement, Kind, Labels, Name, PolicyError, ReplayError, Request, explain};

const HOME: &str = "@id(\"staff\")\n@advice(\"ask the staff\")\npermit(principal, action, resource) when { principal.roles.contains(\"staff\") };\n\
    @id(\"home\")\nforbid(principal, action, resource) unless { resource.residency.countries.contains(context.site.country) };";

const FACTS: &str = "[data.letters]\nresidency = [\"LU\"]\nsha256 = \"1111111111111111111111111111111111111111111111111111111111111111\"\n\
    [data.bare]\nclassification = \"public\"\n[model.base]\nresidency = [\"LU\", \"FR\"]\n\
    [site.bissen]\ncountry = \"LU\"\nconfinement = 2\n[site.paris]\ncountry = \"FR\"\n[person.a]\nroles = [\"staff\"]\n[person.b]\nroles = []\n";

fn train(from: &[&str]) -> Request {
    let mut request = request("train", "checkpoint:c", "bissen");
    let name = |text: &str| text.parse::<Name>().expect("a name");
    request.made.insert(name("checkpoint:c"), from.iter().map(|text| name(text)).collect());
    request
}

#[test]
fn the_strictest_label_of_all_inputs_holds() {
    let gate = gate(HOME, FACTS);
    let both = train(&["data:letters", "model:base"]);
    assert!(gate.ask(&both).allowed);
    let mut abroad = both.clone();
    abroad.site = "paris".to_owned();
    let decision = gate.ask(&abroad);
    assert!(!decision.allowed);
    assert_eq!(decision.rule_ids().collect::<Vec<_>>(), ["home"]);
    assert!(decision.missing.is_empty());
    let mut base = train(&["model:base"]);
    base.site = "paris".to_owned();
    assert!(gate.ask(&base).allowed);
    let residency = gate.ask(&both).labels.residency.unwrap().to_string();
    assert_eq!(residency, "LU");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let gate = gate(HOME, FACTS);
    let decision = gate.ask(&train(&["data:letters", "data:bare", "data:stranger"]));
    assert!(!decision.allowed && decision.rules.is_empty());
    let missing: Vec<_> = decision.missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "residency of data:bare (the facts do not say it)",
            "residency of data:stranger (no fact describes it, and nothing says what it was made from)"
        ]
    );
    let mut nobody = train(&["data:letters"]);
    nobody.who = "person:x".parse().unwrap();
    assert_eq!(gate.ask(&nobody).missing[0].to_string(), "roles of person:x (no fact describes them)");
}

/// Cedar skips a rule that it cannot evaluate; a forbid that is skipped would let everything pass.
#[test]
fn a_forbid_that_cannot_be_evaluated_refuses() {
    let rules = "@id(\"all\")\npermit(principal, action, resource);\n@id(\"home\")\nforbid(principal, action, resource) when \
                 { resource.expires < context.now };\n@id(\"sum\")\nforbid(principal, action, resource) when \
                 { context.confinement.measured + 9223372036854775807 > 0 };";
    let gate = gate(rules, "[data.d]\nexpires = \"never\"\n[site.bissen]\nconfinement = 1\n");
    let mut asked = request("prepare", "data:d", "bissen");
    asked.confinement = Some(Confinement::Environment);
    let decision = gate.ask(&asked);
    assert_eq!(decision.rule_ids().collect::<Vec<_>>(), ["sum"], "0 plus the largest number is above 0");
    asked.confinement = Some(Confinement::Seccomp);
    let decision = gate.ask(&asked);
    assert!(!decision.allowed);
    assert!(decision.faults[0].contains("rule sum cannot be evaluated"), "{:?}", decision.faults);
    asked.artefact = "data:e".parse().unwrap();
    let decision = gate.ask(&asked);
    assert_eq!(decision.missing.len(), 1);
    assert_eq!(decision.unanswered.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["home", "sum"]);
}

#[test]
fn nothing_permits_what_no_rule_permits() {
    let gate = gate(HOME, FACTS);
    let mut asked = train(&["data:letters"]);
    asked.who = "person:b".parse().unwrap();
    let decision = gate.ask(&asked);
    assert!(!decision.allowed && decision.rules.is_empty() && decision.missing.is_empty());
    assert!(decision.to_string().ends_with("refused (no rule permits it; staff could)"), "{decision}");
    assert_eq!(decision.to_heed().next().and_then(|rule| rule.advice.as_deref()), Some("ask the staff"));
}

#[test]
fn an_action_takes_only_its_kinds_and_a_circle_is_refused() {
    let gate = gate(HOME, FACTS);
    let wrong = gate.ask(&request("train", "data:letters", "bissen"));
    assert_eq!(wrong.faults, ["train: found data:letters; expected checkpoint"]);
    let mut circle = train(&["adapter:a"]);
    circle.made.insert("adapter:a".parse().unwrap(), ["checkpoint:c".parse().unwrap()].into());
    let decision = gate.ask(&circle);
    assert!(!decision.allowed);
    assert!(decision.faults[0].contains("checkpoint:c from adapter:a from checkpoint:c"), "{:?}", decision.faults);
    assert!(explain(&gate, &circle).fault.is_some());
}

#[test]
fn a_lineage_may_be_long() {
    let gate = gate(HOME, FACTS);
    let mut asked = train(&["data:letters"]);
    for step in 0..3000 {
        let from = if step == 0 { "checkpoint:c".to_owned() } else { format!("checkpoint:{}", step - 1) };
        asked.made.insert(Name::new(Kind::Checkpoint, step.to_string()), [from.parse().unwrap()].into());
    }
    asked.artefact = "checkpoint:2999".parse().unwrap();
    assert!(gate.ask(&asked).allowed);
}

#[test]
fn recorded_labels_make_an_artefact_stricter_and_never_weaker() {
    let gate = gate(HOME, FACTS);
    let recorded = |text: &str| toml::from_str::<Labels>(text).unwrap();
    let mut asked = train(&["model:base"]);
    asked.site = "paris".to_owned();
    assert!(gate.ask(&asked).allowed);
    asked.recorded.insert("checkpoint:c".parse().unwrap(), recorded("residency = [\"LU\"]"));
    assert!(!gate.ask(&asked).allowed);
    asked.made.insert("checkpoint:c".parse().unwrap(), ["data:letters".parse().unwrap()].into());
    asked.recorded.insert("checkpoint:c".parse().unwrap(), recorded("residency = \"anywhere\""));
    assert!(!gate.ask(&asked).allowed);
}

#[test]
fn other_bytes_have_no_labels() {
    let gate = gate(HOME, FACTS);
    let mut asked = train(&["data:letters"]);
    asked.digests.insert("data:letters".parse().unwrap(), "1".repeat(64).parse().unwrap());
    assert!(gate.ask(&asked).allowed);
    asked.digests.insert("data:letters".parse().unwrap(), "2".repeat(64).parse().unwrap());
    let decision = gate.ask(&asked);
    assert_eq!(decision.missing[0].why, "the bytes at hand have another digest than the facts name");
}

#[test]
fn a_plan_says_what_it_assumes() {
    let rule = "@id(\"r\")\npermit(principal, action, resource) when { context.confinement.measured >= 2 && resource.verified };";
    let gate = gate(rule, FACTS);
    let mut asked = train(&["data:letters"]);
    let refused = gate.ask(&asked);
    assert_eq!(refused.missing[0].name, "measured confinement");
    asked.planned = true;
    let decision = gate.ask(&asked);
    assert!(decision.allowed);
    assert_eq!(decision.assumed.len(), 2, "{:?}", decision.assumed);
}

#[test]
fn decisions_replay_and_changed_ones_do_not() {
    let gate = gate(HOME, FACTS);
    let asked = train(&["data:letters"]);
    let decision = gate.ask(&asked);
    assert_eq!(gate.replay(&decision, &asked), Ok(()));
    let mut forged = decision.clone();
    forged.allowed = false;
    assert!(matches!(gate.replay(&forged, &asked), Err(ReplayError::Differs { .. })));
    let mut other = asked.clone();
    other.site = "paris".to_owned();
    assert!(matches!(gate.replay(&decision, &other), Err(ReplayError::Digest { what: "request", .. })));
    let changed = common::gate(HOME, &FACTS.replace("\"LU\", \"FR\"", "\"LU\""));
    assert!(matches!(changed.replay(&decision, &asked), Err(ReplayError::Digest { what: "facts", .. })));
    let changed = common::gate(&(HOME.to_owned() + "\n"), FACTS);
    assert!(matches!(changed.replay(&decision, &asked), Err(ReplayError::Digest { what: "rules", .. })));
}

#[test]
fn an_explanation_names_rule_facts_and_the_smallest_change() {
    let gate = gate(HOME, FACTS);
    let mut asked = train(&["data:letters", "model:base"]);
    asked.site = "paris".to_owned();
    let explanation = explain(&gate, &asked);
    let rule = &explanation.rules[0];
    assert_eq!(rule.rule.id, "home");
    assert!(rule.text.starts_with("@id(\"home\")"));
    let facts: Vec<_> = rule.facts.iter().map(|fact| format!("{} of {} = {}", fact.name, fact.about, fact.value)).collect();
    assert_eq!(
        facts,
        [
            "country of site:paris = FR",
            "residency of checkpoint:c = LU",
            "residency of data:letters = LU",
            "residency of model:base = FR, LU"
        ]
    );
    let changes: Vec<_> =
        explanation.changes.iter().map(|change| format!("{}: {} → {}", change.what, change.from, change.to)).collect();
    assert_eq!(
        changes,
        [
            "site: paris (FR) → bissen (LU)",
            "what checkpoint:c is made from: with data:letters → without data:letters",
            "residency of data:letters: LU → FR, LU"
        ]
    );
}

#[test]
fn a_missing_label_is_the_smallest_change() {
    let explanation = explain(&gate(HOME, FACTS), &train(&["data:bare", "data:letters"]));
    let first = &explanation.changes[0];
    assert_eq!((first.what.as_str(), first.from.as_str(), first.to.as_str()), ("residency of data:bare", "not known", "LU"));
    assert_eq!(explanation.rules[0].missing[0].about, "data:bare");
}

#[test]
fn confinement_is_tried_level_by_level() {
    let rule = "@id(\"r\")\npermit(principal, action, resource) when { context.confinement.measured >= 3 };";
    let mut asked = request("prepare", "data:letters", "bissen");
    asked.confinement = Some(Confinement::Seccomp);
    let explanation = explain(&gate(rule, FACTS), &asked);
    assert_eq!(explanation.changes.len(), 1);
    assert_eq!(explanation.changes[0].to, "3 (landlock)");
}

/// What the code builds is what the schema says: a rule that fits the schema can be evaluated when every fact is known.
#[test]
fn a_complete_request_answers_every_attribute_of_the_schema() {
    let everything = "@id(\"r\")\npermit(principal, action == Action::\"sendOut\", resource) when { \
        (resource.residency.anywhere || resource.residency.countries.contains(\"LU\")) && \
        resource.classification.name == Classification::\"public\" && resource.classification.level == 0 && \
        resource.licences.contains(\"MIT\") && resource.commercialUse && resource.personalData == PersonalData::\"none\" && \
        (resource.purposes.any || resource.purposes.names.contains(\"p\")) && resource.expires >= datetime(\"2026-11-22\") && \
        resource.verified && !resource.describedByUser && resource in DataSource::\"d\" && context.site == Site::\"s\" && context has node && \
        context.node in context.site && context.site.country == \"LU\" && context.site.operatorCountry == \"LU\" && \
        context.site.accredited.name == Classification::\"secret\" && context.site.accredited.level == 4 && \
        context.confinement.demanded == 2 && context.confinement.measured == 3 && context.purpose.name == \"p\" && \
        !context.purpose.commercial && context.now == datetime(\"2026-11-22\") && context.approvedByRoles.contains(\"q\") && \
        context.recipients.names.contains(\"x\") && context.recipients.countries.contains(\"LU\") && \
        context.recipients.clearance.level == 1 && principal.roles.contains(\"r\") && principal.clearance.level == 4 && \
        principal.country == \"LU\" };";
    let facts = "[data.d]\nsha256 = \"1111111111111111111111111111111111111111111111111111111111111111\"\nresidency = [\"LU\"]\n\
        classification = \"public\"\nlicence = \"MIT\"\ncommercial_use = true\npersonal_data = \"none\"\npurposes = [\"p\"]\n\
        expires = 2026-11-22\n[purpose.p]\ncommercial = false\n[site.s]\ncountry = \"LU\"\noperator_country = \"LU\"\n\
        accredited = \"secret\"\nconfinement = 2\nnodes = [\"n*\"]\n[person.a]\nroles = [\"r\"]\nclearance = \"secret\"\ncountry = \"LU\"\n\
        [person.b]\nroles = [\"q\"]\n[recipient.x]\ncountry = \"LU\"\nclearance = \"internal\"\n";
    let mut asked = request("sendOut", "data:d", "s");
    asked.digests.insert("data:d".parse().unwrap(), "1".repeat(64).parse().unwrap());
    asked.node = Some("n1".to_owned());
    asked.confinement = Some(Confinement::Landlock);
    asked.purpose = Some("p".to_owned());
    asked.approved_by = ["person:a".parse().unwrap(), "person:b".parse().unwrap()].into();
    asked.recipients = ["x".to_owned()].into();
    let decision = gate(everything, facts).ask(&asked);
    assert!(decision.allowed, "{decision}");
    assert_eq!(decision.facts.iter().map(|fact| &fact.path).collect::<std::collections::BTreeSet<_>>().len(), 25);
}

#[test]
fn digests_do_not_depend_on_where_files_lie() {
    let (here, there) = (bare("a/policy.cedar", HOME), bare("b/rules.cedar", HOME));
    assert_eq!(rules(here.clone()).unwrap().digest(), rules(there).unwrap().digest());
    assert_ne!(rules(here).unwrap().digest(), rules(bare("a/policy.cedar", &HOME.replace("staff", "stuff"))).unwrap().digest());
    let empty: Result<_, PolicyError> = rules(bare("policy.cedar", "// nothing\n"));
    assert!(matches!(empty, Err(PolicyError::NoRules { .. })));
}

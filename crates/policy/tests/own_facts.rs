//! Users' own descriptions of data beside a ministry's facts, and a set that needs no facts at all.

mod common;

use std::path::Path;

use common::{bare, request};
use sirocco_policy::{Action, Facts, Kind, Name, PolicySet, Request, Sha256Digest, Source, explain};

fn set(name: &str) -> PolicySet {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/policies").join(name);
    let file = |file: &str| Source::new(file, std::fs::read_to_string(directory.join(file)).expect(file));
    PolicySet::parse(&["policy.cedar", "facts.toml", "cases.toml"].map(file)).unwrap_or_else(|error| panic!("{error}"))
}

/// A description of somebody's own, as docs/policy.md has it.
const MINE: &str = "[data.mine]\npath = \"data/mine/train.jsonl\"\nresidency = \"LU\"\nclassification = \"internal\"\n\
    licence = \"LicenseRef-mine\"\ncommercial_use = false\npersonal_data = \"none\"\npurposes = [\"public-administration\"]\nexpires = 2027-12-31\n";

fn train(data: &str) -> Request {
    let mut asked = request("train", "checkpoint:c", "meluxina");
    asked.who = "person:engineer".parse().expect("a name");
    asked.confinement = Some(sirocco_policy::Confinement::NetworkNamespace);
    asked.purpose = Some("public-administration".to_owned());
    asked
        .made
        .insert(asked.artefact.clone(), [data.parse().expect("a name"), "model:mistral-nemo".parse().expect("a name")].into());
    asked
}

/// On a laptop with the open set nobody has to describe anything, and the answer still names the rule.
#[test]
fn the_open_set_needs_no_facts() {
    let open = set("open");
    let bare = open.gate().with_facts(Facts::parse(&[]).unwrap());
    for gate in [open.gate(), &bare] {
        for action in Action::ALL {
            for kind in action.takes() {
                let mut asked = request("train", &Name::new(*kind, "whatever").to_string(), "my-laptop");
                asked.action = action;
                let explanation = explain(gate, &asked);
                assert!(explanation.decision.allowed, "{}", explanation.decision);
                assert_eq!(explanation.rules[0].rule.id, "unrestricted");
                assert!(explanation.decision.missing.is_empty() && explanation.decision.labels.residency.is_none());
            }
        }
    }
}

#[test]
fn a_user_may_describe_data_beside_the_ministrys_facts() {
    let strict = set("luxembourg-public");
    let asked = train("data:mine");
    let refused = strict.gate().ask(&asked);
    assert!(refused.missing.iter().any(|missing| missing.about == "data:mine"), "{refused}");
    let with = strict.clone().with_own(&bare("mine.toml", MINE)).unwrap();
    let decision = with.gate().ask(&asked);
    assert!(decision.allowed, "{decision}");
    let abroad = Request { site: "leonardo".to_owned(), ..asked };
    assert!(with.gate().ask(&abroad).rule_ids().any(|id| id == "residency"));
    assert_ne!(with.gate().facts().digest(), strict.gate().facts().digest(), "the record says which facts");
    assert!(with.gate().facts().is_own(&"data:mine".parse().unwrap()));
    let outcomes = with.cases().run(with.gate());
    assert!(outcomes.iter().all(|outcome| outcome.differences.is_empty()), "the set's own cases do not notice");
}

#[test]
fn a_user_may_add_and_never_replace() {
    let own = |text: &str| set("luxembourg-public").with_own(&bare("mine.toml", text)).map(drop).unwrap_err().to_string();
    let taken = own("[data.case-files]\npath = \"x\"\nresidency = \"anywhere\"\n");
    assert_eq!(taken, "mine.toml: [data.case-files] is already described in facts.toml: expected one description of each");
    for table in ["site.meluxina", "site.new", "person.me", "service.me", "recipient.me", "purpose.mine"] {
        let error = own(&format!("[data.mine]\npath = \"x\"\n[{table}]\n"));
        let kind = table.split('.').next().unwrap();
        assert!(error.starts_with(&format!("mine.toml:3:2: unknown field `{kind}`")), "{error}");
        assert!(error.contains("sites, people, recipients and purposes are the set's"), "{error}");
    }
    assert!(own("[data.mine]\nresidency = \"LU\"\n").contains("data:mine has neither path nor sha256"));
    let twice = set("luxembourg-public").with_own(&[bare("a.toml", MINE), bare("b.toml", MINE)].concat()).map(drop).unwrap_err();
    assert!(twice.to_string().starts_with("b.toml: [data.mine] is already described in a.toml"), "{twice}");
}

/// Milder labels for bytes or places that the ministry describes change nothing.
#[test]
fn a_user_cannot_describe_the_ministrys_data_away() {
    let strict = set("luxembourg-public");
    let mild = |known: &str| {
        format!(
            "[data.mine]\n{known}\nresidency = \"anywhere\"\nclassification = \"public\"\nlicence = \"MIT\"\ncommercial_use = true\n\
            personal_data = \"none\"\npurposes = \"any\"\nexpires = \"never\"\n"
        )
    };
    let abroad = |known: &str| {
        let with = strict.clone().with_own(&bare("mine.toml", &mild(known))).unwrap();
        let asked = Request { site: "leonardo".to_owned(), ..train("data:mine") };
        with.gate().ask(&asked)
    };
    assert!(abroad("path = \"data/mine\"").allowed);
    for place in ["data/case-files", "data/case-files/2026", "./data//case-files/"] {
        let decision = abroad(&format!("path = \"{place}\""));
        assert!(decision.rule_ids().any(|id| id == "residency"), "{place}: {decision}");
    }
    // By digest: cabinet papers, were their digest known.
    let papers = Sha256Digest::of(b"papers");
    let facts = format!("[data.papers]\nsha256 = \"{papers}\"\nresidency = \"LU\"\nclassification = \"secret\"\n");
    let facts = Facts::parse(&bare("facts.toml", &facts))
        .unwrap()
        .with_own(&bare("mine.toml", &mild(&format!("sha256 = \"{papers}\""))))
        .unwrap();
    let labels = strict.gate().with_facts(facts).ask(&train("data:mine")).labels;
    assert_eq!(labels.classification, None, "the model is not described here, and unknown is stricter than secret");
}

/// For defence only what the set itself describes is used.
#[test]
fn a_set_may_refuse_what_users_describe() {
    let strict = set("france-defence");
    let asked = |data: &str| {
        let mut asked = train(data);
        (asked.site, asked.node) = ("fort".to_owned(), Some("gpu01".to_owned()));
        asked.purpose = Some("intelligence-support".to_owned());
        asked.confinement = Some(sirocco_policy::Confinement::Landlock);
        asked.made.insert(asked.artefact.clone(), [data.parse().unwrap()].into());
        asked.digests.insert(data.parse().unwrap(), Sha256Digest::of(b"mine"));
        asked
    };
    let text = MINE.replace("\"LU\"", "\"FR\"").replace("public-administration", "intelligence-support");
    let text = text.replace("path =", &format!("sha256 = \"{}\"\npath =", Sha256Digest::of(b"mine")));
    let own = strict.clone().with_own(&bare("mine.toml", &text)).unwrap();
    assert_eq!(own.gate().ask(&asked("data:mine")).rule_ids().collect::<Vec<_>>(), ["described-by-the-set"]);
    let theirs = strict.gate().facts().clone();
    assert_eq!(theirs.known_as(Kind::Data, None, Some(&Sha256Digest::of(b"mine"))), None);
}

//! Properties over generated labels, requests and texts.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use proptest::bool::weighted;
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sirocco_policy::{
    Action, Cases, Classification, Confinement, Country, Day, Demands, Expiry, Facts, Gate, Labels, Licences, Manifest, Name,
    PersonalData, PolicySet, Purposes, Request, Residency, Rules, Sha256Digest, Source, explain,
};

const PURPOSES: [&str; 3] = ["public-administration", "product", "research"];

fn countries() -> impl Strategy<Value = BTreeSet<Country>> {
    let some: Vec<_> = ["LU", "FR", "IT", "MA", "US"].into_iter().filter_map(Country::parse).collect();
    subsequence(some, 0..=5).prop_map(|codes| codes.into_iter().collect())
}

fn day() -> impl Strategy<Value = Day> {
    (2024..2030u16, 1..=12u8, 1..=28u8)
        .prop_map(|(year, month, day)| format!("{year}-{month:02}-{day:02}").parse().expect("a day"))
}

fn licences() -> impl Strategy<Value = Licences> {
    btree_set(select(vec!["MIT", "CC-BY-4.0", "CC-BY-NC-4.0", "LicenseRef-internal", "unknown"]), 0..4)
        .prop_map(|names| Licences::new(names.into_iter().map(str::to_owned)))
}

fn labels() -> impl Strategy<Value = Labels> {
    let purposes = subsequence(PURPOSES.to_vec(), 0..=3).prop_map(|names| names.into_iter().map(str::to_owned).collect());
    (
        option::weighted(0.9, prop_oneof![countries().prop_map(Residency::In), Just(Residency::Anywhere)]),
        option::weighted(0.9, select(Classification::ALL.to_vec())),
        licences(),
        option::weighted(0.9, any::<bool>()),
        option::weighted(0.9, select(PersonalData::ALL.to_vec())),
        option::weighted(0.9, prop_oneof![purposes.prop_map(Purposes::Only), Just(Purposes::Any)]),
        option::weighted(0.9, prop_oneof![day().prop_map(Expiry::On), Just(Expiry::Never)]),
    )
        .prop_map(|(residency, classification, licences, commercial_use, personal_data, purposes, expires)| Labels {
            residency,
            classification,
            licences,
            commercial_use,
            personal_data,
            purposes,
            expires,
        })
}

/// Labels of which at most two are not as mild as can be.
fn mild() -> impl Strategy<Value = Labels> {
    let home = Country::parse("LU").into_iter().collect();
    let mildest = Labels {
        residency: Some(Residency::In(home)),
        classification: Some(Classification::Public),
        licences: Licences::new(["MIT".to_owned()]),
        commercial_use: Some(true),
        personal_data: Some(PersonalData::None),
        purposes: Some(Purposes::Any),
        expires: Some(Expiry::Never),
    };
    (labels(), btree_set(0..7, 0..3)).prop_map(move |(other, kept)| {
        let (mild, keeps) = (mildest.clone(), |label: i32| kept.contains(&label));
        Labels {
            residency: if keeps(0) { other.residency } else { mild.residency },
            classification: if keeps(1) { other.classification } else { mild.classification },
            licences: if keeps(2) { other.licences } else { mild.licences },
            commercial_use: if keeps(3) { other.commercial_use } else { mild.commercial_use },
            personal_data: if keeps(4) { other.personal_data } else { mild.personal_data },
            purposes: if keeps(5) { other.purposes } else { mild.purposes },
            expires: if keeps(6) { other.expires } else { mild.expires },
        }
    })
}

fn luxembourg(name: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/policies/luxembourg-public").join(name);
    Source::new(name, std::fs::read_to_string(path).expect(name))
}

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let rules = Rules::parse(&[luxembourg("policy.cedar")]).expect("rules");
    Gate::new(rules, Facts::parse(&[luxembourg("facts.toml")]).expect("facts"))
});

/// Some artefact that the action takes, made from two that carry recorded labels.
fn request(labels: [Labels; 2]) -> impl Strategy<Value = Request> {
    let sites: Vec<_> = GATE.facts().sites().map(str::to_owned).chain(["nowhere".to_owned()]).collect();
    let who: Vec<_> = GATE.facts().principals().collect();
    let recipients = subsequence(vec!["sister-ministry", "partner-abroad", "newspaper"], 0..=3);
    (
        select(Action::ALL.to_vec()),
        select(sites),
        select(who.clone()),
        option::of(select(PURPOSES.to_vec())),
        day(),
        select(Confinement::ALL.to_vec()),
        any::<bool>(),
        recipients,
        (weighted(0.8), weighted(0.8)),
    )
        .prop_flat_map(move |(action, site, asks, purpose, day, level, planned, recipients, verified)| {
            let labels = labels.clone();
            (select(action.takes().to_vec()), subsequence(who.clone(), 0..=who.len())).prop_map(move |(kind, approved)| {
                let artefact = Name::new(kind, "made");
                let inputs: [Name; 2] = ["data:one".parse().expect("a name"), "model:two".parse().expect("a name")];
                Request {
                    who: asks.clone(),
                    action,
                    made: [(artefact.clone(), inputs.clone().into())].into(),
                    artefact,
                    recorded: inputs.into_iter().zip(labels.clone()).collect(),
                    verified_records: [("data:one", verified.0), ("model:two", verified.1)]
                        .into_iter()
                        .filter(|(_, verified)| *verified)
                        .map(|(name, _)| name.parse().expect("a name"))
                        .collect(),
                    digests: Default::default(),
                    paths: Default::default(),
                    places: Default::default(),
                    site: site.clone(),
                    node: None,
                    confinement: Some(level).filter(|_| !planned),
                    planned,
                    purpose: purpose.map(str::to_owned),
                    day,
                    approved_by: approved.into_iter().collect(),
                    recipients: recipients.iter().map(|name| (*name).to_owned()).collect(),
                }
            })
        })
}

/// Anything, or something near to being allowed.
fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![(labels(), labels()).prop_flat_map(|(a, b)| request([a, b])), near()]
}

/// Requests that come as near to being allowed as their labels let them.
fn near() -> impl Strategy<Value = Request> {
    (mild(), mild()).prop_flat_map(|(a, b)| request([a, b])).prop_map(|mut request| {
        let who = match request.action {
            Action::Import | Action::SendOut => "person:steward",
            Action::Serve | Action::AddAdapter => "service:inference",
            _ => "person:engineer",
        };
        request.who = who.parse().expect("who");
        request.approved_by = ["person:officer".parse().expect("who")].into();
        request.purpose = Some(PURPOSES[0].to_owned());
        (request.planned, request.confinement) = (false, Some(Confinement::Site));
        request.verified_records = request.recorded.keys().cloned().collect();
        request.recipients = ["sister-ministry".to_owned()].into();
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inheritance_is_a_join(a in labels(), b in labels(), c in labels()) {
        prop_assert_eq!(a.join(&b), b.join(&a));
        prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        prop_assert_eq!(a.join(&a), a.clone());
        let joined = a.join(&b);
        prop_assert!(joined.at_least(&a) && joined.at_least(&b));
        // The least of those: whatever is as strict as both is as strict as their join.
        if c.at_least(&a) && c.at_least(&b) {
            prop_assert!(c.at_least(&joined));
        }
    }

    #[test]
    fn strictness_is_an_order(a in labels(), b in labels(), c in labels()) {
        prop_assert!(a.at_least(&a));
        prop_assert!(!(a.at_least(&b) && b.at_least(&a)) || a == b);
        prop_assert!(!(a.at_least(&b) && b.at_least(&c)) || a.at_least(&c));
    }

    #[test]
    fn labels_come_back_from_json_and_toml(labels in labels()) {
        let json = serde_json::to_string(&labels).unwrap();
        prop_assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels.clone());
        let toml = toml::to_string(&labels).unwrap();
        prop_assert_eq!(toml::from_str::<Labels>(&toml).unwrap(), labels);
    }

    #[test]
    fn nothing_is_allowed_where_residency_excludes_the_country(
        request in any_request()
    ) {
        let decision = GATE.ask(&request);
        let country = GATE.facts().site(&request.site).and_then(|site| site.country);
        let may = |labels: &Labels| labels.residency.as_ref().zip(country).is_some_and(|(residency, country)| residency.allows(country));
        if decision.allowed {
            prop_assert!(request.recorded.values().all(may), "{} {:?}", decision, request);
        }
        if country.is_some() && request.recorded.values().any(|labels| labels.residency.is_some() && !may(labels)) {
            let named = decision.rules.iter().any(|rule| rule.id == "residency") || !decision.missing.is_empty();
            prop_assert!(named, "{}", decision);
        }
    }

    #[test]
    fn the_same_question_gets_the_same_answer(
        request in any_request()
    ) {
        let first = GATE.ask(&request);
        prop_assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&GATE.ask(&request)).unwrap());
        prop_assert_eq!(GATE.replay(&first, &request), Ok(()));
        let read: Request = serde_json::from_str(&request.canonical()).unwrap();
        prop_assert_eq!(GATE.ask(&read), first);
    }

    /// A stricter label of one input never turns a refusal into permission.
    #[test]
    fn stricter_labels_never_allow_more(
        request in any_request(), stricter in labels()
    ) {
        let mut strict = request.clone();
        for labels in strict.recorded.values_mut() {
            *labels = labels.join(&stricter);
        }
        prop_assert!(!GATE.ask(&strict).allowed || GATE.ask(&request).allowed);
    }

    /// A record whose signature nobody verified may refuse, and allows nothing that would be refused without it.
    #[test]
    fn an_unverified_record_never_allows_more(request in any_request()) {
        let unverified = Request { verified_records: Default::default(), ..request.clone() };
        let without = Request { recorded: Default::default(), ..unverified.clone() };
        prop_assert!(!GATE.ask(&unverified).allowed || GATE.ask(&without).allowed);
        prop_assert!(!GATE.ask(&unverified).allowed || GATE.ask(&request).allowed);
    }

    /// A further description of the same bytes, or of where they lie, under whatever name and by whomever, never allows more.
    #[test]
    fn another_name_for_the_same_bytes_never_allows_more(one in mild(), other in labels(), own in any::<bool>(), place in any::<bool>()) {
        let digest = Sha256Digest::of(b"bytes");
        // Facts refuse a licence that contradicts its flag.
        let fits = |labels: Labels| match labels.licences.names.contains("CC-BY-NC-4.0") {
            true => Labels { commercial_use: Some(false), ..labels },
            false => labels,
        };
        let (one, other) = (fits(one), fits(other));
        let table = |name: &str, labels: &Labels| {
            let known = if place { "path = \"data/x\"".to_owned() } else { format!("sha256 = \"{digest}\"") };
            Source::new(format!("{name}.toml"), format!("[data.{name}]\n{known}\n{}", toml::to_string(labels).unwrap()))
        };
        let home = luxembourg("facts.toml");
        let with = |files: &[Source]| GATE.with_facts(Facts::parse(files).unwrap());
        let less = with(&[home.clone(), table("one", &one)]);
        let more = match own {
            true => GATE.with_facts(less.facts().clone().with_own(&[table("other", &other)]).unwrap()),
            false => with(&[home, table("one", &one), table("other", &other)]),
        };
        let mut asked = toml::from_str::<Request>(
            "who = \"person:engineer\"\naction = \"train\"\nartefact = \"checkpoint:c\"\nsite = \"meluxina\"\nconfinement = \"landlock\"\n\
             purpose = \"public-administration\"\nday = 2026-11-22\nmade = { \"checkpoint:c\" = [\"data:one\"] }\n",
        ).unwrap();
        let name: Name = "data:one".parse().unwrap();
        asked.digests.insert(name.clone(), digest);
        asked.paths.insert(name, "data/x".to_owned());
        let (before, after) = (less.ask(&asked), more.ask(&asked));
        prop_assert!(!after.allowed || before.allowed);
        prop_assert!(after.labels.at_least(&one) && after.labels.at_least(&other));
        // Whatever the bytes are called: a name that nothing describes gets the same labels.
        let renamed = serde_json::to_string(&asked).unwrap().replace("data:one", "data:copy");
        prop_assert_eq!(more.ask(&serde_json::from_str(&renamed).unwrap()).labels, after.labels);
    }

    #[test]
    fn readers_never_panic(text in prop_oneof![".{0,200}", fragments()]) {
        let source = [Source::new("any", text.as_str())];
        let _ = (Rules::parse(&source).is_ok(), Facts::parse(&source).is_ok(), Cases::parse(&source[0]).is_ok());
        let _ = (PolicySet::parse(&source).is_ok(), text.parse::<Day>().is_ok(), text.parse::<Name>().is_ok());
        let _ = (Manifest::of(&[Source::new(text.as_str(), "")]).is_ok(), Demands::parse(&source[0]).is_ok());
        let _ = GATE.facts().clone().with_own(&source).is_ok();
        let _ = (serde_json::from_str::<Request>(&text).is_ok(), toml::from_str::<Labels>(&text).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// What an explanation offers for a request is true: with that change the answer is the other one.
    #[test]
    fn offered_circumstances_turn_the_answer(request in near()) {
        let explanation = explain(&GATE, &request);
        for change in explanation.changes {
            let mut other = request.clone();
            match change.what.as_str() {
                "purpose" => other.purpose = Some(change.to),
                "who asks" => other.who = change.to.parse().unwrap(),
                "measured confinement" => other.confinement = Confinement::ALL.into_iter().find(|level| level.to_string() == change.to),
                "site" => other.site = change.to.split(' ').next().unwrap_or_default().to_owned(),
                _ => continue,
            }
            prop_assert_ne!(GATE.ask(&other).allowed, explanation.decision.allowed);
        }
    }
}

/// The properties above speak of permissions, too: enough of what is generated is allowed.
#[test]
fn some_generated_requests_are_allowed() {
    let strategy = near();
    let mut runner = TestRunner::deterministic();
    let allowed = (0..4000).filter(|_| GATE.ask(&strategy.new_tree(&mut runner).expect("a request").current()).allowed).count();
    assert!(allowed >= 400, "{allowed} of 4000");
}

/// Texts made of what rules, facts and cases are made of.
fn fragments() -> impl Strategy<Value = String> {
    let words = vec![
        "permit",
        "forbid",
        "(",
        ")",
        "principal",
        ",",
        "action",
        "resource",
        ";",
        "when",
        "unless",
        "{",
        "}",
        "@id",
        "\"a\"",
        "==",
        "in",
        "[",
        "]",
        "resource.residency",
        ".",
        "has",
        "&&",
        "||",
        "!",
        "if",
        "then",
        "else",
        "Action::\"train\"",
        "true",
        "9223372036854775808",
        "-",
        "datetime",
        "?principal",
        "[data.a]",
        "\n",
        "=",
        "residency",
        "\"LU\"",
        "expires",
        "2026-11-22",
        "[[case]]",
        "[usual]",
        "é",
        "\0",
        "//",
        "is",
        "like",
    ];
    proptest::collection::vec(select(words), 0..40).prop_map(|words| words.join(" "))
}

//! What a guard lets pass: the action and the artefact that were asked about, by a set that the place takes.

mod common;

use common::{bare, request};
use sirocco_policy::{
    Admitted, Confinement, Demands, Guarded, Manifest, Name, NotTaken, PolicySet, Refused, ReplayError, Request, SetError,
    Sha256Digest, Signature, Signer, Source, verb,
};

struct Plan {
    checkpoint: Name,
}

impl Guarded for Plan {
    fn artefact(&self) -> &Name {
        &self.checkpoint
    }
}

fn train(plan: Admitted<verb::Train, Plan>) -> Name {
    plan.into_parts().0.checkpoint
}

const RULES: &str = "@id(\"staff\")\npermit(principal, action, resource) when { principal.roles.contains(\"staff\") };";
const FACTS: &str = "[person.a]\nroles = [\"staff\"]\n[site.strict]\nsigned_policies = true\n[site.bissen]\n";
const CASE: &str = "[[case]]\nname = \"n\"\nexpect = \"allow\"\nwho = \"person:a\"\naction = \"train\"\nartefact = \"checkpoint:c\"\n\
    site = \"strict\"\nday = 2026-11-22\n";

fn files() -> Vec<Source> {
    [bare("policy.cedar", RULES), bare("facts.toml", FACTS), bare("cases.toml", CASE), bare("README.md", "words")].concat()
}

fn signature(files: &[Source]) -> Signature {
    let signer = Signer { name: "ministry".to_owned(), key: "ab:cd".to_owned() };
    Signature { signer, covers: Manifest::of(files).expect("a manifest") }
}

fn set() -> PolicySet {
    PolicySet::parse(&files()).unwrap_or_else(|error| panic!("{error}"))
}

fn signed() -> PolicySet {
    PolicySet::parse_signed(&files(), signature(&files())).unwrap_or_else(|error| panic!("{error}"))
}

fn plan() -> Plan {
    Plan { checkpoint: "checkpoint:c".parse().expect("a name") }
}

fn demands(text: &str) -> Demands {
    Demands::parse(&Source::new("configs/sites/here.toml", text)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn only_what_was_asked_about_is_admitted() {
    let guard = set().guard(&[]).unwrap();
    let asked = request("train", "checkpoint:c", "bissen");
    assert_eq!(train(guard.admit(&asked, plan()).unwrap()), asked.artefact);
    let words = |refused: Refused| {
        assert!(!refused.decision.allowed);
        refused.to_string()
    };
    let resume: Result<Admitted<verb::Resume, _>, _> = guard.admit(&asked, plan());
    let error = words(resume.map(drop).unwrap_err());
    assert!(error.contains("it was asked about train: expected resume, which is what is to be done"), "{error}");
    let other = Plan { checkpoint: "checkpoint:other".parse().unwrap() };
    let error = words(guard.admit::<verb::Train, _>(&asked, other).map(drop).unwrap_err());
    assert!(error.contains("it was asked about checkpoint:c: expected checkpoint:other, which is what is at hand"), "{error}");
    let planned = Request { planned: true, ..asked.clone() };
    assert!(guard.gate().ask(&planned).allowed);
    let error = words(guard.admit::<verb::Train, _>(&planned, plan()).map(drop).unwrap_err());
    assert!(error.contains("a plan was asked about"), "{error}");
    let guest = Request { who: "person:guest".parse().unwrap(), confinement: Some(Confinement::Site), ..asked };
    assert!(guard.admit::<verb::Train, _>(&guest, plan()).is_err());
}

#[test]
fn an_unsigned_set_is_refused_where_the_place_demands_a_signature() {
    let strict = demands("signed_policies = true\n");
    let error = set().guard(std::slice::from_ref(&strict)).map(drop).unwrap_err();
    assert!(matches!(&error, NotTaken::Unsigned { said_in } if said_in == "configs/sites/here.toml"), "{error}");
    assert!(error.to_string().starts_with("configs/sites/here.toml demands signed policies"), "{error}");
    // Of several places each counts.
    assert!(set().guard(&[demands(""), demands("signed_policies = false\n")]).is_ok());
    assert!(set().guard(&[demands(""), strict.clone()]).is_err());
    let guard = signed().guard(&[strict]).unwrap();
    let admitted = guard.admit::<verb::Train, _>(&request("train", "checkpoint:c", "bissen"), plan()).unwrap();
    assert_eq!(admitted.decision().signed_by.as_ref().map(|signer| signer.name.as_str()), Some("ministry"));
}

/// What the set says of its sites is an addition: it holds for its own unsigned copies, and switches nothing off.
#[test]
fn a_set_may_demand_its_own_signature_and_take_no_demand_away() {
    let asked = request("train", "checkpoint:c", "strict");
    let guard = set().guard(&[]).unwrap();
    let refused = guard.admit::<verb::Train, _>(&asked, plan()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("site:strict takes only signed policies"), "{refused}");
    assert!(!guard.gate().ask(&asked).allowed, "it is said before queueing, too");
    assert!(signed().guard(&[]).unwrap().admit::<verb::Train, _>(&asked, plan()).is_ok());
    // Trying cases needs no signature: nothing is done.
    assert!(set().cases().run(set().gate()).iter().all(|outcome| outcome.differences.is_empty()));
    let silent = [bare("policy.cedar", RULES), bare("facts.toml", "[site.strict]\nsigned_policies = false\n")].concat();
    assert!(PolicySet::parse(&silent).unwrap().guard(&[demands("signed_policies = true\n")]).is_err());
    // Nor can a user's own file.
    let error = set().with_own(&bare("own.toml", "[site.strict]\nsigned_policies = false\n")).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("own.toml:1:2: unknown field `site`"), "{error}");
}

#[test]
fn a_place_may_demand_one_version_of_a_set() {
    let pinned = demands(&format!("signed_policies = true\npolicy_set = \"{}\"\n", set().digest()));
    assert!(signed().guard(std::slice::from_ref(&pinned)).is_ok());
    let mut older = files();
    older[1].text.push_str("[site.elsewhere]\n");
    let older = PolicySet::parse_signed(&older, signature(&older)).unwrap();
    assert!(matches!(older.guard(&[pinned]), Err(NotTaken::Other { .. })));
}

#[test]
fn files_that_are_not_as_signed_are_named() {
    let refused = |files: &[Source], covers: &[Source]| match PolicySet::parse_signed(files, signature(covers)) {
        Err(error @ SetError::NotAsSigned { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(drop)),
    };
    let mut changed = files();
    changed[0].text.push('\n');
    assert!(refused(&changed, &files()).contains("signed by ministry (ab:cd)"));
    assert!(refused(&changed, &files()).ends_with("changed: policy.cedar"));
    // A file of rules that is left out could be the one that forbids; one that is added could permit.
    let more = [files(), bare("more.cedar", "@id(\"all\")\npermit(principal, action, resource);")].concat();
    assert!(refused(&files(), &more).ends_with("missing: more.cedar"));
    assert!(refused(&more, &files()).ends_with("not listed: more.cedar"));
    // What is no part of the set is for whoever verified the directory to compare.
    assert!(PolicySet::parse_signed(&files()[..3], signature(&files())).is_ok());
    let names = [files(), bare("../facts.toml", "")].concat();
    assert!(matches!(PolicySet::parse(&names), Err(SetError::Files(_))));
}

#[test]
fn the_digest_of_a_set_is_over_names_and_bytes() {
    let digest = set().digest();
    assert_eq!(digest, signed().digest());
    assert_eq!(
        digest,
        set().with_own(&bare("own.toml", "[data.mine]\npath = \"a\"\n")).unwrap().digest(),
        "own facts are no part"
    );
    let mut renamed = files();
    renamed[1].name = "more.toml".to_owned();
    assert_ne!(digest, PolicySet::parse(&renamed).unwrap().digest());
    assert_ne!(digest, Sha256Digest::of(b""));
}

#[test]
fn a_decision_says_whose_rules_it_was_made_by() {
    let asked = request("train", "checkpoint:c", "bissen");
    let (with, without) = (signed().guard(&[]).unwrap(), set().guard(&[]).unwrap());
    let decision = with.gate().ask(&asked);
    assert_eq!(with.gate().replay(&decision, &asked), Ok(()));
    let error = without.gate().replay(&decision, &asked).unwrap_err();
    assert!(matches!(error, ReplayError::Digest { what: "signer of the set", .. }), "{error}");
    assert_eq!(error.to_string(), "signer of the set: the decision was made with ministry (ab:cd), here is nobody");
    assert_eq!(serde_json::from_str::<sirocco_policy::Decision>(&serde_json::to_string(&decision).unwrap()).unwrap(), decision);
}

#[test]
fn demands_that_cannot_be_read() {
    for (text, words) in
        [("signed_policy = true", "unknown field"), ("signed_policies = 1", "expected a boolean"), ("policy_set = \"x\"", "64")]
    {
        let error = Demands::parse(&Source::new("site.toml", text)).unwrap_err().to_string();
        assert!(error.starts_with("site.toml:1:") && error.contains(words), "{error}");
    }
}

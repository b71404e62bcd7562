//! Rules: Cedar policies that fit the schema, each with a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use crate::bounds;
use crate::decision::{Effect, RuleRef};
use crate::digest::{Sha256Digest, of_texts};
use crate::error::PolicyError;
use crate::reads::Reads;
use crate::request::Action;
use crate::source::{Place, Source};

/// What rules may speak of, in Cedar's schema language.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// What a rule may carry besides its `@id`.
const ANNOTATIONS: [&str; 3] = ["id", "advice", "source"];

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Name, effect, advice and place.
    pub named: RuleRef,
    /// Its text, with its annotations.
    pub text: String,
    /// Its `@source`: the law or order that it comes from.
    pub source: Option<String>,
    /// The actions that it is about.
    pub actions: BTreeSet<Action>,
    pub(crate) reads: Reads,
}

/// Rules that have been checked against the schema.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(crate) set: PolicySet,
    rules: BTreeMap<String, Rule>,
    digest: Sha256Digest,
}

impl Rules {
    /// Reads rules from one or several files.
    ///
    /// # Errors
    /// Text that is not Cedar, a rule without `@id` or with one that another has, a rule that contradicts the schema, can never apply or
    /// asks `has`.
    pub fn parse(sources: &[Source]) -> Result<Rules, PolicyError> {
        let mut rules: BTreeMap<String, (Rule, Policy)> = BTreeMap::new();
        for source in sources {
            for (rule, policy) in read(source)? {
                if let Some((first, _)) = rules.get(&rule.named.id) {
                    let first = first.named.at.clone();
                    return Err(PolicyError::DuplicateId { at: rule.named.at, rule: rule.named.id, first });
                }
                rules.insert(rule.named.id.clone(), (rule, policy));
            }
        }
        if rules.is_empty() {
            let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
            return Err(PolicyError::NoRules { file: names.join(", ") });
        }
        let policies = rules.values().map(|(_, policy)| policy.clone());
        let set = PolicySet::from_policies(policies).map_err(|error| PolicyError::Broken { message: error.to_string() })?;
        let rules = rules.into_iter().map(|(id, (rule, _))| (id, rule)).collect();
        let digest = format!("{}\n{}\n", Sha256Digest::of(SCHEMA.as_bytes()), of_texts(sources));
        let rules = Rules { set, rules, digest: Sha256Digest::of(digest.as_bytes()) };
        rules.validate(sources)?;
        Ok(rules)
    }

    /// The digest of the schema and of the texts that these rules were read from.
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// Every rule, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    /// The rule with this `@id`.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id)
    }

    fn validate(&self, sources: &[Source]) -> Result<(), PolicyError> {
        let result = Validator::new(schema()?).validate(&self.set, ValidationMode::Strict);
        // A warning says that a rule can never apply or that its text deceives the eye.
        let errors = result.validation_errors().map(|error| self.contradiction(sources, error.policy_id(), error));
        let warnings = result.validation_warnings().map(|warning| self.contradiction(sources, warning.policy_id(), warning));
        // What has a place of its own says more than what is said of a whole rule, which is often its consequence.
        let first = errors.chain(warnings).min_by(|(exact_a, a, _), (exact_b, b, _)| exact_b.cmp(exact_a).then_with(|| a.cmp(b)));
        first.map_or(Ok(()), |(_, _, error)| Err(error))
    }

    /// Whether it has a place of its own, the place, and the error.
    fn contradiction(&self, sources: &[Source], id: &PolicyId, diagnostic: &dyn Diagnostic) -> (bool, Place, PolicyError) {
        let id: &str = id.as_ref();
        let rule = self.rules.get(id).map(|rule| rule.named.at.clone());
        let source = rule.as_ref().and_then(|at| sources.iter().find(|source| source.name == at.file));
        let exact = source.zip(offset(diagnostic)).map(|(source, offset)| source.place(offset));
        // Cedar gives the beginning of a rule as the place of what concerns all of it.
        let is_exact = exact.is_some() && exact != rule;
        let at = exact.or(rule).unwrap_or(Place { file: String::new(), line: 1, column: 1 });
        let help = diagnostic.help().map(|help| help.to_string());
        // Cedar's message begins with the name, which ours says already.
        let message = diagnostic.to_string();
        let message = message.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(&message).to_owned();
        (is_exact, at.clone(), PolicyError::Schema { at, rule: id.to_owned(), message, help })
    }
}

/// The schema that is embedded in this program.
pub(crate) fn schema() -> Result<Schema, PolicyError> {
    SCHEMA.parse().map_err(|error: cedar_policy::CedarSchemaError| PolicyError::Broken { message: error.to_string() })
}

fn offset(diagnostic: &dyn Diagnostic) -> Option<usize> {
    diagnostic.labels()?.next().map(|label| label.offset())
}

/// Reads one file's rules in the order of the file.
fn read(source: &Source) -> Result<Vec<(Rule, Policy)>, PolicyError> {
    bounds::check(source)?;
    let set: PolicySet = source.text.parse().map_err(|errors: cedar_policy::ParseErrors| syntax(source, &errors))?;
    if let Some(template) = set.templates().next() {
        let at = source.place(source.text.find(&template.to_cedar()).unwrap_or(0));
        let expected = "a rule that names whom it is about, or everybody".to_owned();
        return Err(PolicyError::Form {
            at,
            rule: template.id().to_string(),
            found: "a template with a slot".to_owned(),
            expected,
        });
    }
    // Cedar numbers policies in the order of the text: policy0, policy1 and so on.
    let number = |policy: &Policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX);
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy));
    let mut cursor = 0;
    let mut rules = Vec::with_capacity(policies.len());
    for policy in policies {
        let text = policy.to_cedar().unwrap_or_default();
        let start = source.text.get(cursor..).and_then(|rest| rest.find(&text)).map_or(cursor, |found| cursor + found);
        cursor = start + text.len();
        rules.push(rule(policy, text, source.place(start))?);
    }
    Ok(rules)
}

fn syntax(source: &Source, errors: &cedar_policy::ParseErrors) -> PolicyError {
    let placed = errors.iter().map(|error| (offset(error).unwrap_or(0), error)).min_by_key(|(offset, _)| *offset);
    let Some((offset, error)) = placed else {
        return PolicyError::Syntax { at: source.place(0), message: errors.to_string(), expected: None };
    };
    let label = error.labels().and_then(|mut labels| labels.next()).and_then(|label| label.label().map(str::to_owned));
    let help = error.help().map(|help| help.to_string());
    let expected: Vec<_> = [label, help].into_iter().flatten().collect();
    let expected = (!expected.is_empty()).then(|| expected.join("; "));
    PolicyError::Syntax { at: source.place(offset), message: error.to_string(), expected }
}

/// Gives a policy its own name, and refuses forms that the gate does not take.
fn rule(policy: &Policy, text: String, at: Place) -> Result<(Rule, Policy), PolicyError> {
    let id = policy.annotation("id").unwrap_or_default().to_owned();
    if id.is_empty() {
        return Err(PolicyError::NoId { at });
    }
    let form = |found: String, expected: &str| PolicyError::Form {
        at: at.clone(),
        rule: id.clone(),
        found,
        expected: expected.to_owned(),
    };
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(form("its @id".to_owned(), "letters, digits, - _ and . alone"));
    }
    if let Some((unknown, _)) = policy.annotations().find(|(name, _)| !ANNOTATIONS.contains(name)) {
        return Err(form(format!("@{unknown}"), "only @id, @advice and @source"));
    }
    let json = policy.to_json().map_err(|error| form(error.to_string(), "a rule that Cedar can write as JSON"))?;
    let reads = Reads::of(&json);
    if let Some(path) = reads.has.first() {
        let found = format!("`has` is asked of {path}");
        let expected = "no test of whether a fact is there: one that is missing always refuses, and a rule must not hide that \
                        (only `context has node` may be asked)";
        return Err(form(found, expected));
    }
    let effect = if policy.effect() == cedar_policy::Effect::Permit { Effect::Permit } else { Effect::Forbid };
    let annotation = |name: &str| policy.annotation(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let named = RuleRef { id: id.clone(), effect, advice: annotation("advice"), at };
    let rule = Rule { named, text, source: annotation("source"), actions: actions(&policy.action_constraint()), reads };
    Ok((rule, policy.new_id(PolicyId::new(id))))
}

/// The actions that a scope names; an unknown one is found by the validator.
fn actions(constraint: &ActionConstraint) -> BTreeSet<Action> {
    let named = |uid: &EntityUid| {
        let id: &str = uid.id().unescaped();
        Action::ALL.into_iter().find(|action| action.word() == id)
    };
    match constraint {
        ActionConstraint::Any => Action::ALL.into(),
        ActionConstraint::In(uids) => uids.iter().filter_map(named).collect(),
        ActionConstraint::Eq(uid) => named(uid).into_iter().collect(),
    }
}

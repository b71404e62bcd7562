//! `sirocco policy explain`: the rules and facts behind an answer, and what would turn it.
use std::path::Path;

use sirocco_custody::ReadSet;
use sirocco_policy::{Explanation, Request, RuleRef, explain};

use super::Subject;
use crate::cli::PolicyExplain;
use crate::failure::{Failure, Kind};
use crate::gate::account;
use crate::output;
use crate::output::line;

pub(super) fn run(arguments: &PolicyExplain) -> Result<(), Failure> {
    let explanation = match (&arguments.request, &arguments.run) {
        (Some(file), _) => of_request(file, arguments)?,
        (None, Some(run)) => of_run(run, arguments)?,
        (None, None) => return Err(Failure::usage("expected a run, or --request FILE")),
    };
    if arguments.json { output::json(&explanation) } else { print(&explanation) }
}

fn of_run(run: &Path, arguments: &PolicyExplain) -> Result<Explanation, Failure> {
    let subject = Subject::read(run, &arguments.overrides)?;
    let action = arguments.action.unwrap_or_else(|| subject.usual());
    let question = subject.policy.question(action, &subject.data, subject.path())?;
    let custody = subject.policy.custody();
    Ok(explain(custody.gate(), &custody.request(question)))
}

fn of_request(file: &Path, arguments: &PolicyExplain) -> Result<Explanation, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::usage(format_args!("{}: cannot be read: {error}", file.display())))?;
    let request: Request = serde_json::from_str(&text).map_err(|error| {
        let failure = Failure::new(Kind::Usage, format_args!("{}:{}: not a request: {error}", file.display(), error.line()));
        failure.help("the fact `request` of a ledger's entry is one")
    })?;
    let (policy, facts) = (&arguments.policy.policy, &arguments.policy.facts);
    let read = ReadSet::read(policy, facts, account::trust_for_sets(None, None)?.as_ref())?;
    // It was decided elsewhere, perhaps: its places are those of then and there.
    let set = read.set.with_places(|written| request.places.get(written).map_or(written, String::as_str).to_owned());
    Ok(explain(set.gate(), &request))
}

fn print(explanation: &Explanation) -> Result<(), Failure> {
    let decision = &explanation.decision;
    let answer = if decision.allowed { "allowed" } else { "refused" };
    line(format_args!("{} {} by {}: {answer}", decision.action, decision.artefact, decision.who))?;
    for rule in &explanation.rules {
        line(format_args!("\nrule {} ({})", rule.rule.id, rule.rule.at))?;
        rule.text.lines().try_for_each(|text| line(format_args!("  {text}")))?;
        for fact in &rule.facts {
            line(format_args!("  {} of {}: {}", fact.name, fact.about, fact.value))?;
        }
        rule.missing.iter().try_for_each(|missing| line(format_args!("  not known: {missing}")))?;
        // What to do about a refusal.
        let mut advice = rule.rule.advice.iter().filter(|_| !decision.allowed);
        advice.try_for_each(|advice| line(format_args!("  advice: {advice}")))?;
        rule.source.iter().try_for_each(|source| line(format_args!("  source: {source}")))?;
    }
    list("wrong", decision.faults.iter().cloned())?;
    list("assumed until it is measured", decision.assumed.iter().cloned())?;
    if !decision.allowed && explanation.rules.is_empty() {
        let advised = |rule: &RuleRef| rule.advice.as_ref().map_or_else(String::new, |advice| format!(": {advice}"));
        let could = decision.could_permit.iter().map(|rule| format!("{} ({}){}", rule.id, rule.at, advised(rule)));
        list("no rule permits it; these could", could)?;
    }
    if explanation.changes.is_empty() && !decision.allowed {
        let missing = if decision.missing.is_empty() { "" } else { "; what is not known comes first" };
        return line(format_args!("\nno single change of those that were tried would turn the answer{missing}"));
    }
    let changes = explanation.changes.iter().map(|change| format!("{}: {} → {}", change.what, change.from, change.to));
    list("each of these alone would turn the answer", changes)
}

fn list(title: &str, items: impl Iterator<Item = String>) -> Result<(), Failure> {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return Ok(());
    }
    line(format_args!("\n{title}:"))?;
    items.try_for_each(|item| line(format_args!("  {item}")))
}

//! `sirocco policy check`: may this run be trained, as far as anybody can say before it is queued?
use serde::Serialize;
use sirocco_policy::Decision;

use super::Subject;
use crate::cli::PolicyCheck;
use crate::failure::Failure;
use crate::gate::RunPolicy;
use crate::output;

/// The fields of `--json`, in their order; those of the decision follow.
#[derive(Serialize)]
struct Allowed<'a> {
    set: String,
    site: &'a str,
    #[serde(flatten)]
    decision: &'a Decision,
}

pub(super) fn run(arguments: &PolicyCheck) -> Result<(), Failure> {
    let subject = Subject::read(&arguments.run, &arguments.overrides)?;
    let decision = subject.policy.plan(subject.usual(), &subject.data, subject.path())?;
    subject.policy.may_prepare(&subject.data)?;
    let custody = subject.policy.custody();
    if arguments.json {
        let set = custody.set().path.display().to_string();
        return output::json(&Allowed { set, site: custody.site(), decision: &decision });
    }
    output::line(format_args!("{}: {}", decision.artefact, words(&subject.policy, &decision)))?;
    decision.assumed.iter().try_for_each(|assumed| output::line(format_args!("assumed: {assumed}")))
}

/// Which rules of which set allow it.
pub(crate) fn words(policy: &RunPolicy, decision: &Decision) -> String {
    let rules: Vec<&str> = decision.rule_ids().collect();
    let signed = decision.signed_by.as_ref().map_or_else(String::new, |signer| format!(", signed by {}", signer.name));
    format!("{} allowed by {} (set {}{signed})", decision.action, rules.join(", "), policy.custody().set().path.display())
}

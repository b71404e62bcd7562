//! The words and exit codes of what goes wrong around an action.
use sirocco_custody::{Class, CustodyError};
use sirocco_ledger::LedgerError;
use sirocco_policy::{Decision, NotTaken};
use sirocco_signing::Error as SigningError;

use crate::failure::{Failure, Kind};
use crate::output::count;

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Failure {
        let kind = match error.class() {
            Class::Policy => Kind::Policy,
            Class::Usage => Kind::Usage,
            Class::File => Kind::Input,
            Class::Machine => Kind::Machine,
            Class::Running => Kind::Failed,
        };
        let help = match &error {
            CustodyError::Refused(decision) => return refused(decision),
            CustodyError::NotBelieved { keys, .. } => {
                let help =
                    format!("copy {}/release.pub there, with the role \"checkpoint\" if there is a roles.json", keys.display());
                return Failure::new(kind, error).help(help);
            }
            CustodyError::NotTaken { why: NotTaken::Other { .. }, .. } => {
                "name the set that is demanded; sirocco policy sign prints the digest of one"
            }
            CustodyError::NotTaken { .. } => "whoever answers for the rules signs them: sirocco policy sign DIR --key KEY",
            CustodyError::NoSet { .. } => "sirocco policy init DIR --from luxembourg-public makes a set to start from",
            CustodyError::Set { .. } => "correct the set, then sirocco policy test DIR; docs/policy.md says what may stand there",
            CustodyError::SetChanged { .. } => "put the files back that were signed, or have the set signed again",
            CustodyError::OtherKey { .. } => {
                "bring back the keys that sealed it, or begin in another directory: a ledger has one key for ever"
            }
            CustodyError::KeysGone { .. } => {
                "put them back from a copy; sirocco keys new DIR makes others, for a ledger that begins in another directory"
            }
            CustodyError::OtherRules { .. } => {
                "put it back as it was: a run keeps the rules that it began with; under others, begin a new one"
            }
            CustodyError::Record { .. } => "fetch the directory again from whoever published it",
            CustodyError::Ledger(LedgerError::Damaged { .. }) => "keep the directory as it is: it is evidence",
            CustodyError::Signing(SigningError::KeyMissing { .. }) => "sirocco keys new DIR makes a pair",
            CustodyError::Signing(SigningError::KeyExposed { .. }) => "chmod 600 makes it yours alone",
            CustodyError::Signing(SigningError::UnknownKey { .. }) => {
                "[policy] trust names a directory with the public keys that are believed"
            }
            CustodyError::Signing(_) if error.class() == Class::File => "use a copy that is as it was when it was signed",
            _ => return Failure::new(kind, error),
        };
        Failure::new(kind, error).help(help)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        CustodyError::from(error).into()
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Failure {
        CustodyError::from(error).into()
    }
}

/// Facts that are not known and are named in a refusal; an explanation names all.
const NAMED: usize = 3;

/// A refusal: the rules that forbid, or the facts that are not known, with the advice that fits.
fn refused(decision: &Decision) -> Failure {
    let Decision { action, artefact, who, rules, missing, faults, .. } = decision;
    let mut reasons: Vec<String> = faults.clone();
    reasons.extend(rules.iter().map(|rule| format!("rule {}", rule.id)));
    reasons.extend(missing.iter().take(NAMED).map(|missing| format!("not known: {missing}")));
    if missing.len() > NAMED {
        reasons.push(format!("and {} more facts that are not known", missing.len() - NAMED));
    }
    if let (Some(first), others) = (decision.unanswered.first(), decision.unanswered.len().saturating_sub(1)) {
        let others = if others == 0 { String::new() } else { format!(" and {}", count(others as u64, "other rule")) };
        reasons.push(format!("asked for by rule {}{others}", first.id));
    }
    if reasons.is_empty() {
        reasons.push(decision.nothing_permits());
    }
    let failure = Failure::new(Kind::Policy, format_args!("{action} {artefact} by {who}: refused ({})", reasons.join("; ")));
    let mut advice: Vec<&str> = decision.to_heed().filter_map(|rule| rule.advice.as_deref()).collect();
    if !missing.is_empty() {
        advice.push("What is not known is for facts to say: those of the set, or a file of your own in [policy] facts.");
    }
    advice.push("sirocco policy explain RUN.toml shows rules and facts, and what would turn the answer");
    failure.help(advice.join(" "))
}

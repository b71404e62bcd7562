//! The words and exit codes of what goes wrong around an action.
use sirocco_custody::CustodyError;
use sirocco_files::FilesError;
use sirocco_ledger::LedgerError;
use sirocco_policy::Decision;
use sirocco_signing::Error as SigningError;

use crate::failure::{Failure, Kind};
use crate::output::count;

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Failure {
        let (kind, help) = match error {
            CustodyError::Refused(decision) => return refused(&decision),
            CustodyError::Signing(error) => return Failure::from(error),
            CustodyError::Ledger(error) => return Failure::from(error),
            CustodyError::NotTaken { .. } => {
                (Kind::Policy, "whoever answers for the rules signs them: sirocco policy sign DIR --key KEY")
            }
            CustodyError::NoSet { .. } => {
                (Kind::Usage, "sirocco policy init DIR --from luxembourg-public makes a set to start from")
            }
            CustodyError::Set { .. } => {
                (Kind::Usage, "correct the set, then sirocco policy test DIR; docs/policy.md says what may stand there")
            }
            CustodyError::SetChanged { .. } => (Kind::Input, "put the files back that were signed, or have the set signed again"),
            CustodyError::File(FilesError::Io { .. }) | CustodyError::Io { .. } => return Failure::new(Kind::Failed, error),
            CustodyError::File(_) => return Failure::new(Kind::Input, error),
            CustodyError::OtherKey { .. } => {
                (Kind::Input, "bring back the keys that sealed it, or begin in another directory: a ledger has one key for ever")
            }
            CustodyError::Record { .. } => (Kind::Input, "fetch the directory again from whoever published it"),
        };
        Failure::new(kind, error).help(help)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        match error {
            LedgerError::Damaged { .. } => Failure::new(Kind::Input, error).help("keep the directory as it is: it is evidence"),
            _ => Failure::new(Kind::Failed, error),
        }
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Failure {
        match error {
            SigningError::Io { .. } => Failure::new(Kind::Failed, error),
            SigningError::KeyMissing { .. } => Failure::usage(error).help("sirocco keys new DIR makes a pair"),
            SigningError::KeyExists { .. } | SigningError::BadKeyName { .. } | SigningError::BadTrust { .. } => {
                Failure::usage(error)
            }
            SigningError::KeyExposed { .. } => Failure::usage(error).help("chmod 600 makes it yours alone"),
            SigningError::UnknownKey { .. } => {
                Failure::new(Kind::Input, error).help("[policy] trust names a directory with the public keys that are believed")
            }
            _ => Failure::new(Kind::Input, error),
        }
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
        reasons.push("no rule permits it".to_owned());
    }
    let failure = Failure::new(Kind::Policy, format_args!("{action} {artefact} by {who}: refused ({})", reasons.join("; ")));
    let mut advice: Vec<&str> = rules.iter().filter_map(|rule| rule.advice.as_deref()).collect();
    if !missing.is_empty() {
        advice.push("What is not known is for facts to say: those of the set, or a file of your own in [policy] facts.");
    }
    advice.push("sirocco policy explain RUN.toml shows rules and facts, and what would turn the answer");
    failure.help(advice.join(" "))
}

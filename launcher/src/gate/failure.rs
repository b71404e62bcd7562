//! The words and exit codes of what goes wrong around an action.
use sirocco_custody::CustodyError;
use sirocco_files::FilesError;
use sirocco_ledger::LedgerError;
use sirocco_policy::Decision;
use sirocco_signing::Error as SigningError;

use crate::failure::{Failure, Kind};

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

/// A refusal with the advice of its rules.
fn refused(decision: &Decision) -> Failure {
    let asked = "sirocco policy explain RUN.toml shows rules and facts, and what would turn the answer";
    let mut advice: Vec<&str> =
        decision.rules.iter().chain(&decision.unanswered).filter_map(|rule| rule.advice.as_deref()).collect();
    advice.dedup();
    let unanswered: Vec<String> = decision.unanswered.iter().map(|rule| format!("rule {}", rule.id)).collect();
    let because = if unanswered.is_empty() { String::new() } else { format!(", which {} needs", unanswered.join(", ")) };
    let failure = Failure::new(Kind::Policy, format_args!("{decision}{because}"));
    if advice.is_empty() {
        return failure.help(asked);
    }
    failure.help(format_args!("{} ({asked})", advice.join(" ")))
}

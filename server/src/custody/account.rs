//! What an account has everywhere on a machine: keys and a ledger.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;

use sirocco_config::{environment, places};
use sirocco_custody::{Account, Keys};
use tracing::info;

use crate::failure::Failure;

/// The account's keys, which are made at first need.
pub(super) fn keys() -> Result<Keys, Failure> {
    let path = places::keys().ok_or(Failure::NoHome { what: "keys", variable: environment::CONFIG_HOME.name })?;
    let (keys, made) = Keys::read_or_create(&path, &Account::own(None).name).map_err(Failure::Account)?;
    if made {
        info!(path = %path.display(), "made the keys of this account: they sign its ledger and what it exports");
    }
    Ok(keys)
}

/// The directory of the account's ledger.
pub(super) fn ledger() -> Result<PathBuf, Failure> {
    places::ledger().ok_or(Failure::NoHome { what: "a ledger", variable: environment::STATE_HOME.name })
}

/// A name for a ledger that is sealed for the first time, which no other has.
pub(super) fn log_name(account: &str) -> String {
    let plain: String = account.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' }).collect();
    format!("sirocco/{plain}/{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logs_fit_their_format_and_differ() {
        let (one, other) = (log_name("MINISTRY\\amal b+c"), log_name("MINISTRY\\amal b+c"));
        assert!(one.starts_with("sirocco/MINISTRY_amal_b_c/") && one.len() == other.len(), "{one}");
        assert_ne!(one, other);
    }
}

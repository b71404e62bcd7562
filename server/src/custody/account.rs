//! What an account has everywhere on a machine: keys and a ledger.

use std::path::PathBuf;

use sirocco_config::{environment, places};
use sirocco_custody::{Account, Keys};
use tracing::info;

use crate::failure::Failure;

/// The account's keys, which are made at first need.
pub(crate) fn keys() -> Result<Keys, Failure> {
    let path = places::keys().ok_or(Failure::NoHome { what: "keys", variable: environment::CONFIG_HOME.name })?;
    let (keys, made) = Keys::for_ledgers(&path, &[ledger()?], &Account::own(None).name).map_err(Failure::Account)?;
    if made {
        info!(path = %path.display(), "made the keys of this account: they sign its ledger and what it exports");
    }
    Ok(keys)
}

/// The directory of the account's ledger.
pub(crate) fn ledger() -> Result<PathBuf, Failure> {
    places::ledger().ok_or(Failure::NoHome { what: "a ledger", variable: environment::STATE_HOME.name })
}

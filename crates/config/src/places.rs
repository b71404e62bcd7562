//! Where an account keeps what belongs to none of its runs, keys and a ledger, and where its libraries are.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::environment::{CONFIG_HOME, HOME, LIBRARIES, STATE_HOME, Variable};

/// The account's keys, unless a run file names others: `sirocco/keys` in `XDG_CONFIG_HOME`, or in `.config` of `HOME`. `None`: neither is set.
pub fn keys() -> Option<PathBuf> {
    within(CONFIG_HOME, ".config", |variable| std::env::var_os(variable.name)).map(|home| home.join("sirocco/keys"))
}

/// The account's ledger: `sirocco/ledger` in `XDG_STATE_HOME`, or in `.local/state` of `HOME`. `None`: neither is set.
pub fn ledger() -> Option<PathBuf> {
    within(STATE_HOME, ".local/state", |variable| std::env::var_os(variable.name)).map(|home| home.join("sirocco/ledger"))
}

/// Directories in which programs look for libraries besides the system's: the absolute ones of `LD_LIBRARY_PATH`.
pub fn libraries() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os(LIBRARIES.name).unwrap_or_default();
    std::env::split_paths(&named).filter(|path| path.is_absolute()).collect::<Vec<_>>().into_iter()
}

/// The XDG Base Directory Specification takes absolute paths only; a relative one counts as not set.
fn within(own: Variable, usual: &str, read: impl Fn(Variable) -> Option<OsString>) -> Option<PathBuf> {
    let path = |variable| read(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    path(own).or_else(|| Some(path(HOME)?.join(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_its_own_goes_before_home() {
        let read = |own: &str, home: &str| {
            let (own, home) = (OsString::from(own), OsString::from(home));
            within(STATE_HOME, ".local/state", move |asked| {
                let value = if asked == STATE_HOME { own.clone() } else { home.clone() };
                (!value.is_empty()).then_some(value)
            })
        };
        assert_eq!(read("/state", "/amal"), Some(PathBuf::from("/state")));
        assert_eq!(read("", "/amal"), Some(PathBuf::from("/amal/.local/state")));
        assert_eq!(read("state", "/amal"), Some(PathBuf::from("/amal/.local/state")));
        assert_eq!(read("", ""), None);
    }
}

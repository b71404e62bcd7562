//! Who runs this process, as the system knows it, and where.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{CustodyError, io};

/// Where accounts of this machine are written down.
const PASSWD: &str = "/etc/passwd";
/// The program that asks a directory service: the system's own, and no other that a search path leads to.
const GETENT: [&str; 2] = ["/usr/bin/getent", "/bin/getent"];

/// The account of the process: not what a variable says, but whose process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name; of a number that nobody has named, `uid-NUMBER`.
    pub name: String,
}

impl Account {
    /// Asks the system. On a cluster accounts come from a directory service, which only `getent` asks, and which a confined process cannot
    /// reach: `told` is what whoever started this process found, and is believed only where the system says nothing.
    pub fn own(told: Option<&str>) -> Account {
        let uid = rustix::process::getuid().as_raw();
        let local = std::fs::read_to_string(PASSWD).ok().and_then(|text| named(&text, uid));
        let name = local.or_else(|| named(&directory_service(uid)?, uid)).or_else(|| told.map(str::to_owned));
        Account { name: name.unwrap_or_else(|| format!("uid-{uid}")) }
    }
}

fn directory_service(uid: u32) -> Option<String> {
    let program = GETENT.into_iter().find(|path| std::path::Path::new(path).is_file())?;
    let mut asked = Command::new(program);
    asked.args(["passwd", &uid.to_string()]).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    String::from_utf8(asked.output().ok()?.stdout).ok()
}

/// The name that lines of passwd(5) give a number.
fn named(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == uid.to_string() && !name.is_empty()).then(|| name.to_owned())
    })
}

/// The machine's name as its kernel knows it.
///
/// # Errors
/// Where /proc is not there.
pub fn host() -> Result<String, CustodyError> {
    let path = PathBuf::from("/proc/sys/kernel/hostname");
    let text = std::fs::read_to_string(&path).map_err(io("read", &path))?;
    Ok(text.trim().to_owned())
}

/// A name for a ledger that is sealed for the first time, which no other has.
pub fn log_name(account: &str) -> String {
    let plain: String = account.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' }).collect();
    format!("sirocco/{plain}/{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_the_name_of_its_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\namal:x:1000:1000::/homes/amal:/bin/sh\n:x:7:7:::\n";
        assert_eq!(named(text, 1000).as_deref(), Some("amal"));
        assert_eq!((named(text, 7), named(text, 100)), (None, None));
        assert!(!Account::own(None).name.is_empty());
        assert!(!host().unwrap().contains('\n'));
    }

    #[test]
    fn names_of_logs_fit_their_format_and_differ() {
        let (one, other) = (log_name("MINISTRY\\amal b+c"), log_name("MINISTRY\\amal b+c"));
        assert!(one.starts_with("sirocco/MINISTRY_amal_b_c/") && one.len() == other.len(), "{one}");
        assert_ne!(one, other);
    }
}

//! Who runs this process, as the system knows it, and where.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{CustodyError, io};

/// Where accounts of this machine are written down.
const PASSWD: &str = "/etc/passwd";
/// What asks the directory service. Named in full: a caller's PATH would let the caller answer.
const GETENT: [&str; 2] = ["/usr/bin/getent", "/bin/getent"];

/// The account of the process: not what a variable says, but whose process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name; of a number that nobody has named, `uid-NUMBER`.
    pub name: String,
}

impl Account {
    /// Asks the system. Believed are, in this order: `/etc/passwd`; the system's own `getent` (in `/usr/bin` or `/bin`, with an empty
    /// environment), because on a cluster accounts come from a directory service that only it asks; and `told`, what whoever started this
    /// process found, because a confined process reaches no directory service. The number of the process itself is the kernel's; of the
    /// caller's variables none is believed.
    pub fn own(told: Option<&str>) -> Account {
        let uid = rustix::process::getuid().as_raw();
        let local = std::fs::read_to_string(PASSWD).ok().and_then(|text| named(&text, uid));
        let name = local.or_else(|| named(&directory_service(uid)?, uid)).or_else(|| told.map(str::to_owned));
        Account { name: name.unwrap_or_else(|| format!("uid-{uid}")) }
    }
}

fn directory_service(uid: u32) -> Option<String> {
    let program = GETENT.into_iter().find(|path| Path::new(path).exists())?;
    String::from_utf8(question(program, uid).output().ok()?.stdout).ok()
}

/// What is asked of `program`; nothing that the caller has set goes with it.
fn question(program: &str, uid: u32) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(["passwd", &uid.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    command
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

/// The release of its kernel.
///
/// # Errors
/// Where /proc is not there.
pub fn kernel() -> Result<String, CustodyError> {
    let path = PathBuf::from("/proc/sys/kernel/osrelease");
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
    fn the_directory_service_is_asked_by_a_full_path_and_with_nothing_of_the_caller() {
        assert!(GETENT.iter().all(|path| Path::new(path).is_absolute()));
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("asked");
        std::fs::write(&script, "#!/bin/sh\n/usr/bin/env\necho \"$@\"\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        // Cargo has set some for this test.
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
        let said = String::from_utf8(question(script.to_str().unwrap(), 7).output().unwrap().stdout).unwrap();
        assert!(said.ends_with("passwd 7\n") && !said.contains("CARGO"), "{said}");
    }

    #[test]
    fn names_of_logs_fit_their_format_and_differ() {
        let (one, other) = (log_name("MINISTRY\\amal b+c"), log_name("MINISTRY\\amal b+c"));
        assert!(one.starts_with("sirocco/MINISTRY_amal_b_c/") && one.len() == other.len(), "{one}");
        assert_ne!(one, other);
    }
}

//! Where the tests run: programs that any user may start, and whom they run as.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sirocco_confine::canary::Canary;
use sirocco_confine::child::{Helper, probe};
use sirocco_confine::{Offer, Paths, environment};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;

/// An AF_UNIX path has 107 bytes (unix(7)), and a listener's name takes half of them.
const LONGEST: usize = 56;

/// A directory that everybody may enter, with copies of the programs: an ordinary user may not read the build's.
pub(crate) struct Place {
    directory: TempDir,
    ordinary: bool,
}

/// Says what is not tested and why, past the test harness, which keeps what a passing test says to itself.
pub(crate) fn skipped(what: &str, why: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Place {
    /// In the first temporary directory where programs start, for root those of an ordinary user, too.
    pub(crate) fn new() -> Self {
        let candidates = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into(), "/dev/shm".into()];
        let mut places: Vec<_> = candidates.iter().filter_map(|candidate| Self::within(candidate)).collect();
        let index = places.iter().position(|place| place.ordinary).unwrap_or(0);
        assert!(!places.is_empty(), "programs start from none of {candidates:?}");
        let place = places.swap_remove(index);
        if is_root() && !place.ordinary {
            skipped("confinement of an ordinary user", "root may not start a program as another user here");
        }
        place
    }

    fn within(parent: &Path) -> Option<Self> {
        let directory = TempDir::with_prefix_in("c", parent).ok()?;
        if directory.path().as_os_str().len() > LONGEST {
            return None;
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).ok()?;
        let test = std::env::current_exe().expect("the path of the running test");
        let examples = test.ancestors().nth(2).expect("target/release/deps/TEST").join("examples");
        for name in ["confined", "openings"] {
            let program = examples.join(name);
            assert!(program.is_file(), "{}: `cargo test -p sirocco-confine` builds it", program.display());
            fs::copy(program, directory.path().join(name)).ok()?;
        }
        for name in ["listeners", "inside"] {
            fs::create_dir(directory.path().join(name)).ok()?;
        }
        // Without a command it says that it needs one, which is enough.
        Command::new(directory.path().join("confined")).output().ok()?;
        let ordinary = Command::new(directory.path().join("confined")).uid(NOBODY).gid(NOBODY).output().is_ok();
        Some(Self { directory, ordinary })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whoever the tests run as, and an ordinary user where that is root.
    pub(crate) fn users(&self) -> Vec<Option<u32>> {
        if is_root() && self.ordinary { vec![None, Some(NOBODY)] } else { vec![None] }
    }

    pub(crate) fn helper(&self, user: Option<u32>) -> Helper {
        Helper {
            program: self.path("confined"),
            arguments: vec!["helper".into()],
            environment: std::env::vars_os().collect(),
            identity: user.map(|user| (user, user)),
        }
    }

    /// A helper that another program of this place starts.
    pub(crate) fn behind(&self, words: &[&str]) -> Helper {
        let program = self.path("confined");
        let arguments = words.iter().map(OsString::from).chain([program.into(), "helper".into()]).collect();
        Helper { arguments, ..self.helper(None) }
    }

    /// A helper within namespaces made by `unshare`, after a shell's words; `None` where that is not to be had.
    pub(crate) fn unshared(&self, options: &[&str], words: &str) -> Option<Helper> {
        let works = Command::new("unshare").args(options).args(["sh", "-c", words, "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let shell = ["sh", "-c", words].map(OsString::from);
        let arguments = options.iter().map(OsString::from).chain(shell).chain([self.path("confined").into()]).collect();
        Some(Helper { program: "unshare".into(), arguments, ..self.helper(None) })
    }

    pub(crate) fn canary(&self, user: Option<u32>) -> Canary {
        Canary::open(&self.helper(user), &self.path("listeners")).expect("listeners and their control")
    }

    pub(crate) fn offer(&self, user: Option<u32>) -> Offer {
        probe(&self.helper(user)).expect("the helper's answer")
    }

    /// One of the programs, without the variables that lead out.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        environment::clean(&mut command, std::env::vars_os().map(|(name, _)| name));
        command
    }

    /// Lists of files that leave others closed: what a program needs to start.
    pub(crate) fn lists(&self) -> Option<Paths> {
        let usual =
            ["/usr", "/lib", "/lib64", "/bin", "/nix", "/gnu"].map(PathBuf::from).into_iter().filter(|path| path.exists());
        Some(Paths { readable: usual.chain([self.path("inside")]).collect(), writable: vec![] })
    }
}

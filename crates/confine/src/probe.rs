//! What this kernel offers to this user. Namespaces can only be tried by entering them, which a child process does
//! ([`crate::child`]).

use std::fs;

use serde::{Deserialize, Serialize};

use crate::level::{Connects, Gap, Level, Wish};
use crate::namespace::{self, Namespace};
use crate::{domain, seccomp};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Whether the user is root.
    pub root: bool,
    /// Why no filter could be installed; absent when one was.
    pub seccomp_refused: Option<String>,
    /// Which namespaces a process of this user is given.
    pub namespace: Option<Namespace>,
    /// Why it is given none.
    pub namespace_refused: Option<String>,
    /// Landlock's ABI; 0 without Landlock.
    pub landlock_abi: u32,
    /// Whether io_uring is there: something to close.
    pub io_uring: bool,
    /// Yama's `ptrace_scope`, where Yama is: from 1 on a process cannot write the memory of others that it did not start.
    pub ptrace_scope: Option<u32>,
    /// Whether there are RDMA devices, which no rung closes.
    pub rdma: bool,
}

/// Tries everything on the calling process, which is confined by it: for a child that only answers.
pub(crate) fn try_here() -> Offer {
    let root = rustix::process::geteuid().is_root();
    let io_uring = io_uring::IoUring::new(2).is_ok();
    let domain = domain::prepare(&Wish::Nothing, Some(&domain::Paths::default()));
    let (namespace, namespace_refused) = match namespace::enter() {
        Ok(namespace) => (Some(namespace), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let facts = facts();
    // From here on no file can be opened.
    let landlock_abi = domain.ok().flatten().and_then(|prepared| prepared.enter().ok()).map_or(0, |domain| domain.abi);
    let filters = seccomp::programs(&Wish::Nothing).and_then(|programs| seccomp::install(&programs));
    let seccomp_refused = filters.err().map(|error| error.to_string());
    Offer { root, seccomp_refused, namespace, namespace_refused, landlock_abi, io_uring, ..facts }
}

/// What files say.
fn facts() -> Offer {
    let first = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Offer {
        kernel: first("/proc/sys/kernel/osrelease").unwrap_or_default(),
        architecture: std::env::consts::ARCH.to_owned(),
        root: false,
        seccomp_refused: None,
        namespace: None,
        namespace_refused: None,
        landlock_abi: 0,
        io_uring: false,
        ptrace_scope: first("/proc/sys/kernel/yama/ptrace_scope").and_then(|text| text.parse().ok()),
        rdma: fs::read_dir("/sys/class/infiniband").is_ok_and(|mut devices| devices.next().is_some()),
    }
}

impl Offer {
    /// The highest rung that a wish reaches here, with or without lists of files, and what stays open on it.
    pub fn reaches(&self, wish: &Wish, has_paths: bool) -> (Level, Vec<Gap>) {
        if self.seccomp_refused.is_some() {
            return (Level::Environment, Gap::ALL.to_vec());
        }
        let namespace = self.namespace.is_some() && wish.allows_namespace();
        let level = match (namespace, self.landlock_abi > 0 && has_paths) {
            (true, true) => Level::Landlock,
            (true, false) => Level::Namespace,
            (false, _) => Level::Seccomp,
        };
        (level, left_open(wish, namespace, self.landlock_abi, has_paths))
    }
}

/// What a wish means to close and what stays open, by what is in force; `abi` is 0 without a Landlock domain.
pub(crate) fn left_open(wish: &Wish, namespace: bool, abi: u32, has_paths: bool) -> Vec<Gap> {
    let unix = matches!(wish, Wish::Unix { .. });
    let own = matches!(wish, Wish::Hosts { by: Connects::Itself, .. });
    let candidates = [
        (Gap::UnixPaths, unix && abi < 9),
        (Gap::UnixNames, unix && !namespace && abi < 6),
        (Gap::Peers, own),
        (Gap::Udp, own && abi < 10),
        (Gap::OtherProcesses, abi == 0),
        (Gap::Files, abi == 0 || !has_paths),
    ];
    candidates.into_iter().filter(|(_, open)| *open).map(|(gap, _)| gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(namespace: bool, landlock_abi: u32) -> Offer {
        Offer {
            kernel: "4.18.0".to_owned(),
            architecture: "x86_64".to_owned(),
            root: false,
            seccomp_refused: None,
            namespace: namespace.then_some(Namespace::UserAndNetwork),
            namespace_refused: (!namespace).then(|| "Operation not permitted".to_owned()),
            landlock_abi,
            io_uring: false,
            ptrace_scope: None,
            rdma: false,
        }
    }

    #[test]
    fn a_rung_is_reached_by_what_is_there() {
        let levels = |offer: &Offer, wish: &Wish| (offer.reaches(wish, true).0, offer.reaches(wish, false).0);
        let itself = Wish::Hosts { hosts: vec![], by: Connects::Itself };
        assert_eq!(levels(&offer(true, 7), &Wish::Nothing), (Level::Landlock, Level::Namespace));
        assert_eq!(levels(&offer(true, 0), &Wish::Nothing), (Level::Namespace, Level::Namespace));
        assert_eq!(levels(&offer(false, 7), &Wish::Nothing), (Level::Seccomp, Level::Seccomp));
        assert_eq!(levels(&offer(true, 7), &itself), (Level::Seccomp, Level::Seccomp));
        let without = Offer { seccomp_refused: Some("no".to_owned()), ..offer(true, 7) };
        assert_eq!(levels(&without, &Wish::Nothing), (Level::Environment, Level::Environment));
    }

    #[test]
    fn what_stays_open_is_named() {
        let unix = Wish::Unix { directory: "d".into() };
        let itself = Wish::Hosts { hosts: vec![], by: Connects::Itself };
        assert_eq!(offer(true, 10).reaches(&unix, true).1, vec![]);
        assert_eq!(offer(true, 7).reaches(&unix, true).1, vec![Gap::UnixPaths]);
        assert_eq!(offer(false, 5).reaches(&unix, true).1, vec![Gap::UnixPaths, Gap::UnixNames]);
        assert_eq!(offer(true, 0).reaches(&Wish::Nothing, true).1, vec![Gap::OtherProcesses, Gap::Files]);
        assert_eq!(offer(true, 9).reaches(&itself, true).1, vec![Gap::Peers, Gap::Udp]);
        assert_eq!(offer(true, 10).reaches(&itself, false).1, vec![Gap::Peers, Gap::Files]);
    }
}

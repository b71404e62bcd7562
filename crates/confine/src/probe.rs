//! What this kernel offers to this user. Namespaces can only be tried by entering them, which a child process does
//! ([`crate::child`]).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::level::{Allowed, Connects, Gap, Level};
use crate::namespace::{self, Namespace};
use crate::paths::Paths;
use crate::{domain, rdma, seccomp};

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
    /// The devices that send past the kernel's network and that this user may open ([`Gap::Rdma`]).
    pub rdma_devices: Vec<PathBuf>,
}

/// Tries everything on the calling process, which is confined by it: for a child that only answers.
pub(crate) fn try_here() -> Offer {
    let root = rustix::process::geteuid().is_root();
    let io_uring = io_uring::IoUring::new(2).is_ok();
    let domain = domain::prepare(&Allowed::Nothing, Some(&Paths::default()));
    let (namespace, namespace_refused) = match namespace::enter() {
        Ok(Ok(namespace)) => (Some(namespace), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(refused) => (None, Some(refused.to_string())),
    };
    let facts = facts();
    // From here on no file can be opened.
    let landlock_abi = domain.ok().flatten().and_then(|prepared| prepared.enter().ok()).map_or(0, |domain| domain.abi);
    let filters = seccomp::programs(&Allowed::Nothing).and_then(|programs| seccomp::install(&programs));
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
        rdma_devices: rdma::devices(Path::new("/dev")).into_iter().filter(|device| rdma::open(device).is_ok()).collect(),
    }
}

impl Offer {
    /// The highest level that is reached here with these lists of files, and what stays open on it.
    pub fn reaches(&self, allowed: &Allowed, paths: Option<&Paths>) -> (Level, Vec<Gap>) {
        let lists = paths.filter(|_| self.landlock_abi > 0).map(|paths| paths.resolved().unwrap_or_else(|_| paths.clone()));
        let files = lists.as_ref().is_some_and(Paths::confine);
        let found = Found {
            seccomp: self.seccomp_refused.is_none(),
            namespace: self.namespace.is_some() && allowed.fits_namespace(),
            abi: self.landlock_abi,
            files,
            root: self.root,
            rdma: self.rdma_devices.iter().any(|device| lists.as_ref().is_none_or(|lists| lists.covers(device))),
        };
        (found.level(allowed), found.gaps(allowed))
    }
}

/// What is in force for a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The filters.
    pub(crate) seccomp: bool,
    /// A network of its own.
    pub(crate) namespace: bool,
    /// Landlock's ABI; 0 without a domain.
    pub(crate) abi: u32,
    /// Lists of files that leave something closed.
    pub(crate) files: bool,
    /// It is user 0.
    pub(crate) root: bool,
    /// An RDMA device can be opened.
    pub(crate) rdma: bool,
}

impl Found {
    /// The level that this is.
    pub(crate) fn level(self, allowed: &Allowed) -> Level {
        let broker = matches!(allowed, Allowed::Hosts { by: Connects::Broker, .. });
        let steps = [
            (Level::Seccomp, self.seccomp),
            (Level::NetworkNamespace, self.namespace),
            (Level::Landlock, self.files),
            (Level::Hosts, broker),
        ];
        steps.into_iter().take_while(|(_, holds)| *holds).last().map_or(Level::Environment, |(level, _)| level)
    }

    /// What should be closed and stays open.
    pub(crate) fn gaps(self, allowed: &Allowed) -> Vec<Gap> {
        if !self.seccomp {
            return Gap::ALL.to_vec();
        }
        let unix = matches!(allowed, Allowed::Unix { .. });
        let own = matches!(allowed, Allowed::Hosts { by: Connects::Itself, .. });
        // Ports of a loopback of its own are nobody else's.
        let ports = !own && *allowed != Allowed::Loopback;
        let candidates = [
            (Gap::UnixPaths, unix && self.abi < 9),
            (Gap::UnixNames, unix && !self.namespace && self.abi < 6),
            (Gap::Peers, own),
            (Gap::Udp, own && self.abi < 10),
            (Gap::Network, !self.namespace),
            (Gap::Ports, ports && self.abi < 4),
            (Gap::Rdma, self.rdma),
            (Gap::Root, self.root && !self.files),
            (Gap::OtherProcesses, self.abi == 0),
            (Gap::Files, !self.files),
        ];
        candidates.into_iter().filter(|(_, open)| *open).map(|(gap, _)| gap).collect()
    }
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
            rdma_devices: vec![],
        }
    }

    fn lists(path: &str) -> Option<Paths> {
        Some(Paths { readable: vec![path.into()], writable: vec![] })
    }

    #[test]
    fn a_level_is_reached_by_what_is_there() {
        let levels =
            |offer: &Offer, allowed: &Allowed| (offer.reaches(allowed, lists("/usr").as_ref()).0, offer.reaches(allowed, None).0);
        let hosts = |by| Allowed::Hosts { hosts: vec![], by };
        assert_eq!(levels(&offer(true, 7), &Allowed::Nothing), (Level::Landlock, Level::NetworkNamespace));
        assert_eq!(levels(&offer(true, 0), &Allowed::Nothing), (Level::NetworkNamespace, Level::NetworkNamespace));
        assert_eq!(levels(&offer(false, 7), &Allowed::Nothing), (Level::Seccomp, Level::Seccomp));
        assert_eq!(levels(&offer(true, 7), &hosts(Connects::Itself)), (Level::Seccomp, Level::Seccomp));
        assert_eq!(levels(&offer(true, 7), &hosts(Connects::Broker)), (Level::Hosts, Level::NetworkNamespace));
        let without = Offer { seccomp_refused: Some("no".to_owned()), ..offer(true, 7) };
        assert_eq!(levels(&without, &Allowed::Nothing), (Level::Environment, Level::Environment));
    }

    #[test]
    fn a_list_with_the_root_of_all_files_is_no_confinement() {
        let (level, gaps) = offer(true, 7).reaches(&Allowed::Nothing, lists("/").as_ref());
        assert_eq!((level, gaps), (Level::NetworkNamespace, vec![Gap::Files]));
    }

    #[test]
    fn what_stays_open_is_named() {
        let gaps = |offer: Offer, allowed: &Allowed, paths: Option<&Paths>| offer.reaches(allowed, paths).1;
        let (unix, usr) = (Allowed::Unix { directory: "d".into() }, lists("/usr"));
        let itself = Allowed::Hosts { hosts: vec![], by: Connects::Itself };
        let usr = usr.as_ref();
        assert_eq!(gaps(offer(true, 10), &unix, usr), vec![]);
        assert_eq!(gaps(offer(true, 7), &unix, usr), vec![Gap::UnixPaths]);
        assert_eq!(gaps(offer(false, 5), &unix, usr), vec![Gap::UnixPaths, Gap::UnixNames, Gap::Network]);
        assert_eq!(gaps(offer(true, 0), &Allowed::Nothing, usr), vec![Gap::Ports, Gap::OtherProcesses, Gap::Files]);
        assert_eq!(gaps(offer(true, 3), &Allowed::Nothing, usr), vec![Gap::Ports]);
        assert_eq!(gaps(offer(true, 3), &Allowed::Loopback, usr), vec![]);
        assert_eq!(gaps(offer(true, 9), &itself, usr), vec![Gap::Peers, Gap::Udp, Gap::Network]);
        assert_eq!(gaps(offer(true, 10), &itself, None), vec![Gap::Peers, Gap::Network, Gap::Files]);
    }

    #[test]
    fn root_is_above_files_without_lists() {
        let root = |paths: Option<&Paths>| Offer { root: true, ..offer(true, 7) }.reaches(&Allowed::Nothing, paths).1;
        assert_eq!(root(None), vec![Gap::Root, Gap::Files]);
        assert_eq!(root(lists("/usr").as_ref()), vec![]);
    }

    #[test]
    fn a_device_is_closed_by_lists_that_do_not_name_it() {
        let offer = Offer { rdma_devices: vec!["/dev/infiniband/uverbs0".into()], ..offer(true, 7) };
        let gaps = |paths: Option<Paths>| offer.reaches(&Allowed::Nothing, paths.as_ref()).1;
        assert_eq!(gaps(None), vec![Gap::Rdma, Gap::Files]);
        assert_eq!(gaps(lists("/dev")), vec![Gap::Rdma]);
        assert_eq!(gaps(lists("/usr")), vec![]);
        let without_landlock = Offer { landlock_abi: 0, ..offer.clone() };
        assert!(without_landlock.reaches(&Allowed::Nothing, lists("/usr").as_ref()).1.contains(&Gap::Rdma));
    }
}

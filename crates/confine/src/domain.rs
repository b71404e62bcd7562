//! The Landlock domain: files that were named, TCP and UDP ports, AF_UNIX sockets and signals outside.
//!
//! A ruleset is made with the rights that this kernel has and is refused as a whole when it lacks one of them; nothing is dropped
//! silently. Which version brought what: ABI 1 (Linux 5.13) files; 2 (5.19) moving files between directories; 3 (6.2) truncation;
//! 4 (6.7) TCP `bind` and `connect` by port; 5 (6.10) `ioctl` on devices; 6 (6.12) signals and abstract AF_UNIX names outside; 7
//! (6.15) the audit log; 8 (7.0) all threads at once; 9 (7.1) AF_UNIX sockets that are files; 10 (7.2) UDP (the list is that of
//! the `landlock` crate, 0.4.8).

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

use crate::error::Refused;
use crate::level::{Allowed, Connects};
use crate::paths::Paths;

/// What a domain holds a process to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The kernel's Landlock ABI.
    pub abi: u32,
    /// Only the files that were named.
    pub files: bool,
    /// No TCP port.
    pub tcp_ports: bool,
    /// No UDP port.
    pub udp_ports: bool,
    /// No AF_UNIX socket that is a file, but below the directory that is allowed.
    pub unix_paths: bool,
    /// No abstract AF_UNIX name and no signal outside the domain.
    pub scopes: bool,
}

/// Versions that brought rights, the newest first.
const WITH_RIGHTS: [ABI; 8] = [ABI::V10, ABI::V9, ABI::V6, ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];

/// The newest version whose rights this kernel has, found by making rulesets, which restrict nobody. `None` without Landlock.
fn rights() -> Option<ABI> {
    let makes = |abi: ABI| -> Result<(), RulesetError> {
        let mut ruleset = strict().handle_access(AccessFs::from_all(abi))?;
        if abi >= ABI::V4 {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
        }
        if abi >= ABI::V6 {
            ruleset = ruleset.scope(Scope::from_all(abi))?;
        }
        ruleset.create().map(drop)
    };
    WITH_RIGHTS.into_iter().find(|abi| makes(*abi).is_ok())
}

fn strict() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

/// A ruleset that is made and not yet in force.
pub(crate) struct Prepared {
    ruleset: RulesetCreated,
    domain: Domain,
}

/// Opens every path of the demand and makes the ruleset. `None` without Landlock, or when this kernel's has nothing to hold it to.
///
/// # Errors
/// When a path cannot be opened, or the kernel refuses a rule.
pub(crate) fn prepare(allowed: &Allowed, paths: Option<&Paths>) -> Result<Option<Prepared>, Refused> {
    let Some(abi) = rights() else { return Ok(None) };
    let own_network = matches!(allowed, Allowed::Loopback);
    let own_connections = matches!(allowed, Allowed::Hosts { by: Connects::Itself, .. });
    let domain = Domain {
        abi: abi as u32,
        files: paths.is_some(),
        tcp_ports: abi >= ABI::V4 && !own_network && !own_connections,
        udp_ports: abi >= ABI::V10 && !own_network,
        unix_paths: abi >= ABI::V9,
        scopes: abi >= ABI::V6,
    };
    let Some(ruleset) = handled(abi, &domain)? else { return Ok(None) };
    let mut ruleset = ruleset.create()?;
    for (path, access) in rules(abi, allowed, paths, &domain) {
        ruleset = ruleset.add_rule(beneath(path, abi, access)?)?;
    }
    Ok(Some(Prepared { ruleset, domain }))
}

fn handled(abi: ABI, domain: &Domain) -> Result<Option<Ruleset>, RulesetError> {
    let (mut ruleset, mut any) = (strict(), domain.files);
    if domain.files {
        ruleset = ruleset.handle_access(AccessFs::from_all(abi))?;
    } else if domain.unix_paths {
        (ruleset, any) = (ruleset.handle_access(AccessFs::ResolveUnix)?, true);
    }
    if domain.tcp_ports {
        (ruleset, any) = (ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?, true);
    }
    if domain.udp_ports {
        (ruleset, any) = (ruleset.handle_access(AccessNet::BindUdp | AccessNet::ConnectSendUdp)?, true);
    }
    if domain.scopes {
        (ruleset, any) = (ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal)?, true);
    }
    Ok(any.then_some(ruleset))
}

/// Each path with what is allowed below it.
fn rules<'a>(abi: ABI, allowed: &'a Allowed, paths: Option<&'a Paths>, domain: &Domain) -> Vec<(&'a Path, BitFlags<AccessFs>)> {
    let mut rules = Vec::new();
    if let Some(paths) = paths {
        rules.extend(paths.readable.iter().map(|path| (path.as_path(), AccessFs::from_read(abi))));
        let write = AccessFs::from_all(abi) & !AccessFs::ResolveUnix;
        rules.extend(paths.writable.iter().map(|path| (path.as_path(), write)));
    }
    if let Allowed::Unix { directory } = allowed {
        let mut access = BitFlags::EMPTY;
        if domain.files {
            access |= AccessFs::from_all(abi) & !AccessFs::ResolveUnix;
        }
        if domain.unix_paths {
            access |= AccessFs::ResolveUnix;
        }
        if !access.is_empty() {
            rules.push((directory.as_path(), access));
        }
    }
    rules
}

fn beneath(path: &Path, abi: ABI, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, Refused> {
    let cannot = |error: &dyn std::fmt::Display| Refused::Path { path: path.to_owned(), message: error.to_string() };
    let is_directory = std::fs::metadata(path).map_err(|error| cannot(&error))?.is_dir();
    let file = PathFd::new(path).map_err(|error| cannot(&error))?;
    // Rights of directories are no rights of a file, and the kernel refuses them there.
    Ok(PathBeneath::new(file, if is_directory { access } else { access & AccessFs::from_file(abi) }))
}

impl Prepared {
    /// Puts the calling thread, and what it starts later, into the domain.
    ///
    /// # Errors
    /// When the kernel refuses it, or holds the process to less than was asked.
    pub(crate) fn enter(self) -> Result<Domain, Refused> {
        let status = self.ruleset.restrict_self()?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(Refused::NotInForce { what: "the Landlock domain", found: format!("{:?}", status.ruleset) });
        }
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } => {
                let newer = kernel_abi.and_then(|abi| u32::try_from(abi).ok());
                Domain { abi: newer.unwrap_or(effective_abi as u32), ..self.domain }
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => self.domain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_rights_restricts_nobody() {
        assert_eq!(rights(), rights());
        std::fs::read_to_string("/proc/self/status").unwrap();
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let paths = Paths { readable: vec!["no/such/path".into()], writable: vec![] };
        match prepare(&Allowed::Nothing, Some(&paths)) {
            Err(Refused::Path { path, .. }) => assert_eq!(path, Path::new("no/such/path")),
            Ok(None) => assert_eq!(rights(), None),
            Ok(Some(_)) | Err(_) => panic!("a rule for a path that is not there"),
        }
    }

    #[test]
    fn only_named_files_are_left_to_a_thread_in_a_domain() {
        if rights().is_none() {
            return crate::testing::skipped("files of a Landlock domain", "this kernel has no Landlock");
        }
        let (open, shut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&open, &shut] {
            std::fs::write(directory.path().join("file"), "text").unwrap();
        }
        let paths = Paths { readable: vec![open.path().to_owned()], writable: vec![] };
        let prepared = prepare(&Allowed::Nothing, Some(&paths)).unwrap().unwrap();
        let (readable, closed) = (open.path().join("file"), shut.path().join("file"));
        let thread = std::thread::spawn(move || {
            assert!(prepared.enter().unwrap().files);
            (std::fs::read(&readable).is_ok(), std::fs::write(&readable, "new").is_err(), std::fs::read(&closed).is_err())
        });
        assert_eq!(thread.join().unwrap(), (true, true, true));
        assert!(std::fs::read(shut.path().join("file")).is_ok(), "the rest of the process is free");
    }
}

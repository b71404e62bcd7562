//! Confining the calling process, and so everything that it starts from then on.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::Path;

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::domain::{self, Domain, Prepared};
use crate::error::Refused;
use crate::level::{Allowed, Gap, Level};
use crate::namespace::{self, Namespace};
use crate::paths::Paths;
use crate::probe::Found;
use crate::{environment, inherited, rdma, seccomp};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// What the process still may do.
    pub allowed: Allowed,
    /// The files that it needs; `None` leaves files alone, and levels from 3 on out of reach.
    pub paths: Option<Paths>,
    /// The lowest level that will do.
    pub least: Level,
    /// The highest level to go to: [`Level::Hosts`], but for who compares levels.
    pub most: Level,
    /// What may stay open.
    pub tolerated: Vec<Gap>,
}

impl Demand {
    /// As far as this kernel goes, whatever stays open: for who reads what was reached and decides then.
    pub fn best(allowed: Allowed, paths: Option<Paths>) -> Self {
        Self { allowed, paths, least: Level::Environment, most: Level::Hosts, tolerated: Gap::ALL.to_vec() }
    }
}

/// A means that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// No variable that leads out was there at the start.
    Environment,
    /// No capability, and none to be had by starting a program.
    NoPrivileges,
    /// Filters on system calls.
    Seccomp,
    /// A user namespace of its own.
    UserNamespace,
    /// A network namespace of its own.
    NetworkNamespace,
    /// A Landlock domain; what it holds is in [`Applied::landlock`].
    Landlock,
}

/// What is in force for a process and its children: for a ledger's entry, and for `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What the process may still do.
    pub allowed: Allowed,
    /// The level that was reached.
    pub level: Level,
    /// What was used.
    pub mechanisms: Vec<Mechanism>,
    /// How many seccomp filters the process has, ours and those it had before; `None` where the kernel does not count them
    /// (before 5.9).
    pub seccomp_filters: Option<u32>,
    /// Its namespaces.
    pub namespace: Option<Namespace>,
    /// Its Landlock domain.
    pub landlock: Option<Domain>,
    /// The files that it is held to, every link followed; `None` when files are not restricted.
    pub paths: Option<Paths>,
    /// What should be closed and stays open.
    pub gaps: Vec<Gap>,
    /// Connected AF_UNIX streams that it had before: each leads to whoever holds the other end.
    pub inherited_unix_sockets: usize,
}

/// What was put in force, and why there is not more.
#[derive(Default)]
struct Reached {
    found: Found,
    filters: Option<u32>,
    namespace: Option<Namespace>,
    landlock: Option<Domain>,
    paths: Option<Paths>,
    unix: usize,
    /// What stands in the way of a level, the lowest first.
    missing: Vec<(Level, String)>,
}

/// Confines the calling process. Afterwards it holds no capability, gains no privilege by starting a program, and cannot undo any
/// of this; nor can its children.
///
/// Call it first thing: filters, namespaces and domains are of a thread, so that a second thread is an error and not an
/// exception. (seccomp alone could be given to all threads; Landlock before ABI 8 and namespaces cannot.) What the process needs
/// from outside is opened before: the listener of a server, a connection to a broker. Any other socket that is open, any
/// io_uring, and any variable that leads out, is refused.
///
/// # Errors
/// When what is demanded cannot be had. What can be had is in force by then, because that is how it is found out: the process
/// should end.
pub fn apply(demand: &Demand) -> Result<Applied, Refused> {
    if demand.most < demand.least {
        return Err(Refused::Contradiction { least: demand.least, most: demand.most });
    }
    let names = environment::left().map_err(Refused::at("reading /proc/self/environ"))?;
    if !names.is_empty() {
        return Err(Refused::Variables { names });
    }
    let reached = if demand.most == Level::Environment { Reached::default() } else { confine(demand)? };
    judge(demand, reached)
}

/// Goes as far as this kernel does.
fn confine(demand: &Demand) -> Result<Reached, Refused> {
    let found = namespace::threads().map_err(Refused::at("counting threads"))?;
    if found != 1 {
        return Err(Refused::Threads { found });
    }
    let mut reached = Reached { unix: inherited::look(&demand.allowed)?.unix, ..Reached::default() };
    let filters = seccomp::programs(&demand.allowed)?;
    let paths = demand.paths.as_ref().map(Paths::resolved).transpose()?;
    let domain = if demand.most >= Level::Landlock { domain::prepare(&demand.allowed, paths.as_ref())? } else { None };
    let mut devices = rdma::devices(Path::new("/dev"));
    devices.push(rdma::USUAL.into());
    // Opened now, because the domain may close /proc.
    let mut status = File::open("/proc/self/status").map_err(Refused::at("opening /proc/self/status"))?;
    reached.found.root = rustix::process::geteuid().is_root();
    enter_namespace(demand, &mut reached)?;
    drop_capabilities().map_err(Refused::at("giving up capabilities"))?;
    if demand.most >= Level::Landlock {
        enter_domain(domain, paths, &mut reached)?;
    }
    reached.found.rdma = devices.iter().any(|device| rdma::open(device).is_ok());
    match seccomp::install(&filters) {
        Ok(()) => {
            reached.filters = in_force(&mut status)?;
            reached.found.seccomp = true;
        }
        Err(error) => reached.missing.insert(0, (Level::Seccomp, format!("no filter could be installed: {error}"))),
    }
    Ok(reached)
}

fn enter_namespace(demand: &Demand, reached: &mut Reached) -> Result<(), Refused> {
    let because = if !demand.allowed.fits_namespace() {
        "processes that connect to other hosts themselves cannot have a network of their own".to_owned()
    } else if demand.most < Level::NetworkNamespace {
        "the demand ends below it".to_owned()
    } else {
        match namespace::enter()? {
            Ok(namespace) => {
                (reached.namespace, reached.found.namespace) = (Some(namespace), true);
                if demand.allowed == Allowed::Loopback {
                    namespace::raise_loopback().map_err(Refused::at("bringing the loopback up"))?;
                }
                return Ok(());
            }
            Err(error) => format!("a network namespace was refused: {error}"),
        }
    };
    reached.missing.push((Level::NetworkNamespace, because));
    Ok(())
}

fn enter_domain(domain: Option<Prepared>, paths: Option<Paths>, reached: &mut Reached) -> Result<(), Refused> {
    let landlock = domain.map(Prepared::enter).transpose()?;
    let because = match (&landlock, &paths) {
        (_, None) => "no lists of files are given",
        (_, Some(paths)) if !paths.confine() => "the lists of files hold the root of all files",
        (None, Some(_)) => "this kernel has no Landlock, or it is not switched on",
        (Some(_), Some(_)) => {
            reached.found.files = true;
            ""
        }
    };
    if !reached.found.files {
        reached.missing.push((Level::Landlock, because.to_owned()));
    }
    reached.found.abi = landlock.map_or(0, |domain| domain.abi);
    reached.paths = paths.filter(|_| landlock.is_some_and(|domain| domain.files));
    reached.landlock = landlock;
    Ok(())
}

/// Compares what was reached with what was demanded.
fn judge(demand: &Demand, reached: Reached) -> Result<Applied, Refused> {
    let level = reached.found.level(&demand.allowed).min(demand.most);
    let in_the_way = |needs: Level| {
        let why = reached.missing.iter().find(|(missing, _)| *missing > level && *missing <= needs);
        why.map_or_else(|| beyond(needs).to_owned(), |(_, why)| why.clone())
    };
    if level < demand.least {
        return Err(Refused::Unreachable { demanded: demand.least, possible: level, because: in_the_way(demand.least) });
    }
    if demand.allowed == Allowed::Loopback && demand.most > Level::Environment && !reached.found.namespace {
        let needs = Level::NetworkNamespace;
        return Err(Refused::Impossible { allowed: demand.allowed.name(), needs, possible: level, because: in_the_way(needs) });
    }
    let gaps = tolerated(demand, reached.found.gaps(&demand.allowed))?;
    Ok(Applied {
        allowed: demand.allowed.clone(),
        level,
        mechanisms: mechanisms(&reached),
        seccomp_filters: reached.filters,
        namespace: reached.namespace,
        landlock: reached.landlock,
        paths: reached.paths,
        gaps,
        inherited_unix_sockets: reached.unix,
    })
}

/// Why a level is not reached that no kernel stands in the way of.
fn beyond(level: Level) -> &'static str {
    if level == Level::Site {
        "what the site lets out cannot be seen by a process; its operator states it"
    } else {
        "only a process whose connections a broker makes has it"
    }
}

fn mechanisms(reached: &Reached) -> Vec<Mechanism> {
    let candidates = [
        (Mechanism::Environment, true),
        (Mechanism::NoPrivileges, reached.found.seccomp),
        (Mechanism::Seccomp, reached.found.seccomp),
        (Mechanism::UserNamespace, reached.namespace == Some(Namespace::UserAndNetwork)),
        (Mechanism::NetworkNamespace, reached.namespace.is_some()),
        (Mechanism::Landlock, reached.landlock.is_some()),
    ];
    candidates.into_iter().filter(|(_, holds)| *holds).map(|(mechanism, _)| mechanism).collect()
}

fn tolerated(demand: &Demand, gaps: Vec<Gap>) -> Result<Vec<Gap>, Refused> {
    let left: Vec<_> = gaps.iter().copied().filter(|gap| !demand.tolerated.contains(gap)).collect();
    if left.is_empty() { Ok(gaps) } else { Err(Refused::Open { left }) }
}

/// Inside a user namespace of its own a process begins with all capabilities, over that namespace. Without new privileges a
/// program that it starts, even as root, has none either.
fn drop_capabilities() -> std::io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Reads back what the kernel says of this process; how many filters it has.
fn in_force(status: &mut File) -> Result<Option<u32>, Refused> {
    let mut text = String::new();
    let read = status.rewind().and_then(|()| status.read_to_string(&mut text));
    read.map_err(Refused::at("reading /proc/self/status"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    for (what, name, wanted) in [("a seccomp filter", "Seccomp", "2"), ("no new privileges", "NoNewPrivs", "1")] {
        let found = field(name);
        if found != wanted {
            return Err(Refused::NotInForce { what, found: format!("{name}: {found}") });
        }
    }
    for name in ["CapPrm", "CapEff", "CapAmb"] {
        let found = field(name);
        if found.chars().any(|digit| digit != '0') {
            return Err(Refused::NotInForce { what: "the loss of capabilities", found: format!("{name}: {found}") });
        }
    }
    Ok(field("Seccomp_filters").parse().ok())
}

/// The network namespace that the calling process is in, as /proc names it: equal names are the same network.
///
/// # Errors
/// When /proc cannot be read.
pub fn network() -> std::io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/net")?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_that_ends_below_itself_is_refused() {
        let demand = Demand { least: Level::Landlock, most: Level::Seccomp, ..Demand::best(Allowed::Nothing, None) };
        assert!(matches!(apply(&demand), Err(Refused::Contradiction { least: Level::Landlock, most: Level::Seccomp })));
    }

    #[test]
    fn a_process_with_threads_is_refused_and_left_alone() {
        let before = fs::read_to_string("/proc/self/status").unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        assert!(matches!(confine(&Demand::best(Allowed::Nothing, None)), Err(Refused::Threads { found: 2.. })));
        drop(hold);
        let _ = thread.join();
        let filters = |text: &str| text.lines().find(|line| line.starts_with("Seccomp:")).map(str::to_owned);
        assert_eq!(filters(&before), filters(&fs::read_to_string("/proc/self/status").unwrap()));
    }

    #[test]
    fn what_is_not_tolerated_is_named() {
        let demand = Demand { tolerated: vec![Gap::Files], ..Demand::best(Allowed::Nothing, None) };
        assert_eq!(tolerated(&demand, vec![Gap::Files]).unwrap(), vec![Gap::Files]);
        let Err(Refused::Open { left }) = tolerated(&demand, vec![Gap::Files, Gap::Udp]) else { panic!("it was tolerated") };
        assert_eq!(left, vec![Gap::Udp]);
    }

    #[test]
    fn the_lowest_level_says_that_all_is_open() {
        let demand = Demand { most: Level::Environment, ..Demand::best(Allowed::Nothing, None) };
        let applied = judge(&demand, Reached::default()).unwrap();
        assert_eq!((applied.level, applied.gaps), (Level::Environment, Gap::ALL.to_vec()));
        assert_eq!(applied.mechanisms, [Mechanism::Environment]);
    }

    #[test]
    fn what_was_reached_is_what_is_possible() {
        let found = |seccomp, namespace| Found { seccomp, namespace, ..Found::default() };
        let refused = |least, reached| match judge(&Demand { least, ..Demand::best(Allowed::Nothing, None) }, reached) {
            Err(Refused::Unreachable { demanded, possible, because }) => (demanded, possible, because),
            other => panic!("{other:?}"),
        };
        let missing = |levels: &[Level]| levels.iter().map(|level| (*level, level.name().to_owned())).collect();
        let nothing = Reached { missing: missing(&[Level::Seccomp, Level::NetworkNamespace]), ..Reached::default() };
        assert_eq!(refused(Level::Landlock, nothing), (Level::Landlock, Level::Environment, "seccomp".to_owned()));
        let filters = Reached { found: found(true, false), missing: missing(&[Level::NetworkNamespace]), ..Reached::default() };
        assert_eq!(
            refused(Level::NetworkNamespace, filters),
            (Level::NetworkNamespace, Level::Seccomp, "network_namespace".to_owned())
        );
        // A namespace without filters is not level 2.
        let namespace = Reached { found: found(false, true), missing: missing(&[Level::Seccomp]), ..Reached::default() };
        assert_eq!(refused(Level::Seccomp, namespace).1, Level::Environment);
    }

    #[test]
    fn the_site_is_never_measured() {
        let found = Found { seccomp: true, namespace: true, abi: 10, files: true, ..Found::default() };
        let demand = Demand { least: Level::Site, most: Level::Site, ..Demand::best(Allowed::Nothing, None) };
        let refused = judge(&demand, Reached { found, ..Reached::default() }).unwrap_err().to_string();
        assert!(refused.starts_with("confinement at level 5 (site) is demanded and 3 (landlock) is possible"), "{refused}");
    }
}

//! Confining the calling process, and so everything that it starts from then on.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::domain::{self, Domain, Paths, Prepared};
use crate::error::Refused;
use crate::level::{Gap, Level, Wish};
use crate::namespace::{self, Namespace};
use crate::{inherited, probe, seccomp};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// What the process still needs.
    pub wish: Wish,
    /// The files that it needs; `None` leaves files alone, and the highest rung out of reach.
    pub paths: Option<Paths>,
    /// The lowest rung that will do.
    pub least: Level,
    /// The highest rung to climb to: [`Level::Landlock`], but for who compares rungs.
    pub most: Level,
    /// What may stay open.
    pub tolerated: Vec<Gap>,
}

impl Demand {
    /// As far as this kernel goes, whatever stays open: for who reads what was reached and decides then.
    pub fn best(wish: Wish, paths: Option<Paths>) -> Self {
        Self { wish, paths, least: Level::Environment, most: Level::Landlock, tolerated: Gap::ALL.to_vec() }
    }
}

/// What is in force for a process and its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What the process may still do.
    pub wish: Wish,
    /// The rung that was reached.
    pub level: Level,
    /// How many seccomp filters the process has, ours and those it had before; `None` where the kernel does not count them
    /// (before 5.9).
    pub seccomp_filters: Option<u32>,
    /// Its namespaces.
    pub namespace: Option<Namespace>,
    /// Its Landlock domain.
    pub landlock: Option<Domain>,
    /// What the wish means to close and what stays open.
    pub gaps: Vec<Gap>,
    /// Open AF_UNIX sockets that it had before: each leads to whoever holds the other end.
    pub inherited_unix_sockets: usize,
}

/// Confines the calling process. Afterwards it holds no capability, gains no privilege by starting a program, and cannot undo any
/// of this; nor can its children.
///
/// Call it first thing: filters, namespaces and domains are of a thread, so that a second thread is an error and not an
/// exception. (seccomp alone could be given to all threads; Landlock before ABI 8 and namespaces cannot.) What the process needs
/// from outside is opened before: the listener of a server, a connection to a broker. Any other socket that is open, and any
/// io_uring, is refused.
///
/// # Errors
/// When what is demanded cannot be had; the process may then be partly confined, and should end.
pub fn apply(demand: &Demand) -> Result<Applied, Refused> {
    if demand.most < demand.least {
        return Err(unreachable(demand, demand.most, "the demand ends below it"));
    }
    if demand.most == Level::Environment {
        return unconfined(demand);
    }
    let found = namespace::threads().map_err(Refused::at("counting threads"))?;
    if found != 1 {
        return Err(Refused::Threads { found });
    }
    let inherited = inherited::look(&demand.wish)?;
    let filters = seccomp::programs(&demand.wish)?;
    let domain = if demand.most >= Level::Landlock { domain::prepare(&demand.wish, demand.paths.as_ref())? } else { None };
    // Opened now, because the domain may close /proc.
    let mut status = File::open("/proc/self/status").map_err(Refused::at("opening /proc/self/status"))?;
    let namespace = climb(demand, domain.as_ref())?;
    if namespace.is_some() && demand.wish == Wish::Loopback {
        namespace::raise_loopback().map_err(Refused::at("bringing the loopback up"))?;
    }
    let gaps = gaps(demand, namespace, domain.as_ref())?;
    drop_capabilities().map_err(Refused::at("giving up capabilities"))?;
    let landlock = domain.map(Prepared::enter).transpose()?;
    seccomp::install(&filters)?;
    let seccomp_filters = in_force(&mut status)?;
    let level = level(demand, namespace, landlock.as_ref());
    Ok(Applied {
        wish: demand.wish.clone(),
        level,
        seccomp_filters,
        namespace,
        landlock,
        gaps,
        inherited_unix_sockets: inherited.unix,
    })
}

fn unconfined(demand: &Demand) -> Result<Applied, Refused> {
    let wish = demand.wish.clone();
    let gaps = check(demand, Gap::ALL.to_vec())?;
    let level = Level::Environment;
    Ok(Applied { wish, level, seccomp_filters: None, namespace: None, landlock: None, gaps, inherited_unix_sockets: 0 })
}

fn unreachable(demand: &Demand, possible: Level, because: impl Into<String>) -> Refused {
    Refused::Unreachable { demanded: demand.least, possible, because: because.into() }
}

/// Says what is out of reach before anything is done, and enters the namespaces, which is known to work only afterwards.
fn climb(demand: &Demand, domain: Option<&Prepared>) -> Result<Option<Namespace>, Refused> {
    let wish = &demand.wish;
    let may = demand.most >= Level::Namespace && wish.allows_namespace();
    if !may && demand.least >= Level::Namespace {
        return Err(unreachable(
            demand,
            Level::Seccomp,
            "processes that connect to other hosts themselves cannot have a network of their own",
        ));
    }
    if demand.least == Level::Landlock && !domain.is_some_and(|domain| domain.domain().files) {
        let because = if demand.paths.is_none() {
            "no lists of files are given"
        } else {
            "this kernel has no Landlock, or it is not switched on"
        };
        return Err(unreachable(demand, Level::Namespace, because));
    }
    let refused = match if may { namespace::enter() } else { Err(std::io::Error::other("the demand ends below it")) } {
        Ok(namespace) => return Ok(Some(namespace)),
        Err(error) => format!("a network namespace was refused: {error}"),
    };
    if demand.least >= Level::Namespace {
        return Err(unreachable(demand, Level::Seccomp, refused));
    }
    if *wish == Wish::Loopback {
        return Err(Refused::Impossible {
            wish: wish.name(),
            needs: Level::Namespace,
            possible: Level::Seccomp,
            because: refused,
        });
    }
    Ok(None)
}

fn level(demand: &Demand, namespace: Option<Namespace>, landlock: Option<&Domain>) -> Level {
    match (namespace, landlock.is_some_and(|domain| domain.files)) {
        (Some(_), true) => Level::Landlock.min(demand.most),
        (Some(_), false) => Level::Namespace,
        (None, _) => Level::Seccomp,
    }
}

fn gaps(demand: &Demand, namespace: Option<Namespace>, domain: Option<&Prepared>) -> Result<Vec<Gap>, Refused> {
    let abi = domain.map_or(0, |domain| domain.domain().abi);
    check(demand, probe::left_open(&demand.wish, namespace.is_some(), abi, demand.paths.is_some()))
}

fn check(demand: &Demand, gaps: Vec<Gap>) -> Result<Vec<Gap>, Refused> {
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
        let demand = Demand { least: Level::Landlock, most: Level::Seccomp, ..Demand::best(Wish::Nothing, None) };
        let Err(Refused::Unreachable { demanded, possible, .. }) = apply(&demand) else { panic!("it was applied") };
        assert_eq!((demanded, possible), (Level::Landlock, Level::Seccomp));
    }

    #[test]
    fn a_process_with_threads_is_refused_and_left_alone() {
        let before = fs::read_to_string("/proc/self/status").unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        assert!(matches!(apply(&Demand::best(Wish::Nothing, None)), Err(Refused::Threads { found: 2.. })));
        drop(hold);
        let _ = thread.join();
        let filters = |text: &str| text.lines().find(|line| line.starts_with("Seccomp:")).map(str::to_owned);
        assert_eq!(filters(&before), filters(&fs::read_to_string("/proc/self/status").unwrap()));
    }

    #[test]
    fn what_is_not_tolerated_is_named() {
        let demand = Demand { tolerated: vec![Gap::Files], ..Demand::best(Wish::Nothing, None) };
        assert_eq!(check(&demand, vec![Gap::Files]).unwrap(), vec![Gap::Files]);
        let Err(Refused::Open { left }) = check(&demand, vec![Gap::Files, Gap::Udp]) else { panic!("it was tolerated") };
        assert_eq!(left, vec![Gap::Udp]);
    }

    #[test]
    fn the_lowest_rung_says_that_all_is_open() {
        let demand = Demand { most: Level::Environment, ..Demand::best(Wish::Nothing, None) };
        let applied = apply(&demand).unwrap();
        assert_eq!((applied.level, applied.gaps), (Level::Environment, Gap::ALL.to_vec()));
    }
}

//! Who the ranks are: host and process of each, which of them share this host, and which of those have died.

use std::{fs, io, process};

use serde::{Deserialize, Serialize};

/// One rank's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
}

/// Where a rank stands on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host's name.
    pub host: String,
    /// This rank among the ranks of the host, from 0, in rank order.
    pub local_rank: usize,
    /// How many ranks the host has.
    pub local_size: usize,
}

/// How it is known that a process no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyDead {
    /// There is no such process.
    Gone,
    /// It has ended and its parent has not collected it.
    Zombie,
    /// Another process has its number now.
    Replaced,
}

/// A rank of this host whose process no longer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadPeer {
    /// Which rank it was, and where.
    pub peer: Peer,
    /// How that is known.
    pub why: WhyDead,
}

/// What a rank tells the others about itself at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// Two hosts of one name differ here: the kernel draws it at boot.
    boot: String,
    /// A process id means something only in its namespace (containers have their own).
    namespace: String,
    /// The process's start in clock ticks since boot: tells it from a later process of the same number.
    started: Option<u64>,
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        Identity {
            host: read("/proc/sys/kernel/hostname"),
            pid: process::id(),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default(),
            started: read_stat(process::id()).ok().map(|stat| stat.started),
        }
    }

    fn same_host(&self, other: &Identity) -> bool {
        self.host == other.host && self.boot == other.boot
    }
}

/// All ranks of the group as they introduced themselves.
#[derive(Debug)]
pub(crate) struct Roster {
    rank: usize,
    ranks: Vec<Identity>,
}

impl Roster {
    /// `ranks` by rank; `rank` is this process.
    pub(crate) fn new(rank: usize, ranks: Vec<Identity>) -> Self {
        Roster { rank, ranks }
    }

    /// The public description of every rank.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        (0..self.ranks.len()).map(|rank| self.peer(rank)).collect()
    }

    /// This rank among those of its host.
    pub(crate) fn place(&self) -> Place {
        let own = &self.ranks[self.rank];
        let local: Vec<usize> = (0..self.ranks.len()).filter(|&rank| self.ranks[rank].same_host(own)).collect();
        Place {
            host: own.host.clone(),
            local_rank: local.iter().filter(|&&rank| rank < self.rank).count(),
            local_size: local.len(),
        }
    }

    /// The hosts of some ranks, each once, in the order of the ranks; none where the job has only one.
    pub(crate) fn hosts(&self, ranks: &[usize]) -> Vec<String> {
        let Some((first, others)) = self.ranks.split_first() else { return Vec::new() };
        if others.iter().all(|other| other.same_host(first)) {
            return Vec::new();
        }
        let mut hosts: Vec<String> = Vec::new();
        for host in ranks.iter().filter_map(|&rank| self.ranks.get(rank)).map(|identity| &identity.host) {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// The other ranks of this host whose process no longer runs. Ranks that cannot be seen from here count as alive.
    pub(crate) fn dead(&self) -> Vec<DeadPeer> {
        let Some(own) = self.ranks.get(self.rank) else { return Vec::new() };
        let visible = |other: &Identity| other.same_host(own) && other.namespace == own.namespace && own.started.is_some();
        (0..self.ranks.len())
            .filter(|&rank| rank != self.rank && visible(&self.ranks[rank]))
            .filter_map(|rank| why_dead(&self.ranks[rank]).map(|why| DeadPeer { peer: self.peer(rank), why }))
            .collect()
    }

    fn peer(&self, rank: usize) -> Peer {
        Peer { rank, host: self.ranks[rank].host.clone(), pid: self.ranks[rank].pid }
    }
}

/// `None` while the process runs (or its start was never known).
fn why_dead(identity: &Identity) -> Option<WhyDead> {
    let started = identity.started?;
    match read_stat(identity.pid) {
        // NotFound when the directory is gone, ESRCH when it went while being read. Any other error (say, no descriptors left)
        // says nothing about the peer.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => Some(WhyDead::Gone),
        Err(_) => None,
        Ok(stat) if stat.started != started => Some(WhyDead::Replaced),
        Ok(stat) if matches!(stat.state, b'Z' | b'X') => Some(WhyDead::Zombie),
        Ok(_) => None,
    }
}

/// "No such process", the same number on every Linux.
const ESRCH: i32 = 3;

struct Stat {
    state: u8,
    started: u64,
}

/// The state and start of a process.
fn read_stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// proc(5): "pid (name) state …", the start being field 22. The name may hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(identities: Vec<Identity>) -> Roster {
        let mut ranks = vec![Identity::own()];
        ranks.extend(identities);
        Roster::new(0, ranks)
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..53).map(|field| field.to_string()).collect();
        let stat = parse_stat(&format!("17 (a) S (b) Z {}", fields.join(" "))).unwrap();
        assert_eq!((stat.state, stat.started), (b'Z', 22));
        assert!(parse_stat("17 (half a li").is_none());
    }

    #[test]
    fn a_killed_process_is_dead_as_a_zombie_and_after() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity =
            Identity { pid: child.id(), started: read_stat(child.id()).ok().map(|stat| stat.started), ..Identity::own() };
        let roster = others(vec![identity]);
        assert!(roster.dead().is_empty());
        child.kill().unwrap();
        let why = loop {
            match roster.dead().first() {
                Some(dead) => break dead.why,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(why, WhyDead::Zombie);
        child.wait().unwrap();
        assert_eq!(roster.dead()[0].why, WhyDead::Gone);
        assert_eq!(roster.dead()[0].peer.rank, 1);
    }

    #[test]
    fn a_reused_number_is_not_the_same_process() {
        let own = Identity::own();
        let earlier = Identity { started: own.started.map(|tick| tick - 1), ..own.clone() };
        assert_eq!(others(vec![earlier]).dead()[0].why, WhyDead::Replaced);
    }

    #[test]
    fn ranks_of_other_hosts_are_neither_local_nor_judged() {
        let away = Identity { host: "elsewhere".into(), pid: u32::MAX, ..Identity::own() };
        let roster = Roster::new(2, vec![Identity::own(), away, Identity::own()]);
        assert!(roster.dead().is_empty());
        assert_eq!((roster.place().local_rank, roster.place().local_size), (1, 2));
        assert_eq!(roster.peers()[1].host, "elsewhere");
    }

    #[test]
    fn hosts_are_named_once_and_only_where_there_are_several() {
        let at = |host: &str| Identity { host: host.into(), ..Identity::own() };
        assert!(others(vec![Identity::own()]).hosts(&[0, 1]).is_empty());
        assert_eq!(others(vec![at("cn2"), at("cn3"), at("cn2")]).hosts(&[1, 2, 3]), ["cn2", "cn3"]);
    }
}

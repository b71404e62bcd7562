//! The levels of confinement, from 0 to 5, what a process may still do, and what stays open.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How far a process is kept from the network: a step of the ladder from 0 to 5. Each level holds what those below it hold, so
/// that `reached >= demanded` is a comparison; a policy's `confinement` is this number ([`Level::number`]).
///
/// [`crate::apply`] reaches 0 to 4 and measures them. Level 5 is never reached by a process: see [`Level::Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Level {
    /// 0: variables that lead out are gone ([`crate::environment`]), which is looked up in `/proc/self/environ`. Any kernel. Stops
    /// accidents only.
    Environment = 0,
    /// 1: seccomp filters on system calls (Linux 3.17 for `seccomp(2)`; measured against 4.18 and newer), no capabilities, no new
    /// privileges.
    ///
    /// Stops: sockets of every family that is not needed, raw and packet sockets, io_uring, kernel keyrings (whose upcalls
    /// resolve names), other architectures' system calls, `ptrace` and its relatives, `setns`. Does not stop: a filter sees
    /// numbers and not addresses, so that a family that is allowed is allowed to every address, and an AF_UNIX socket to every
    /// path and abstract name; the memory of other processes of the same user through `/proc/PID/mem` (Yama's `ptrace_scope` of 1
    /// or more does).
    Seccomp = 1,
    /// 2: the same and a network namespace of its own, with nothing in it but its own loopback, made inside a user namespace of
    /// its own (Linux 3.8; some sites switch user namespaces off) or, where those are off, by a process that is root.
    ///
    /// Stops: every address, whatever the family and the call, and the abstract AF_UNIX names of everybody else.
    /// Does not stop: AF_UNIX sockets that are files; sockets that were open before (they are looked for and refused); files.
    NetworkNamespace = 2,
    /// 3: the same and Landlock (Linux 5.13; often compiled in and not switched on) with lists of files that leave something
    /// closed: only the files that were named, by ABI 4 (6.7) TCP ports, by ABI 6 (6.12) no signal and no abstract AF_UNIX name
    /// outside, by ABI 9 (7.1) AF_UNIX sockets that are files, by ABI 10 (7.2) UDP ports.
    ///
    /// Stops, besides: files elsewhere (a shell's start-up file that somebody runs later, a spool directory), RDMA devices that
    /// were not named, other processes' memory. Does not stop: what lies below its ABI.
    Landlock = 3,
    /// 4: the same, and a broker outside makes every connection, to and from the job's own hosts only ([`crate::hosts`]). Only
    /// [`Allowed::Hosts`] by [`Connects::Broker`] has it; a process that is allowed no hosts ends at level 3, with less open.
    Hosts = 4,
    /// 5: the same, and the site lets nothing else out of the job's nodes (a firewall by job, partition keys of InfiniBand), RDMA
    /// included. No process can see that from inside: it is what the operator of a site states, never what is measured, and
    /// [`crate::apply`] refuses a demand for it.
    Site = 5,
}

impl Level {
    /// Every level, from 0 to 5.
    pub const ALL: [Self; 6] =
        [Self::Environment, Self::Seccomp, Self::NetworkNamespace, Self::Landlock, Self::Hosts, Self::Site];

    /// Its number on the ladder, as a policy has it: 0 to 5.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The level of this number; `None` above 5.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Seccomp => "seccomp",
            Self::NetworkNamespace => "network_namespace",
            Self::Landlock => "landlock",
            Self::Hosts => "hosts",
            Self::Site => "site",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.number(), self.name())
    }
}

/// What a process still may do on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Allowed {
    /// Nothing: no socket of any family; pairs of connected AF_UNIX streams (`socketpair`) remain, they reach nobody.
    /// For data preparation, tokenising, evaluation, export, and a single rank.
    Nothing,
    /// AF_UNIX sockets, as files within one directory.
    Unix {
        /// The directory. It must exist.
        directory: PathBuf,
    },
    /// TCP and UDP over a loopback of its own, that nobody outside is on; no AF_UNIX. Needs [`Level::NetworkNamespace`]. For
    /// `mpirun` and its ranks on one machine: Open MPI 4.1 needs an interface that is up and TCP over it between mpirun and ranks,
    /// shared memory between ranks, and no AF_UNIX.
    Loopback,
    /// To accept what comes to one TCP port, on a listener that is open already; no new socket and no connection of its own. The
    /// listener stays where it was opened while the process moves into a namespace of its own. For the server.
    Listen {
        /// The port that the open listener has.
        port: u16,
    },
    /// Connections to the job's own hosts, for a job of several nodes; who makes them is said by `by`.
    Hosts {
        /// The addresses of the job's hosts.
        hosts: Vec<IpAddr>,
        /// Who connects.
        by: Connects,
    },
}

/// Who makes the connections of a job of several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connects {
    /// A broker outside ([`crate::hosts`]), which looks at every address and hands over connected sockets. The process makes no
    /// sockets itself, and levels up to 4 can be reached.
    Broker,
    /// The process itself, as MPI and NCCL do. No mechanism that this crate has sees the address: see [`Gap::Peers`].
    Itself,
}

impl Allowed {
    /// Its name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Unix { .. } => "unix",
            Self::Loopback => "loopback",
            Self::Listen { .. } => "listen",
            Self::Hosts { .. } => "hosts",
        }
    }

    /// Whether a network namespace leaves the process what it needs.
    pub fn fits_namespace(&self) -> bool {
        !matches!(self, Self::Hosts { by: Connects::Itself, .. })
    }
}

/// Something that should be closed and stays open. It is reported, never passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// AF_UNIX sockets that are files outside the directory can be connected to, where the files' modes allow it. Closed by
    /// Landlock ABI 9.
    UnixPaths,
    /// Abstract AF_UNIX names of others can be connected to. Closed by a network namespace or by Landlock ABI 6.
    UnixNames,
    /// Connections of a process that makes its own are not held to the job's hosts.
    Peers,
    /// UDP datagrams, and so DNS, reach any address. Closed by a network namespace or by Landlock ABI 10.
    Udp,
    /// There is no network namespace: filters on system calls alone stand between the process and the machine's network.
    Network,
    /// Landlock has no rules for TCP ports (before ABI 4), so that it does not stand behind the filters.
    Ports,
    /// RDMA devices, or others that send past the kernel's network, can be opened: `/dev/infiniband/*`, `/dev/cxi*`,
    /// `/dev/hfi1_*` and the like. Their data meets no socket. Closed by Landlock with lists that do not name them.
    Rdma,
    /// The process is root of this machine (user 0), which owns `/proc/sys` even without capabilities: a program named in
    /// `kernel.core_pattern` is started by the kernel, outside. Closed by running as an ordinary user, or by Landlock with lists.
    Root,
    /// Other processes of the same user can be read and written through `/proc/PID/mem`, unless Yama forbids it. Closed by
    /// Landlock.
    OtherProcesses,
    /// Files are not restricted. Closed by Landlock with lists that leave something out; a list with `/` in it does not.
    Files,
}

impl Gap {
    /// Every gap there is.
    pub const ALL: [Self; 10] = [
        Self::UnixPaths,
        Self::UnixNames,
        Self::Peers,
        Self::Udp,
        Self::Network,
        Self::Ports,
        Self::Rdma,
        Self::Root,
        Self::OtherProcesses,
        Self::Files,
    ];

    /// Whether data can leave the machine through it at once, without the help of another program or of somebody who fetches a
    /// file.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Peers | Self::Udp | Self::Rdma)
    }

    /// Whether a socket of another program can be reached through it.
    pub fn is_socket(self) -> bool {
        matches!(self, Self::UnixPaths | Self::UnixNames | Self::Peers | Self::Udp)
    }

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixPaths => "unix_paths",
            Self::UnixNames => "unix_names",
            Self::Peers => "peers",
            Self::Udp => "udp",
            Self::Network => "network",
            Self::Ports => "ports",
            Self::Rdma => "rdma",
            Self::Root => "root",
            Self::OtherProcesses => "other_processes",
            Self::Files => "files",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_are_the_numbers_of_the_ladder() {
        let numbers: Vec<u8> = Level::ALL.into_iter().map(Level::number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        assert!(Level::ALL.is_sorted());
        let names = Level::ALL.map(Level::name);
        assert_eq!(names, ["environment", "seccomp", "network_namespace", "landlock", "hosts", "site"]);
        for number in 0..=5 {
            assert_eq!(Level::of_number(number).map(Level::number), Some(number));
        }
        assert_eq!(Level::of_number(6), None);
        assert_eq!(Level::Landlock.to_string(), "3 (landlock)");
    }

    #[test]
    fn names_are_those_of_json() {
        for level in Level::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
        }
        for gap in Gap::ALL {
            assert_eq!(serde_json::to_value(gap).unwrap(), gap.name());
        }
        let hosts = Allowed::Hosts { hosts: vec![], by: Connects::Broker };
        let unix = Allowed::Unix { directory: "d".into() };
        for allowed in [Allowed::Nothing, unix, Allowed::Loopback, Allowed::Listen { port: 1 }, hosts] {
            assert_eq!(serde_json::to_value(&allowed).unwrap()["kind"], allowed.name());
        }
    }
}

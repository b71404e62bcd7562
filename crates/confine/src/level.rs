//! The ladder: how far a process is kept from the network, what is asked for, and what stays open.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A rung of the ladder. Each holds what those below it hold, so that `reached >= demanded` is a comparison.
///
/// What no rung stops: RDMA. A process that may open `/dev/infiniband/*` sends through the network card without a socket, past
/// every filter of system calls; a network namespace stops it only where the host's RDMA subsystem is in exclusive mode (`rdma
/// system`). Nor what the process writes into files that others read, nor what root of this machine does outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Variables that lead out are dropped ([`crate::environment`]). Any kernel. Stops accidents only.
    Environment,
    /// seccomp filters on system calls (Linux 3.17 for `seccomp(2)`; measured against 4.18 and newer), no capabilities, no new
    /// privileges.
    ///
    /// Stops: sockets of every family that the wish does not need, raw and packet sockets, io_uring, kernel keyrings (whose
    /// upcalls resolve names), other architectures' system calls, `ptrace` and its relatives, `setns`. Does not stop: by itself
    /// it sees numbers and not addresses, so that a family that is allowed is allowed to every address, and an AF_UNIX socket to
    /// every path and abstract name; the memory of other processes of the same user through `/proc/PID/mem` (Yama's
    /// `ptrace_scope` of 1 or more does).
    Seccomp,
    /// The same and a network namespace of its own, with nothing in it but its own loopback, made inside a user namespace of its
    /// own (Linux 3.8; some sites switch user namespaces off) or, where those are off, by a process that is root.
    ///
    /// Stops: every address, whatever the family and the call, and the abstract AF_UNIX names of everybody else.
    /// Does not stop: AF_UNIX sockets that are files; sockets that were open before (they are looked for and refused); files.
    Namespace,
    /// The same and Landlock (Linux 5.13; often compiled in and not switched on): only the files that were named, by ABI 4 (6.7)
    /// TCP ports, by ABI 6 (6.12) no signal and no abstract AF_UNIX name outside, by ABI 9 (7.1) AF_UNIX sockets that are files,
    /// by ABI 10 (7.2) UDP ports.
    ///
    /// Stops, besides: files elsewhere (a shell's start-up file that somebody runs later, a spool directory), other processes'
    /// memory. Does not stop: what lies below its ABI.
    Landlock,
}

impl Level {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Seccomp => "seccomp",
            Self::Namespace => "namespace",
            Self::Landlock => "landlock",
        }
    }
}

/// What a process still may do on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Wish {
    /// Nothing: no socket of any family; pairs of connected AF_UNIX sockets (`socketpair`) remain, they reach nobody.
    /// For data preparation, tokenising, evaluation, export, and a single rank.
    Nothing,
    /// AF_UNIX sockets, as files within one directory.
    Unix {
        /// The directory. It must exist.
        directory: PathBuf,
    },
    /// TCP and UDP over a loopback of its own, that nobody outside is on; no AF_UNIX. Needs [`Level::Namespace`]. For `mpirun`
    /// and its ranks on one machine: Open MPI 4.1 needs an interface that is up and TCP over it between mpirun and ranks, shared
    /// memory between ranks, and no AF_UNIX.
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
    /// sockets itself, and all rungs can be reached.
    Broker,
    /// The process itself, as MPI and NCCL do. No mechanism that this crate has sees the address: see [`Gap::Peers`].
    Itself,
}

impl Wish {
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
    pub fn allows_namespace(&self) -> bool {
        !matches!(self, Self::Hosts { by: Connects::Itself, .. })
    }
}

/// Something that the wish means to close and that stays open on this kernel. It is reported, never passed over.
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
    /// Other processes of the same user can be read and written through `/proc/PID/mem`, unless Yama forbids it. Closed by
    /// Landlock.
    OtherProcesses,
    /// Files are not restricted. Closed by Landlock with lists of paths.
    Files,
}

impl Gap {
    /// Every gap there is.
    pub const ALL: [Self; 6] = [Self::UnixPaths, Self::UnixNames, Self::Peers, Self::Udp, Self::OtherProcesses, Self::Files];

    /// Whether data can leave the machine through it at once, without the help of another program or of somebody who fetches a
    /// file.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Peers | Self::Udp)
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
            Self::OtherProcesses => "other_processes",
            Self::Files => "files",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_ordered() {
        let ladder = [Level::Environment, Level::Seccomp, Level::Namespace, Level::Landlock];
        assert!(ladder.is_sorted() && Level::Namespace >= Level::Seccomp && Level::Seccomp < Level::Landlock);
    }

    #[test]
    fn names_are_those_of_json() {
        for level in [Level::Environment, Level::Seccomp, Level::Namespace, Level::Landlock] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
        }
        for gap in Gap::ALL {
            assert_eq!(serde_json::to_value(gap).unwrap(), gap.name());
        }
        let hosts = Wish::Hosts { hosts: vec![], by: Connects::Broker };
        for wish in [Wish::Nothing, Wish::Unix { directory: "d".into() }, Wish::Loopback, Wish::Listen { port: 1 }, hosts] {
            assert_eq!(serde_json::to_value(&wish).unwrap()["kind"], wish.name());
        }
    }
}

//! The filters on system calls: what is refused always, and which sockets are left.
//!
//! A filter of seccompiler has one action for what matches and one for the rest, so that everything here is a list of what is
//! refused, with EPERM, and the rest is allowed: a program keeps all calls that have nothing to do with reaching others. That a
//! list of families *left* is wanted is said by rules of the form "not this and not that". A call by another architecture's
//! numbers (32-bit x86 on x86_64) kills the process; x32, which has the same architecture word, is refused by a filter of its
//! own. `socketcall`, the one call for all of sockets, does not exist on 64-bit x86 and ARM.
//!
//! Filters are of the calling thread and of what it starts later; [`crate::apply`] refuses to begin when there is a second
//! thread.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    sock_filter,
};

use crate::level::{Allowed, Connects};

/// What a filter could not be made or installed for.
pub(crate) type Error = seccompiler::Error;

/// Refused whatever is allowed, with the reason for each.
pub const CLOSED: [(&str, i64, &str); 22] = [
    ("io_uring_setup", libc::SYS_io_uring_setup, "a ring connects and sends without further system calls"),
    ("io_uring_enter", libc::SYS_io_uring_enter, "the same with a ring that was there before"),
    ("io_uring_register", libc::SYS_io_uring_register, "the same with a ring that was there before"),
    ("ptrace", libc::SYS_ptrace, "would make another process act"),
    ("process_vm_readv", libc::SYS_process_vm_readv, "reads another process's memory"),
    ("process_vm_writev", libc::SYS_process_vm_writev, "writes another process's memory"),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, "takes another process's sockets"),
    ("setns", libc::SYS_setns, "enters another process's network"),
    ("unshare", libc::SYS_unshare, "gives back capabilities, within a user namespace (so does `clone`, by a flag)"),
    ("bpf", libc::SYS_bpf, "programs that run in the kernel"),
    ("perf_event_open", libc::SYS_perf_event_open, "reads what other processes do"),
    ("userfaultfd", libc::SYS_userfaultfd, "holds the kernel in the middle of a call"),
    ("add_key", libc::SYS_add_key, "kernel keyrings"),
    ("request_key", libc::SYS_request_key, "makes the kernel look up a name, outside"),
    ("keyctl", libc::SYS_keyctl, "kernel keyrings"),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, "opens files past their paths"),
    ("init_module", libc::SYS_init_module, "root only: code for the kernel"),
    ("finit_module", libc::SYS_finit_module, "root only: code for the kernel"),
    ("kexec_load", libc::SYS_kexec_load, "root only: another kernel"),
    ("kexec_file_load", libc::SYS_kexec_file_load, "root only: another kernel"),
    ("mount", libc::SYS_mount, "root only: a network file system"),
    ("fsopen", libc::SYS_fsopen, "root only: a network file system"),
];

/// Multipath TCP, which Landlock's rules for TCP ports do not cover, is protocol 262; plain TCP is 0 or 6.
const TCP: [u64; 2] = [0, libc::IPPROTO_TCP as u64];
const TYPE_MASK: u64 = 0xf;

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions)?)
}

/// Refuses families other than these.
fn families(left: &[i32]) -> Result<SeccompRule, Error> {
    rule(left.iter().map(|family| when(0, SeccompCmpOp::Ne, number(*family))).collect::<Result<_, _>>()?)
}

fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

/// Refuses types other than these.
fn types(left: &[i32]) -> Result<Vec<Vec<SeccompCondition>>, Error> {
    let closed = (0..=TYPE_MASK).filter(|kind| !left.iter().any(|left| number(*left) == *kind));
    closed.map(|kind| Ok(vec![when(1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)?])).collect()
}

/// Refuses, for one family, types other than streams and datagrams; and for streams, protocols other than TCP.
fn tcp_and_udp(family: i32) -> Result<Vec<SeccompRule>, Error> {
    let is_family = || when(0, SeccompCmpOp::Eq, number(family));
    let is_type = |kind| when(1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind);
    let mut rules = Vec::new();
    for is_closed in types(&[libc::SOCK_STREAM, libc::SOCK_DGRAM])? {
        rules.push(rule([vec![is_family()?], is_closed].concat())?);
    }
    let other = TCP.iter().map(|protocol| when(2, SeccompCmpOp::Ne, *protocol)).collect::<Result<Vec<_>, _>>()?;
    rules.push(rule([vec![is_family()?, is_type(number(libc::SOCK_STREAM))?], other].concat())?);
    Ok(rules)
}

/// Netlink tells of interfaces and routes (protocol 0), which libraries ask when they look for an interface; every other use is
/// refused.
fn only_routes() -> Result<SeccompRule, Error> {
    rule(vec![when(0, SeccompCmpOp::Eq, number(libc::AF_NETLINK))?, when(2, SeccompCmpOp::Ne, number(libc::NETLINK_ROUTE))?])
}

fn internet() -> Result<Vec<SeccompRule>, Error> {
    let mut rules = vec![families(&[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK])?, only_routes()?];
    // Datagram sockets, too: Open MPI asks one for the list of interfaces (SIOCGIFCONF).
    for family in [libc::AF_INET, libc::AF_INET6] {
        rules.extend(tcp_and_udp(family)?);
    }
    Ok(rules)
}

/// Pairs of sockets that stay with each other: a connected stream, or sequence of packets, takes no second address. A datagram
/// socket (and a raw one, which the kernel makes one: unix(7)) sends to every path and name that it is given, pair or not.
fn pairs() -> Result<Vec<SeccompRule>, Error> {
    let mut rules = vec![families(&[libc::AF_UNIX])?];
    for is_closed in types(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET])? {
        rules.push(rule(is_closed)?);
    }
    Ok(rules)
}

/// Refuses a connection that is made by sending (TCP Fast Open).
fn fast_open(argument: u8) -> Result<Vec<SeccompRule>, Error> {
    let flag = number(libc::MSG_FASTOPEN);
    Ok(vec![rule(vec![when(argument, SeccompCmpOp::MaskedEq(flag), flag)?])?])
}

/// Which calls are refused, besides [`CLOSED`]; an empty list refuses the call always.
fn of_allowed(allowed: &Allowed) -> Result<Vec<(i64, Vec<SeccompRule>)>, Error> {
    let mut calls = vec![
        (libc::SYS_socketpair, pairs()?),
        (libc::SYS_sendto, fast_open(3)?),
        (libc::SYS_sendmsg, fast_open(2)?),
        (libc::SYS_sendmmsg, fast_open(3)?),
    ];
    match allowed {
        Allowed::Unix { .. } => calls.push((libc::SYS_socket, vec![families(&[libc::AF_UNIX])?])),
        Allowed::Loopback | Allowed::Hosts { by: Connects::Itself, .. } => calls.push((libc::SYS_socket, internet()?)),
        // Without `connect` a socket that was accepted, or handed over, cannot be turned to another address either.
        Allowed::Nothing | Allowed::Listen { .. } | Allowed::Hosts { by: Connects::Broker, .. } => {
            calls.extend([libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen].map(|call| (call, vec![])));
        }
    }
    Ok(calls)
}

/// The filters for what is allowed, in the order in which they are installed.
///
/// # Errors
/// On an architecture that seccompiler does not know.
pub(crate) fn programs(allowed: &Allowed) -> Result<Vec<BpfProgram>, Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = CLOSED.iter().map(|(_, number, _)| (*number, vec![])).collect();
    let namespace = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    calls.insert(libc::SYS_clone, vec![rule(vec![when(0, SeccompCmpOp::MaskedEq(namespace), namespace)?])?]);
    calls.extend(of_allowed(allowed)?);
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, arch)?;
    Ok(vec![filter.try_into()?, by_number()])
}

/// Refuses system calls whose number has bit 30: x32's, on a kernel that has it (on ARM no call has such a number). And says that
/// there is no `clone3`, whose flags lie in memory where no filter sees them: C libraries then use `clone`, whose flags are a
/// number.
fn by_number() -> BpfProgram {
    // Classic BPF (linux/bpf_common.h): 0x20 loads a word of the call's description, 0x35 and 0x15 jump where it is at least k,
    // or k; 0x06 returns k. Word 0 is the number; SECCOMP_RET_ERRNO is 0x0005_0000 with the error below, SECCOMP_RET_ALLOW
    // 0x7fff_0000 (linux/seccomp.h).
    const CLONE3: u32 = 435;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let errno = |number: i32| 0x0005_0000 | number.unsigned_abs();
    vec![
        step(0x20, 0, 0),
        step(0x35, 2, 0x4000_0000),
        step(0x15, 2, CLONE3),
        step(0x06, 0, 0x7fff_0000),
        step(0x06, 0, errno(libc::EPERM)),
        step(0x06, 0, errno(libc::ENOSYS)),
    ]
}

/// Installs filters for the calling thread, which first gives up new privileges.
///
/// # Errors
/// When the kernel takes no filter.
pub(crate) fn install(programs: &[BpfProgram]) -> Result<(), Error> {
    programs.iter().try_for_each(|program| seccompiler::apply_filter(program))
}

#[cfg(test)]
mod tests;

//! The filters on system calls: what is refused for every wish, and which sockets a wish leaves.
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

use crate::level::{Connects, Wish};

/// What a filter could not be made or installed for.
pub(crate) type Error = seccompiler::Error;

/// Refused whatever is wished for, with the reason for each.
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

/// Refuses, for one family, types other than these; and for streams, protocols other than TCP.
fn types(family: i32, left: &[i32]) -> Result<Vec<SeccompRule>, Error> {
    let is_family = || when(0, SeccompCmpOp::Eq, number(family));
    let is_type = |kind| when(1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind);
    let mut rules = Vec::new();
    for kind in (0..=TYPE_MASK).filter(|kind| !left.iter().any(|left| number(*left) == *kind)) {
        rules.push(rule(vec![is_family()?, is_type(kind)?])?);
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
        rules.extend(types(family, &[libc::SOCK_STREAM, libc::SOCK_DGRAM])?);
    }
    Ok(rules)
}

/// Refuses a connection that is made by sending (TCP Fast Open).
fn fast_open(argument: u8) -> Result<Vec<SeccompRule>, Error> {
    let flag = number(libc::MSG_FASTOPEN);
    Ok(vec![rule(vec![when(argument, SeccompCmpOp::MaskedEq(flag), flag)?])?])
}

/// Which calls a wish refuses, besides [`CLOSED`]; an empty list refuses the call always.
fn of_wish(wish: &Wish) -> Result<Vec<(i64, Vec<SeccompRule>)>, Error> {
    let pairs = (libc::SYS_socketpair, vec![families(&[libc::AF_UNIX])?]);
    let mut calls =
        vec![pairs, (libc::SYS_sendto, fast_open(3)?), (libc::SYS_sendmsg, fast_open(2)?), (libc::SYS_sendmmsg, fast_open(3)?)];
    match wish {
        Wish::Unix { .. } => calls.push((libc::SYS_socket, vec![families(&[libc::AF_UNIX])?])),
        Wish::Loopback | Wish::Hosts { by: Connects::Itself, .. } => calls.push((libc::SYS_socket, internet()?)),
        // Without `connect` a socket that was accepted, or handed over, cannot be turned to another address either.
        Wish::Nothing | Wish::Listen { .. } | Wish::Hosts { by: Connects::Broker, .. } => {
            calls.extend([libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen].map(|call| (call, vec![])));
        }
    }
    Ok(calls)
}

/// The filters for a wish, in the order in which they are installed.
///
/// # Errors
/// On an architecture that seccompiler does not know.
pub(crate) fn programs(wish: &Wish) -> Result<Vec<BpfProgram>, Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = CLOSED.iter().map(|(_, number, _)| (*number, vec![])).collect();
    let namespace = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    calls.insert(libc::SYS_clone, vec![rule(vec![when(0, SeccompCmpOp::MaskedEq(namespace), namespace)?])?]);
    calls.extend(of_wish(wish)?);
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
mod tests {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketType, socket, socketpair};

    use super::*;

    /// Runs `inside` in a thread that has the filters of a wish: they end with it.
    fn under<T: Send + 'static>(wish: &Wish, inside: impl FnOnce() -> T + Send + 'static) -> T {
        let programs = programs(wish).unwrap();
        std::thread::spawn(move || {
            install(&programs).unwrap();
            inside()
        })
        .join()
        .unwrap()
    }

    fn open(family: AddressFamily, kind: SocketType, protocol: u32) -> Result<(), Errno> {
        let protocol = RawProtocol::new(protocol).map(Protocol::from_raw);
        socket(family, kind, protocol).map(drop)
    }

    #[test]
    fn without_sockets_there_are_none() {
        for wish in [Wish::Nothing, Wish::Listen { port: 1 }, Wish::Hosts { hosts: vec![], by: Connects::Broker }] {
            let met = under(&wish, || {
                let families = (0..46).map(AddressFamily::from_raw);
                families.map(|family| open(family, SocketType::STREAM, 0)).collect::<Vec<_>>()
            });
            assert!(met.iter().all(|met| *met == Err(Errno::PERM)), "{wish:?}: {met:?}");
        }
    }

    #[test]
    fn pairs_of_sockets_remain() {
        let made = under(&Wish::Nothing, || {
            socketpair(AddressFamily::UNIX, SocketType::STREAM, rustix::net::SocketFlags::empty(), None).map(drop)
        });
        assert_eq!(made, Ok(()));
    }

    #[test]
    fn one_family_is_left() {
        let wish = Wish::Unix { directory: ".".into() };
        let met = under(&wish, || {
            let other = (0..46).filter(|family| *family != libc::AF_UNIX as u16).map(AddressFamily::from_raw);
            let other: Vec<_> = other.map(|family| open(family, SocketType::STREAM, 0)).collect();
            (open(AddressFamily::UNIX, SocketType::STREAM, 0), other)
        });
        assert_eq!(met.0, Ok(()));
        assert!(met.1.iter().all(|met| *met == Err(Errno::PERM)), "{met:?}");
    }

    #[test]
    fn internet_means_tcp_and_datagrams_and_a_look_at_the_interfaces() {
        let met = under(&Wish::Loopback, || {
            let inet = AddressFamily::INET;
            let open_ones = [
                open(inet, SocketType::STREAM, 0),
                open(inet, SocketType::STREAM, 6),
                open(inet, SocketType::DGRAM, 0),
                open(AddressFamily::NETLINK, SocketType::RAW, 0),
            ];
            let closed_ones = [
                open(inet, SocketType::RAW, 1),
                open(inet, SocketType::STREAM, 262),
                open(AddressFamily::INET6, SocketType::RAW, 58),
                open(inet, SocketType::SEQPACKET, 132),
                open(AddressFamily::UNIX, SocketType::STREAM, 0),
                open(AddressFamily::PACKET, SocketType::RAW, 0),
                open(AddressFamily::VSOCK, SocketType::STREAM, 0),
                open(AddressFamily::from_raw(38), SocketType::SEQPACKET, 0),
                open(AddressFamily::NETLINK, SocketType::RAW, 4),
                open(AddressFamily::NETLINK, SocketType::RAW, 16),
            ];
            (open_ones, closed_ones)
        });
        assert!(met.0.iter().all(|met| *met != Err(Errno::PERM)), "{met:?}");
        assert!(met.1.iter().all(|met| *met == Err(Errno::PERM)), "{met:?}");
    }

    #[test]
    fn a_ring_can_be_neither_made_nor_used() {
        let Ok(ring) = io_uring::IoUring::new(2) else { return };
        let met = under(&Wish::Loopback, move || {
            let made = io_uring::IoUring::new(2).map(drop).map_err(|error| error.raw_os_error());
            // Enters the kernel even with nothing to submit, because an answer is waited for.
            let used = ring.submitter().register_eventfd(0).map_err(|error| error.raw_os_error());
            let entered = ring.submitter().submit_and_wait(1).map(drop).map_err(|error| error.raw_os_error());
            (made, used, entered)
        });
        let refused = Err(Some(libc::EPERM));
        assert_eq!(met, (refused, refused, refused));
    }

    #[test]
    fn no_way_into_other_processes() {
        let met = under(&Wish::Loopback, || {
            let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
            let into = rustix::thread::LinkNameSpaceType::Network;
            let moved = rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(into));
            let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
            let taken = rustix::process::pidfd_getfd(own, 0, rustix::process::PidfdGetfdFlags::empty()).map(drop);
            (moved, taken)
        });
        assert_eq!(met, (Err(Errno::PERM), Err(Errno::PERM)));
    }

    const ALLOWED: u32 = 0x7fff_0000;
    const REFUSED: u32 = 0x0005_0000 | libc::EPERM.unsigned_abs();

    /// The verdict of one filter on a call, as the kernel would come to it (classic BPF, linux/filter.h; struct seccomp_data).
    fn verdict(program: &BpfProgram, number: u32, arguments: [u32; 6]) -> u32 {
        let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            offset if offset % 8 == 0 => arguments[usize::try_from(offset).unwrap() / 8 - 2],
            _ => 0,
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => a = word(step.k),
                0x54 => a &= step.k,
                0x05 => at += usize::try_from(step.k).unwrap(),
                0x15 => at += jump(a == step.k),
                0x25 => at += jump(a > step.k),
                0x35 => at += jump(a >= step.k),
                0x06 => return step.k,
                code => panic!("an instruction that this test does not know: {code:#x}"),
            }
        }
    }

    #[test]
    fn numbers_without_a_rule_of_their_own_are_refused() {
        let of = |number| verdict(&by_number(), number, [0; 6]);
        assert_eq!(of(41), ALLOWED);
        assert_eq!(of(0x4000_0000 | 41), REFUSED);
        assert_eq!(of(435), 0x0005_0000 | libc::ENOSYS.unsigned_abs());
    }

    #[test]
    fn every_closed_call_is_closed_for_every_wish() {
        let closed = [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_mount,
            libc::SYS_fsopen,
        ];
        let itself = Wish::Hosts { hosts: vec![], by: Connects::Itself };
        let unix = Wish::Unix { directory: ".".into() };
        for wish in [Wish::Nothing, unix, Wish::Loopback, Wish::Listen { port: 1 }, itself] {
            let filter = &programs(&wish).unwrap()[0];
            let of = |call: i64, arguments| verdict(filter, u32::try_from(call).unwrap(), arguments);
            for call in closed {
                assert_eq!(of(call, [0; 6]), REFUSED, "{call} for {wish:?}");
            }
            let open = libc::MSG_FASTOPEN.unsigned_abs() | libc::MSG_NOSIGNAL.unsigned_abs();
            assert_eq!(of(libc::SYS_sendto, [3, 0, 0, open, 0, 0]), REFUSED);
            assert_eq!(of(libc::SYS_sendmsg, [3, 0, open, 0, 0, 0]), REFUSED);
            assert_eq!(of(libc::SYS_sendmmsg, [3, 0, 1, open, 0, 0]), REFUSED);
            assert_eq!(of(libc::SYS_sendmsg, [3, 0, libc::MSG_NOSIGNAL.unsigned_abs(), 0, 0, 0]), ALLOWED);
            assert_eq!(of(libc::SYS_clone, [libc::CLONE_NEWUSER.unsigned_abs(), 0, 0, 0, 0, 0]), REFUSED);
            assert_eq!(of(libc::SYS_clone, [libc::CLONE_VM.unsigned_abs(), 0, 0, 0, 0, 0]), ALLOWED);
            assert_eq!(of(libc::SYS_socketpair, [2, 1, 0, 0, 0, 0]), REFUSED);
            assert_eq!(of(libc::SYS_openat, [0; 6]), ALLOWED);
        }
        assert_eq!(CLOSED.map(|(_, number, _)| number), closed);
    }

    #[test]
    fn threads_and_programs_start_and_namespaces_do_not() {
        let met = under(&Wish::Nothing, || {
            let thread = std::thread::spawn(|| 7).join().unwrap();
            let program = std::process::Command::new("true").status().unwrap().success();
            let namespace = std::process::Command::new("unshare").args(["--user", "true"]).output();
            (thread, program, namespace.is_ok_and(|output| output.status.success()))
        });
        assert_eq!(met, (7, true, false));
    }
}

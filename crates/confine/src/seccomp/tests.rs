//! The filters under threads of their own, and verdict by verdict.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RawProtocol, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, connect_unspec, sendto,
    socket, socketpair,
};

use super::*;

/// Runs `inside` in a thread that has the filters: they end with it.
fn under<T: Send + 'static>(allowed: &Allowed, inside: impl FnOnce() -> T + Send + 'static) -> T {
    let programs = programs(allowed).unwrap();
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
    for allowed in [Allowed::Nothing, Allowed::Listen { port: 1 }, Allowed::Hosts { hosts: vec![], by: Connects::Broker }] {
        let outcome = under(&allowed, || {
            let families = (0..46).map(AddressFamily::from_raw);
            families.map(|family| open(family, SocketType::STREAM, 0)).collect::<Vec<_>>()
        });
        assert!(outcome.iter().all(|outcome| *outcome == Err(Errno::PERM)), "{allowed:?}: {outcome:?}");
    }
}

fn all_allowances() -> [Allowed; 6] {
    let hosts = |by| Allowed::Hosts { hosts: vec![], by };
    let unix = Allowed::Unix { directory: ".".into() };
    let listen = Allowed::Listen { port: 1 };
    [Allowed::Nothing, unix, Allowed::Loopback, listen, hosts(Connects::Broker), hosts(Connects::Itself)]
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None)
}

#[test]
fn pairs_of_streams_remain_and_pairs_of_datagram_sockets_do_not() {
    for allowed in all_allowances() {
        let kinds = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM, SocketType::RAW, SocketType::RDM];
        let made = under(&allowed, move || kinds.map(|kind| pair(kind).map(drop)));
        let refused = Err(Errno::PERM);
        assert_eq!(made, [Ok(()), Ok(()), refused, refused, refused], "{allowed:?}");
    }
}

#[test]
fn an_end_of_a_pair_reaches_nobody_else() {
    let place = crate::testing::place_for_sockets();
    let (stream, datagram) = (place.path().join("stream"), place.path().join("datagram"));
    let listener = UnixListener::bind(&stream).unwrap();
    listener.set_nonblocking(true).unwrap();
    let hears = UnixDatagram::bind(&datagram).unwrap();
    hears.set_nonblocking(true).unwrap();
    for allowed in all_allowances() {
        let to = [&stream, &datagram].map(|path| SocketAddrUnix::new(path).unwrap());
        let reached = under(&allowed, move || {
            let mut reached = Vec::new();
            // Whether it is taken or not: what matters is who hears it.
            let send = |from: &OwnedFd| {
                for to in &to {
                    let _ = sendto(from, b"pair", SendFlags::NOSIGNAL, to);
                }
            };
            for kind in [SocketType::STREAM, SocketType::SEQPACKET] {
                let (one, other) = pair(kind).unwrap();
                // As it is, without its peer, and after an attempt to part them.
                reached.extend(to.iter().map(|to| connect(&one, to)));
                reached.push(connect_unspec(&one));
                send(&one);
                drop(other);
                reached.extend(to.iter().map(|to| connect(&one, to)));
                send(&one);
                reached.push(rustix::net::listen(&one, 1));
            }
            reached
        });
        assert!(reached.iter().all(Result::is_err), "{allowed:?}: {reached:?}");
        assert!(listener.accept().is_err() && hears.recv(&mut [0; 9]).is_err(), "{allowed:?}");
    }
}

#[test]
fn one_family_is_left() {
    let allowed = Allowed::Unix { directory: ".".into() };
    let outcome = under(&allowed, || {
        let other = (0..46).filter(|family| *family != libc::AF_UNIX as u16).map(AddressFamily::from_raw);
        let other: Vec<_> = other.map(|family| open(family, SocketType::STREAM, 0)).collect();
        (open(AddressFamily::UNIX, SocketType::STREAM, 0), other)
    });
    assert_eq!(outcome.0, Ok(()));
    assert!(outcome.1.iter().all(|outcome| *outcome == Err(Errno::PERM)), "{outcome:?}");
}

#[test]
fn internet_means_tcp_and_datagrams_and_a_look_at_the_interfaces() {
    let outcome = under(&Allowed::Loopback, || {
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
    assert!(outcome.0.iter().all(|outcome| *outcome != Err(Errno::PERM)), "{outcome:?}");
    assert!(outcome.1.iter().all(|outcome| *outcome == Err(Errno::PERM)), "{outcome:?}");
}

#[test]
fn a_ring_can_be_neither_made_nor_used() {
    let Ok(ring) = io_uring::IoUring::new(2) else {
        return crate::testing::skipped("use of a ring under the filters", "this kernel gives none");
    };
    let outcome = under(&Allowed::Loopback, move || {
        let made = io_uring::IoUring::new(2).map(drop).map_err(|error| error.raw_os_error());
        // Enters the kernel even with nothing to submit, because an answer is waited for.
        let used = ring.submitter().register_eventfd(0).map_err(|error| error.raw_os_error());
        let entered = ring.submitter().submit_and_wait(1).map(drop).map_err(|error| error.raw_os_error());
        (made, used, entered)
    });
    let refused = Err(Some(libc::EPERM));
    assert_eq!(outcome, (refused, refused, refused));
}

#[test]
fn no_way_into_other_processes() {
    let outcome = under(&Allowed::Loopback, || {
        let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
        let into = rustix::thread::LinkNameSpaceType::Network;
        let moved = rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(into));
        // Any file will do: the filter comes before the kernel looks at it, and before it says that it has no such call.
        let taken = rustix::process::pidfd_getfd(&namespace, 0, rustix::process::PidfdGetfdFlags::empty()).map(drop);
        (moved, taken)
    });
    assert_eq!(outcome, (Err(Errno::PERM), Err(Errno::PERM)));
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
fn every_closed_call_is_closed_whatever_is_allowed() {
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
    let itself = Allowed::Hosts { hosts: vec![], by: Connects::Itself };
    let unix = Allowed::Unix { directory: ".".into() };
    for allowed in [Allowed::Nothing, unix, Allowed::Loopback, Allowed::Listen { port: 1 }, itself] {
        let filter = &programs(&allowed).unwrap()[0];
        let of = |call: i64, arguments| verdict(filter, u32::try_from(call).unwrap(), arguments);
        for call in closed {
            assert_eq!(of(call, [0; 6]), REFUSED, "{call} for {allowed:?}");
        }
        let open = libc::MSG_FASTOPEN.unsigned_abs() | libc::MSG_NOSIGNAL.unsigned_abs();
        assert_eq!(of(libc::SYS_sendto, [3, 0, 0, open, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_sendmsg, [3, 0, open, 0, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_sendmmsg, [3, 0, 1, open, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_sendmsg, [3, 0, libc::MSG_NOSIGNAL.unsigned_abs(), 0, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_NEWUSER.unsigned_abs(), 0, 0, 0, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_VM.unsigned_abs(), 0, 0, 0, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_socketpair, [2, 1, 0, 0, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_socketpair, [1, 1 | 0x8_0000, 0, 0, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_socketpair, [1, 2 | 0x8_0000, 0, 0, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_openat, [0; 6]), ALLOWED);
    }
    assert_eq!(CLOSED.map(|(_, number, _)| number), closed);
}

#[test]
fn threads_and_programs_start_and_namespaces_do_not() {
    let outcome = under(&Allowed::Nothing, || {
        let thread = std::thread::spawn(|| 7).join().unwrap();
        let program = std::process::Command::new("true").status().unwrap().success();
        let namespace = std::process::Command::new("unshare").args(["--user", "true"]).output();
        (thread, program, namespace.is_ok_and(|output| output.status.success()))
    });
    assert_eq!(outcome, (7, true, false));
}

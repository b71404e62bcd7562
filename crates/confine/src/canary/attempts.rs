//! The attempts themselves, made by the one inside.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, RawProtocol, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::rdma;

/// How long one attempt may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something to attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Try {
    /// `connect` of a TCP socket.
    TcpConnect(SocketAddr),
    /// A connection made by `sendto` (TCP Fast Open), without `connect`.
    TcpFastOpen(SocketAddr),
    /// `connect` of a multipath TCP socket.
    TcpMultipath(SocketAddr),
    /// `sendto` of a datagram.
    UdpSendTo(SocketAddr),
    /// `sendmsg` of a datagram.
    UdpSendMsg(SocketAddr),
    /// `connect` and `send` of a datagram.
    UdpConnect(SocketAddr),
    /// A DNS question, by `sendto`.
    DnsQuestion(SocketAddr),
    /// `connect` of an AF_UNIX stream to a file.
    UnixConnect(PathBuf),
    /// `sendto` of an AF_UNIX datagram to a file.
    UnixSendTo(PathBuf),
    /// `connect` of an AF_UNIX stream to an abstract name.
    UnixName(String),
    /// `sendto` to a file by one end of a pair of AF_UNIX datagram sockets (`socketpair`).
    UnixPairSendTo(PathBuf),
    /// The same by one end of a pair of raw AF_UNIX sockets, which the kernel makes datagram sockets.
    UnixRawPairSendTo(PathBuf),
    /// `connect` to a file of one end of a pair of AF_UNIX streams.
    UnixPairConnect(PathBuf),
    /// `connect` of an AF_UNIX stream to another program's socket.
    LocalService(PathBuf),
    /// A DNS question to a name server of this machine; it passes when it is answered, or sent and not refused.
    NameServer(SocketAddr),
    /// `open` of a device that sends past the kernel's network (RDMA).
    Device(PathBuf),
    /// `io_uring_setup`.
    Ring,
    /// A raw IPv4 socket.
    Raw,
    /// A packet socket.
    Packet,
    /// A netlink socket of this protocol.
    Netlink(u32),
    /// A socket to the host of a virtual machine.
    Vsock,
    /// A socket to the kernel's ciphers.
    Cipher,
    /// `setns` to the network of a namespace file.
    Enter(PathBuf),
}

/// An attempt and the word by which it is known to whoever hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What to attempt.
    pub attempt: Try,
    /// Letters, digits and hyphens, at most 63 of them: a label of a name.
    pub token: String,
}

/// What an attempt outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No error. A datagram may still have reached nobody.
    Passed,
    /// A system call's error.
    Errno {
        /// Its number on Linux.
        number: i32,
        /// Its name, or what the system says.
        name: String,
    },
    /// An error without a number, as that of a name that was not found.
    Failed(String),
}

impl Try {
    /// What was called, and towards what.
    pub fn name(&self) -> String {
        match self {
            Self::TcpConnect(to) => format!("tcp connect to {to}"),
            Self::TcpFastOpen(to) => format!("tcp sendto (fast open) to {to}"),
            Self::TcpMultipath(to) => format!("multipath tcp connect to {to}"),
            Self::UdpSendTo(to) => format!("udp sendto to {to}"),
            Self::UdpSendMsg(to) => format!("udp sendmsg to {to}"),
            Self::UdpConnect(to) => format!("udp connect to {to}"),
            Self::DnsQuestion(to) => format!("dns question to {to}"),
            Self::UnixConnect(_) => "unix connect to a path".to_owned(),
            Self::UnixSendTo(_) => "unix sendto to a path".to_owned(),
            Self::UnixName(_) => "unix connect to an abstract name".to_owned(),
            Self::UnixPairSendTo(_) => "unix sendto to a path by a pair of datagram sockets".to_owned(),
            Self::UnixRawPairSendTo(_) => "unix sendto to a path by a pair of raw sockets".to_owned(),
            Self::UnixPairConnect(_) => "unix connect to a path by a pair of streams".to_owned(),
            Self::LocalService(path) => format!("unix connect to {}", path.display()),
            Self::Device(path) => format!("open of {}", path.display()),
            Self::NameServer(to) => format!("dns question to the name server {to}"),
            Self::Ring => "io_uring_setup".to_owned(),
            Self::Raw => "raw socket".to_owned(),
            Self::Packet => "packet socket".to_owned(),
            Self::Netlink(protocol) => format!("netlink socket of protocol {protocol}"),
            Self::Vsock => "vsock socket".to_owned(),
            Self::Cipher => "cipher socket".to_owned(),
            Self::Enter(_) => "setns to the network outside".to_owned(),
        }
    }

    /// The listener of ours at the other end, so that what counts is what it hears; `None` where there is none.
    pub fn listener(&self) -> Option<String> {
        match self {
            Self::TcpConnect(to) | Self::TcpFastOpen(to) | Self::TcpMultipath(to) => Some(format!("tcp {to}")),
            Self::UdpSendTo(to) | Self::UdpSendMsg(to) | Self::UdpConnect(to) => Some(format!("udp {to}")),
            Self::DnsQuestion(to) => Some(format!("dns {to}")),
            Self::UnixConnect(_) | Self::UnixPairConnect(_) => Some("the unix stream with a path".to_owned()),
            Self::UnixSendTo(_) | Self::UnixPairSendTo(_) | Self::UnixRawPairSendTo(_) => {
                Some("the unix datagram socket with a path".to_owned())
            }
            Self::UnixName(_) => Some("the unix stream with an abstract name".to_owned()),
            Self::LocalService(_) | Self::NameServer(_) | Self::Device(_) => None,
            Self::Ring | Self::Raw | Self::Packet | Self::Netlink(_) | Self::Vsock | Self::Cipher | Self::Enter(_) => None,
        }
    }

    /// Whether no error means that it got through: a connection that was made is one, whether or not its word was heard, and so
    /// is whatever has no listener. A datagram that was sent may have reached nobody.
    pub fn passing_is_through(&self) -> bool {
        !matches!(self, Self::UdpSendTo(_) | Self::UdpSendMsg(_) | Self::UdpConnect(_) | Self::DnsQuestion(_))
    }

    /// Whether it reaches only what is ours, or the kernel: what the control attempts, too. The rest speaks to programs of others
    /// and to name servers, and is attempted by who is confined alone.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::LocalService(_) | Self::NameServer(_))
    }
}

/// Makes an attempt.
pub fn attempt(plan: &Plan) -> Outcome {
    match make(&plan.attempt, &plan.token) {
        Ok(()) => Outcome::Passed,
        Err(error) => match error.raw_os_error() {
            Some(number) => Outcome::Errno { number, name: errno(number).map_or_else(|| error.to_string(), str::to_owned) },
            None => Outcome::Failed(error.to_string()),
        },
    }
}

fn make(what: &Try, token: &str) -> io::Result<()> {
    let word = token.as_bytes();
    match what {
        Try::TcpConnect(to) => TcpStream::connect_timeout(to, PATIENCE).map(|stream| say(stream, word)),
        Try::TcpFastOpen(to) => {
            let socket = socket(family(to), SocketType::STREAM, 0)?;
            let flag = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
            Ok(rustix::net::sendto(&socket, word, flag, to).map(drop)?)
        }
        Try::TcpMultipath(to) => {
            const MULTIPATH: u32 = 262;
            let socket = socket(family(to), SocketType::STREAM, MULTIPATH)?;
            rustix::net::connect(&socket, to)?;
            say(File::from(socket), word);
            Ok(())
        }
        Try::UdpSendTo(to) => any(to)?.send_to(word, to).map(drop),
        Try::UdpSendMsg(to) => {
            let slices = [io::IoSlice::new(word)];
            let mut no_descriptors = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg_addr(any(to)?, to, &slices, &mut no_descriptors, SendFlags::empty()).map(drop)?)
        }
        Try::UdpConnect(to) => {
            let socket = any(to)?;
            socket.connect(to)?;
            socket.send(word).map(drop)
        }
        Try::DnsQuestion(to) => any(to)?.send_to(&question(token), to).map(drop),
        Try::UnixConnect(path) => UnixStream::connect(path).map(|stream| say(stream, word)),
        Try::UnixSendTo(path) => UnixDatagram::unbound()?.send_to(word, path).map(drop),
        Try::UnixName(name) => {
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&name).map(|stream| say(stream, word))
        }
        Try::UnixPairSendTo(path) => pair(SocketType::DGRAM)?.send_to(word, path).map(drop),
        Try::UnixRawPairSendTo(path) => pair(SocketType::RAW)?.send_to(word, path).map(drop),
        Try::UnixPairConnect(path) => {
            let (one, _other) = UnixStream::pair()?;
            Ok(rustix::net::connect(&one, &SocketAddrUnix::new(path)?)?)
        }
        Try::LocalService(path) => UnixStream::connect(path).map(drop),
        Try::Device(path) => rdma::open(path),
        Try::NameServer(to) => ask(to, &question(token)),
        Try::Ring => io_uring::IoUring::new(2).map(drop),
        Try::Raw => socket(AddressFamily::INET, SocketType::RAW, 1).map(drop),
        Try::Packet => socket(AddressFamily::PACKET, SocketType::RAW, 0).map(drop),
        Try::Netlink(protocol) => socket(AddressFamily::NETLINK, SocketType::RAW, *protocol).map(drop),
        Try::Vsock => socket(AddressFamily::VSOCK, SocketType::STREAM, 0).map(drop),
        Try::Cipher => {
            const ALG: u16 = 38;
            socket(AddressFamily::from_raw(ALG), SocketType::SEQPACKET, 0).map(drop)
        }
        Try::Enter(path) => {
            let namespace = File::open(path)?;
            Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
        }
    }
}

/// A connection that was made counts as it is; what becomes of the word is for who hears it.
fn say(mut stream: impl io::Write, word: &[u8]) {
    let _ = stream.write_all(word);
}

/// One end of a pair; the other is gone, which matters to none that sends elsewhere.
fn pair(kind: SocketType) -> io::Result<UnixDatagram> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?.0.into())
}

fn socket(family: AddressFamily, kind: SocketType, protocol: u32) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::net::socket(family, kind, RawProtocol::new(protocol).map(Protocol::from_raw))?)
}

fn family(to: &SocketAddr) -> AddressFamily {
    if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A datagram socket of the other end's family.
fn any(to: &SocketAddr) -> io::Result<UdpSocket> {
    Ok(UdpSocket::from(socket(family(to), SocketType::DGRAM, 0)?))
}

fn ask(to: &SocketAddr, question: &[u8]) -> io::Result<()> {
    let socket = any(to)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question)?;
    match socket.recv(&mut [0; 512]) {
        // Sent, and nobody refused it: it may be anywhere.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        answer => answer.map(drop),
    }
}

/// A DNS question (RFC 1035, section 4): a header that asks one question, the name `TOKEN.invalid`, type A, class IN.
fn question(token: &str) -> Vec<u8> {
    let mut packet = vec![0x51, 0x10, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [token, "invalid"] {
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label.bytes().take(63));
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The names of the errors that attempts meet.
fn errno(number: i32) -> Option<&'static str> {
    let names = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EACCES, "EACCES"),
        (libc::ENXIO, "ENXIO"),
        (libc::EINVAL, "EINVAL"),
        (libc::EISCONN, "EISCONN"),
        (libc::EPROTOTYPE, "EPROTOTYPE"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
    ];
    names.into_iter().find(|(known, _)| *known == number).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_holds_its_token_as_a_label() {
        let packet = question("canary-1");
        assert_eq!(packet[12], 8);
        assert_eq!(&packet[13..21], b"canary-1");
        assert_eq!(&packet[21..30], b"\x07invalid\0");
    }

    #[test]
    fn a_connection_counts_though_its_word_is_lost() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let hangs_up = std::thread::spawn(move || drop(listener.accept()));
        // A word too long for the buffers of a connection that nobody reads.
        let outcome = attempt(&Plan { attempt: Try::TcpConnect(to), token: "t".repeat(1 << 24) });
        hangs_up.join().unwrap();
        assert_eq!(outcome, Outcome::Passed);
    }

    #[test]
    fn an_end_of_a_pair_of_datagram_sockets_reaches_a_stranger_when_it_is_free_to() {
        let place = crate::testing::place_for_sockets();
        let path = place.path().join("stranger");
        let stranger = UnixDatagram::bind(&path).unwrap();
        stranger.set_nonblocking(true).unwrap();
        for attempt in [Try::UnixPairSendTo(path.clone()), Try::UnixRawPairSendTo(path.clone())] {
            assert_eq!(super::attempt(&Plan { attempt, token: "pair".into() }), Outcome::Passed);
            assert_eq!(stranger.recv(&mut [0; 9]).unwrap(), 4);
        }
        let streams = Plan { attempt: Try::UnixPairConnect(path), token: "pair".into() };
        assert!(matches!(attempt(&streams), Outcome::Errno { .. }));
    }

    #[test]
    fn errors_have_names() {
        let outcome = attempt(&Plan { attempt: Try::UnixConnect("no/such/path".into()), token: "t".into() });
        assert_eq!(outcome, Outcome::Errno { number: libc::ENOENT, name: "ENOENT".into() });
    }
}

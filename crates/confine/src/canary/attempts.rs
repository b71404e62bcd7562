//! The attempts themselves, made by the one inside.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RawProtocol, SendAncillaryBuffer, SendFlags, SocketType};
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

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
    /// `connect` of an AF_UNIX stream to another program's socket.
    Door(PathBuf),
    /// `getaddrinfo` of a name.
    Resolve(String),
    /// A DNS question to a name server of this machine; it passes when it is answered, or sent and not refused.
    NameServer(SocketAddr),
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

/// What an attempt met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
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
            Self::Door(path) => format!("unix connect to {}", path.display()),
            Self::Resolve(name) => format!("getaddrinfo of {name}"),
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

    /// Whether a listener of ours is at the other end, so that what counts is what it hears.
    pub fn has_listener(&self) -> bool {
        match self {
            Self::TcpConnect(_) | Self::TcpFastOpen(_) | Self::TcpMultipath(_) => true,
            Self::UdpSendTo(_) | Self::UdpSendMsg(_) | Self::UdpConnect(_) | Self::DnsQuestion(_) => true,
            Self::UnixConnect(_) | Self::UnixSendTo(_) | Self::UnixName(_) => true,
            Self::Door(_) | Self::Resolve(_) | Self::NameServer(_) | Self::Ring | Self::Raw | Self::Packet => false,
            Self::Netlink(_) | Self::Vsock | Self::Cipher | Self::Enter(_) => false,
        }
    }
}

/// Makes an attempt.
pub fn attempt(plan: &Plan) -> Met {
    match make(&plan.attempt, &plan.token) {
        Ok(()) => Met::Passed,
        Err(error) => match error.raw_os_error() {
            Some(number) => Met::Errno { number, name: errno(number).map_or_else(|| error.to_string(), str::to_owned) },
            None => Met::Failed(error.to_string()),
        },
    }
}

fn make(what: &Try, token: &str) -> io::Result<()> {
    let word = token.as_bytes();
    match what {
        Try::TcpConnect(to) => TcpStream::connect_timeout(to, PATIENCE)?.write_all(word),
        Try::TcpFastOpen(to) => {
            let socket = socket(family(to), SocketType::STREAM, 0)?;
            let flag = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
            Ok(rustix::net::sendto(&socket, word, flag, to).map(drop)?)
        }
        Try::TcpMultipath(to) => {
            const MULTIPATH: u32 = 262;
            let socket = socket(family(to), SocketType::STREAM, MULTIPATH)?;
            rustix::net::connect(&socket, to)?;
            File::from(socket).write_all(word)
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
        Try::UnixConnect(path) => UnixStream::connect(path)?.write_all(word),
        Try::UnixSendTo(path) => UnixDatagram::unbound()?.send_to(word, path).map(drop),
        Try::UnixName(name) => {
            UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?.write_all(word)
        }
        Try::Door(path) => UnixStream::connect(path).map(drop),
        Try::Resolve(name) => match (name.as_str(), 53).to_socket_addrs()?.next() {
            Some(_) => Ok(()),
            None => Err(io::Error::other("no address")),
        },
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
        (libc::EINVAL, "EINVAL"),
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
    fn errors_have_names() {
        let met = attempt(&Plan { attempt: Try::UnixConnect("no/such/path".into()), token: "t".into() });
        assert_eq!(met, Met::Errno { number: libc::ENOENT, name: "ENOENT".into() });
    }
}

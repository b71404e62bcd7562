//! A network namespace of the process's own, inside a user namespace of its own, and a loopback in it.
//!
//! The user namespace is made for root, too: a process that is root inside it and nowhere else cannot go back (`setns` asks for a
//! capability in the namespace that owns the other network). Its map holds one user and one group, those that the process had:
//! files of others keep their modes and root is not above them any more. Where user namespaces are switched off and the process
//! is root, the network namespace is made alone.

use std::fs;
use std::io::{self, Write as _};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::error::Refused;

/// Which namespaces a process was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// A network inside a user namespace of its own.
    UserAndNetwork,
    /// A network alone, made by root.
    Network,
}

/// How many threads this process has.
pub(crate) fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

#[expect(
    deprecated,
    reason = "unsafe only for FILES, which gives threads different tables of open files; its successor is an unsafe function"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}

/// Moves the calling process, which has one thread, into a network of its own; or says why the kernel gives it none (EPERM or
/// ENOSPC where namespaces are switched off, EINVAL with a second thread), and then nothing has happened.
///
/// # Errors
/// When the namespaces are there and the process's user could not be mapped: it is nobody now, and should end.
pub(crate) fn enter() -> Result<io::Result<Namespace>, Refused> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) {
        Ok(()) => {
            // Only a process that cannot change its groups may map one without privileges (user_namespaces(7)).
            let mapped = write("/proc/self/setgroups", "deny")
                .and_then(|()| write("/proc/self/uid_map", &format!("{user} {user} 1\n")))
                .and_then(|()| write("/proc/self/gid_map", &format!("{group} {group} 1\n")));
            mapped.map(|()| Ok(Namespace::UserAndNetwork)).map_err(Refused::at("mapping the user of a new namespace"))
        }
        Err(refused) => Ok(unshare(UnshareFlags::NEWNET).map(|()| Namespace::Network).map_err(|_| refused)),
    }
}

/// These files take one write and must not be created.
fn write(path: &str, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Brings the loopback of the calling process's own network up, which gives it 127.0.0.1 and ::1.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, &link_up(1), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0_u8; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
    // struct nlmsghdr is 16 bytes; the error, 0 or a negative errno, follows it.
    let code = answer.get(..length).and_then(|answer| answer.get(16..20)).and_then(|word| <[u8; 4]>::try_from(word).ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "netlink: an answer without a verdict")),
    }
}

/// The message that sets IFF_UP on an interface and asks for a verdict: struct nlmsghdr and struct ifinfomsg of rtnetlink(7).
fn link_up(index: i32) -> Vec<u8> {
    const REQUEST_AND_VERDICT: u16 = 0x1 | 0x4;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_VERDICT.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([0_u8; 4]);
    message.extend(index.to_ne_bytes());
    message.extend(libc::IFF_UP.to_ne_bytes());
    message.extend(libc::IFF_UP.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let message = link_up(1);
        assert_eq!(message.len(), 32);
        assert_eq!(u32::from_ne_bytes(message[..4].try_into().unwrap()), 32);
    }

    #[test]
    fn threads_are_counted() {
        let before = threads().unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        assert!(threads().unwrap() > 1 && before >= 1);
        drop(hold);
        let _ = thread.join();
    }

    #[test]
    fn a_process_with_threads_cannot_have_a_user_namespace() {
        let refused = unshare(UnshareFlags::NEWUSER).unwrap_err();
        assert!([Some(libc::EINVAL), Some(libc::EPERM), Some(libc::ENOSPC)].contains(&refused.raw_os_error()), "{refused}");
    }
}

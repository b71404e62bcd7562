//! Those who listen, outside, and the plan of what is attempted towards them.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::addresses::{machine, name_servers};
use super::attempts::{Plan, Try};
use crate::rdma;

/// How long a connection that was made may take to hand over its word; it is there already as a rule.
const PATIENCE: Duration = Duration::from_secs(1);

/// Netlink protocols that speak of sockets, of the kernel's events and of families made at run time (linux/netlink.h).
const NETLINK: [u32; 3] = [4, 15, 16];

/// Where programs listen that look names up, or that do things, for others.
const LOCAL_SERVICES: [&str; 6] = [
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/dbus/system_bus_socket",
    "/run/munge/munge.socket.2",
    "/run/docker.sock",
    "/run/podman/podman.sock",
];

/// Open listeners. They end with this value, and their files with them.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    streams: Vec<UnixListener>,
    datagrams: UnixDatagram,
    files: [PathBuf; 2],
    name: String,
    nonce: String,
    absent: Vec<String>,
    outside: bool,
    rounds: u32,
    heard: Vec<Vec<u8>>,
}

impl Listeners {
    /// Opens a TCP and two UDP listeners on both loopbacks and on an address of this machine in each family, and AF_UNIX
    /// listeners in a directory and under an abstract name.
    ///
    /// # Errors
    /// When IPv4's loopback or the directory cannot be listened on. What else this machine lacks is said by
    /// [`Listeners::absent`].
    pub fn open(directory: &Path) -> io::Result<Self> {
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let nonce = format!("{}-{nanoseconds}", std::process::id());
        let name = format!("sirocco-canary-{nonce}");
        let files = ["stream", "datagram"].map(|kind| directory.join(format!("canary-{nonce}-{kind}")));
        let [stream, datagram] = &files;
        let streams = vec![UnixListener::bind(stream)?, UnixListener::bind_addr(&UnixAddress::from_abstract_name(&name)?)?];
        let datagrams = UnixDatagram::bind(datagram)?;
        datagrams.set_nonblocking(true)?;
        for file in &files {
            fs::set_permissions(file, Permissions::from_mode(0o777))?;
        }
        for listener in &streams {
            listener.set_nonblocking(true)?;
        }
        let mut open = Self {
            tcp: vec![],
            udp: vec![],
            streams,
            datagrams,
            files,
            name,
            nonce,
            absent: vec![],
            outside: false,
            rounds: 0,
            heard: vec![],
        };
        open.listen_on(Ipv4Addr::LOCALHOST.into())?;
        for address in [IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().chain(machine()) {
            match open.listen_on(address) {
                Ok(()) => open.outside |= !address.is_loopback(),
                Err(error) => open.absent.push(format!("{address}: {error}")),
            }
        }
        Ok(open)
    }

    fn listen_on(&mut self, address: IpAddr) -> io::Result<()> {
        let tcp = TcpListener::bind((address, 0))?;
        tcp.set_nonblocking(true)?;
        // The second stands for a name server.
        for _ in 0..2 {
            let udp = UdpSocket::bind((address, 0))?;
            udp.set_nonblocking(true)?;
            self.udp.push(udp);
        }
        self.tcp.push(tcp);
        Ok(())
    }

    /// What this machine could not listen on.
    pub fn absent(&self) -> Vec<String> {
        self.absent.clone()
    }

    /// Whether one of them has an address of this machine that is no loopback.
    pub fn has_outside(&self) -> bool {
        self.outside
    }

    /// Everything that is to be attempted, with words that no other plan has.
    pub fn plan(&mut self) -> Vec<Plan> {
        let mut tries = Vec::new();
        for to in self.tcp.iter().filter_map(|listener| listener.local_addr().ok()) {
            tries.extend([Try::TcpConnect(to), Try::TcpFastOpen(to), Try::TcpMultipath(to)]);
        }
        let udp: Vec<_> = self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        for pair in udp.chunks_exact(2) {
            if let [to, dns] = *pair {
                tries.extend([Try::UdpSendTo(to), Try::UdpSendMsg(to), Try::UdpConnect(to), Try::DnsQuestion(dns)]);
            }
        }
        let [stream, datagram] = self.files.clone();
        tries.extend([Try::UnixPairSendTo(datagram.clone()), Try::UnixRawPairSendTo(datagram.clone())]);
        tries.extend([Try::UnixPairConnect(stream.clone()), Try::UnixConnect(stream), Try::UnixSendTo(datagram)]);
        tries.push(Try::UnixName(self.name.clone()));
        tries.extend(LOCAL_SERVICES.iter().filter(|path| Path::new(path).exists()).map(|path| Try::LocalService(path.into())));
        tries.extend(name_servers().into_iter().map(|server| Try::NameServer(SocketAddr::new(server, 53))));
        let devices = rdma::devices(Path::new("/dev"));
        let devices = if devices.is_empty() { vec![rdma::USUAL.into()] } else { devices };
        tries.extend(devices.into_iter().map(Try::Device));
        tries.extend([Try::Ring, Try::Raw, Try::Packet, Try::Vsock, Try::Cipher]);
        tries.extend(NETLINK.map(Try::Netlink));
        tries.push(Try::Enter(format!("/proc/{}/ns/net", std::process::id()).into()));
        self.rounds = self.rounds.saturating_add(1);
        let token = |index| format!("canary-{index}-{}-{}-end", self.rounds, self.nonce);
        tries.into_iter().enumerate().map(|(index, attempt)| Plan { attempt, token: token(index) }).collect()
    }

    /// Whether a word has been heard: within a datagram, or at the beginning of a stream.
    pub fn has_heard(&mut self, token: &str) -> bool {
        self.listen();
        self.heard.iter().any(|text| text.windows(token.len()).any(|window| window == token.as_bytes()))
    }

    /// Takes what has come.
    fn listen(&mut self) {
        for listener in &self.tcp {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
                self.heard.push(beginning(stream));
            }
        }
        for listener in &self.streams {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
                self.heard.push(beginning(stream));
            }
        }
        let mut packet = [0; 512];
        for socket in &self.udp {
            while let Ok(length) = socket.recv(&mut packet) {
                self.heard.push(packet.iter().copied().take(length).collect());
            }
        }
        while let Ok(length) = self.datagrams.recv(&mut packet) {
            self.heard.push(packet.iter().copied().take(length).collect());
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

fn beginning(stream: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = stream.take(512).read_to_end(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::super::attempts::attempt;
    use super::*;

    #[test]
    fn what_gets_through_is_heard() {
        let directory = crate::testing::place_for_sockets();
        let mut listeners = Listeners::open(directory.path()).unwrap();
        let to_us: Vec<_> = listeners.plan().into_iter().filter(|plan| plan.attempt.listener().is_some()).collect();
        assert!(to_us.len() >= 10);
        for plan in &to_us {
            assert!(!listeners.has_heard(&plan.token), "before {}", plan.attempt.name());
            let outcome = attempt(plan);
            // A kernel without multipath TCP, and one that is told not to use fast open, refuse by themselves.
            let was_heard = listeners.has_heard(&plan.token);
            assert_eq!(was_heard, outcome == super::super::attempts::Outcome::Passed, "{}: {outcome:?}", plan.attempt.name());
            if matches!(plan.attempt, Try::TcpConnect(_) | Try::UdpSendTo(_) | Try::DnsQuestion(_) | Try::UnixConnect(_)) {
                assert!(was_heard, "{}", plan.attempt.name());
            }
        }
    }

    #[test]
    fn their_files_end_with_them() {
        let directory = crate::testing::place_for_sockets();
        drop(Listeners::open(directory.path()).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn tokens_are_labels_and_differ_and_none_begins_another() {
        let directory = crate::testing::place_for_sockets();
        let mut listeners = Listeners::open(directory.path()).unwrap();
        let plans = [listeners.plan(), listeners.plan()].concat();
        let tokens: std::collections::BTreeSet<_> = plans.iter().map(|plan| plan.token.as_str()).collect();
        assert_eq!(tokens.len(), plans.len());
        assert!(tokens.iter().all(|token| token.len() < 64 && token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')));
        assert!(tokens.iter().all(|one| tokens.iter().all(|other| one == other || !other.contains(one))));
    }

    #[test]
    fn devices_are_attempted_where_there_are_none_too() {
        let directory = crate::testing::place_for_sockets();
        let plan = Listeners::open(directory.path()).unwrap().plan();
        assert!(plan.iter().any(|plan| matches!(plan.attempt, Try::Device(_))));
    }
}

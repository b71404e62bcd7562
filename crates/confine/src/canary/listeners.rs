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

/// How long a connection that was made may take to hand over its word; it is there already as a rule.
const PATIENCE: Duration = Duration::from_secs(1);

/// Netlink protocols that speak of sockets, of the kernel's events and of families made at run time (linux/netlink.h).
const NETLINK: [u32; 3] = [4, 15, 16];

/// Where programs listen that look names up, or that do things, for others.
const DOORS: [&str; 6] = [
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
        let mut open = Self { tcp: vec![], udp: vec![], streams, datagrams, files, name, nonce, absent: vec![] };
        open.listen_on(Ipv4Addr::LOCALHOST.into())?;
        for address in [IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().chain(machine()) {
            if let Err(error) = open.listen_on(address) {
                open.absent.push(format!("{address}: {error}"));
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

    /// Everything that is to be attempted.
    pub fn plan(&self) -> Vec<Plan> {
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
        tries.extend([Try::UnixConnect(stream), Try::UnixSendTo(datagram), Try::UnixName(self.name.clone())]);
        tries.push(Try::Resolve("sirocco-canary.invalid".to_owned()));
        tries.extend(DOORS.iter().filter(|door| Path::new(door).exists()).map(|door| Try::Door(door.into())));
        tries.extend(name_servers().into_iter().map(|server| Try::NameServer(SocketAddr::new(server, 53))));
        tries.extend([Try::Ring, Try::Raw, Try::Packet, Try::Vsock, Try::Cipher]);
        tries.extend(NETLINK.map(Try::Netlink));
        tries.push(Try::Enter(format!("/proc/{}/ns/net", std::process::id()).into()));
        let token = |index| format!("canary-{index}-{}", self.nonce);
        tries.into_iter().enumerate().map(|(index, attempt)| Plan { attempt, token: token(index) }).collect()
    }

    /// What has been heard since they were opened, or last asked: a datagram or the beginning of a stream each.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        for listener in &self.tcp {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
                heard.push(beginning(stream));
            }
        }
        for listener in &self.streams {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
                heard.push(beginning(stream));
            }
        }
        let mut packet = [0; 512];
        for socket in &self.udp {
            while let Ok(length) = socket.recv(&mut packet) {
                heard.push(packet.iter().copied().take(length).collect());
            }
        }
        while let Ok(length) = self.datagrams.recv(&mut packet) {
            heard.push(packet.iter().copied().take(length).collect());
        }
        heard
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
        let directory = tempfile::tempdir().unwrap();
        let listeners = Listeners::open(directory.path()).unwrap();
        let to_us: Vec<_> = listeners.plan().into_iter().filter(|plan| plan.attempt.has_listener()).collect();
        assert!(to_us.len() >= 10);
        for plan in &to_us {
            let met = attempt(plan);
            let heard = listeners.heard();
            // A kernel without multipath TCP, and one that is told not to use fast open, refuse by themselves.
            let was_heard = heard.iter().any(|text| text.windows(plan.token.len()).any(|window| window == plan.token.as_bytes()));
            assert_eq!(was_heard, met == super::super::attempts::Met::Passed, "{}: {met:?}", plan.attempt.name());
            if matches!(plan.attempt, Try::TcpConnect(_) | Try::UdpSendTo(_) | Try::DnsQuestion(_) | Try::UnixConnect(_)) {
                assert!(was_heard, "{}", plan.attempt.name());
            }
        }
    }

    #[test]
    fn their_files_end_with_them() {
        let directory = tempfile::tempdir().unwrap();
        drop(Listeners::open(directory.path()).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn tokens_are_labels_and_differ() {
        let directory = tempfile::tempdir().unwrap();
        let plan = Listeners::open(directory.path()).unwrap().plan();
        let tokens: std::collections::BTreeSet<_> = plan.iter().map(|plan| plan.token.as_str()).collect();
        assert_eq!(tokens.len(), plan.len());
        assert!(tokens.iter().all(|token| token.len() < 64 && token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')));
    }
}

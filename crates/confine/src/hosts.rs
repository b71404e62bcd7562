//! Jobs of several nodes: connections only to the job's own hosts.
//!
//! # What is enforced
//!
//! **By the broker** (this module, [`crate::Connects::Broker`]). A process outside the confinement holds the list of hosts. The
//! confined process has no network at all: its own namespace, no `socket`, no `connect`. It asks the broker over an AF_UNIX
//! stream that it opened before, and gets a connected TCP socket (SCM_RIGHTS) when the address is on the list, or an accepted one
//! when the peer's address is. The broker makes the connection itself with an address that it copied, so that nothing can change
//! between the look and the act; the process cannot turn a socket that it was given elsewhere, since `connect`, `bind`, `listen`
//! and TCP Fast Open are closed to it. This is enforced whole, on every kernel with seccomp.
//!
//! **For processes that call `connect` themselves** ([`crate::Connects::Itself`]: Open MPI, UCX, NCCL): seccomp sees the number
//! of the address's place in memory and not the address, Landlock knows ports and not addresses (through ABI 10), and a network
//! namespace has no way to the other nodes. So the job's hosts are **not** enforced, and [`crate::Gap::Peers`] says so in every
//! report; UDP, whose sockets Open MPI needs to ask for interfaces, is closed only by Landlock ABI 10 ([`crate::Gap::Udp`]). What
//! is in force: TCP, UDP and route netlink as the only sockets; no raw, packet, AF_UNIX, multipath or vsock sockets, no Fast
//! Open, no rings.
//!
//! # What would enforce it, and why it is not here
//!
//! - **seccomp user notification** (Linux 5.0; 5.9 for ADDFD): a supervisor is told of each `connect`, takes the process's socket
//!   (`pidfd_getfd`, Linux 5.6), reads the address once, connects that same socket, and answers with the result; to let the call
//!   go on instead would be open to a second thread that changes the address meanwhile (seccomp_unotify(2) warns of it).
//!   seccompiler cannot ask for the listener, and the crates that can are bindings of a C library under the LGPL, or unsafe for
//!   their callers: outside of what this project links and writes.
//! - **seccomp with a tracer** (SECCOMP_RET_TRACE, Linux 4.8 for its order): the same supervisor over ptrace. It fails closed,
//!   because a traced call without a tracer is ENOSYS, and safe crates for ptrace exist. It costs a stop of the process for every
//!   signal, keeps debuggers out, and has to be written for each architecture.
//! - **The site**: nftables by control group, a firewall between partitions, partition keys of InfiniBand. It holds for RDMA,
//!   too, which passes by everything above: an RDMA queue pair is set up through `/dev/infiniband`, and often over a TCP
//!   connection, but its data meets no socket.
//!
//! Until one of these is there, a job of several nodes under MPI whose policy demands that nothing leaves has to rely on the
//! site, and its report says so.

use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// How long the broker tries to reach a host.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest request: an IPv6 address with a scope and a port.
const LONGEST: u64 = 100;

/// Holds the list and makes the connections, outside.
#[derive(Debug)]
pub struct Broker {
    hosts: Vec<IpAddr>,
    listener: Option<TcpListener>,
}

impl Broker {
    /// One for the job's hosts; peers are accepted on `listener`, where there is one.
    pub fn new(hosts: impl IntoIterator<Item = IpAddr>, listener: Option<TcpListener>) -> Self {
        Self { hosts: hosts.into_iter().map(|host| host.to_canonical()).collect(), listener }
    }

    /// Whether an address is one of the job's hosts. IPv4 inside IPv6 is IPv4.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.hosts.contains(&address.to_canonical())
    }

    /// Takes clients of the same user, each on a thread, until the listener fails. Never returns otherwise.
    ///
    /// # Errors
    /// When clients cannot be accepted any more.
    pub fn run(&self, clients: &UnixListener) -> io::Result<()> {
        let own = rustix::process::geteuid();
        std::thread::scope(|scope| {
            loop {
                let (client, _) = clients.accept()?;
                if rustix::net::sockopt::socket_peercred(&client).is_ok_and(|peer| peer.uid == own) {
                    // A client that breaks off ends its thread and nothing else.
                    scope.spawn(move || self.serve(&client));
                }
            }
        })
    }

    /// Answers one client's requests, until it hangs up.
    ///
    /// # Errors
    /// When the client breaks off.
    pub fn serve(&self, client: &UnixStream) -> io::Result<()> {
        let mut requests = BufReader::new(client);
        loop {
            let mut line = String::new();
            if requests.by_ref().take(LONGEST).read_line(&mut line)? == 0 {
                return Ok(());
            }
            let made = match line.trim_end() {
                "accept" => self.accept(),
                address => self.connect(address),
            };
            match made {
                Ok(socket) => hand_over(client, &socket)?,
                Err(error) => refuse(client, error.raw_os_error().unwrap_or(libc::EIO))?,
            }
        }
    }

    fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let to: SocketAddr = address.parse().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        if !self.knows(to.ip()) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        TcpStream::connect_timeout(&to, PATIENCE)
    }

    /// The next peer that is one of the job's hosts; others are hung up on.
    fn accept(&self) -> io::Result<TcpStream> {
        let listener = self.listener.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
        loop {
            let (peer, address) = listener.accept()?;
            if self.knows(address.ip()) {
                return Ok(peer);
            }
        }
    }
}

/// An answer is a four-byte errno, 0 with a socket beside it.
fn hand_over(client: &UnixStream, socket: &TcpStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for one descriptor"));
    }
    let none = 0_i32.to_ne_bytes();
    Ok(rustix::net::sendmsg(client, &[IoSlice::new(&none)], &mut control, SendFlags::NOSIGNAL).map(drop)?)
}

fn refuse(client: &UnixStream, errno: i32) -> io::Result<()> {
    let errno = errno.to_ne_bytes();
    Ok(rustix::net::send(client, &errno, SendFlags::NOSIGNAL).map(drop)?)
}

/// The confined end. It is opened before the confinement.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Connects to a broker's AF_UNIX listener.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self)
    }

    /// The same over a stream that is there already.
    pub fn over(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Asks for a connection.
    ///
    /// # Errors
    /// EACCES when the address is not one of the job's hosts; else what the broker met, or that it is gone.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        self.ask(&format!("{to}\n"))
    }

    /// Waits for a peer.
    ///
    /// # Errors
    /// EOPNOTSUPP when the broker has no listener; else what it met, or that it is gone.
    pub fn accept(&mut self) -> io::Result<TcpStream> {
        self.ask("accept\n")
    }

    fn ask(&mut self, request: &str) -> io::Result<TcpStream> {
        io::Write::write_all(&mut self.0, request.as_bytes())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut word = [0; 4];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        let received = rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut word)], &mut control, flags)?;
        if received.bytes != word.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match i32::from_ne_bytes(word) {
            0 => descriptor(&mut control).map(TcpStream::from).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn descriptor(control: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A client in this process, whose broker knows the loopback and nothing else.
    fn client(listener: Option<TcpListener>) -> Client {
        let (inside, outside) = UnixStream::pair().unwrap();
        std::thread::spawn(move || Broker::new(["127.0.0.1".parse().unwrap()], listener).serve(&outside));
        Client::over(inside)
    }

    #[test]
    fn a_host_of_the_job_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = client(None).connect(listener.local_addr().unwrap()).unwrap();
        connection.write_all(b"gradient").unwrap();
        drop(connection);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "gradient");
    }

    #[test]
    fn another_host_is_refused_and_the_next_request_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = client(None);
        for other in ["127.0.0.2", "::1", "192.0.2.1", "::ffff:127.0.0.2"] {
            let refused = client.connect(SocketAddr::new(other.parse().unwrap(), port)).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "{other}");
        }
        client.connect(SocketAddr::new("127.0.0.1".parse().unwrap(), port)).unwrap();
    }

    #[test]
    fn only_peers_of_the_job_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut from_elsewhere = {
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &"127.0.0.2:0".parse::<SocketAddr>().unwrap()).unwrap();
            rustix::net::connect(&socket, &to).unwrap();
            TcpStream::from(socket)
        };
        let mut from_the_job = TcpStream::connect(to).unwrap();
        from_the_job.write_all(b"yes").unwrap();
        let mut accepted = client(Some(listener)).accept().unwrap();
        let mut text = [0; 3];
        accepted.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"yes");
        assert_eq!(from_elsewhere.read(&mut text).unwrap(), 0, "it was hung up on");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let mut client = client(None);
        for request in ["\n", "localhost:1\n", "127.0.0.1\n"] {
            assert_eq!(client.ask(request).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{request:?}");
        }
        assert_eq!(client.accept().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}

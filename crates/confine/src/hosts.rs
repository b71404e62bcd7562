//! Jobs of several nodes: connections only to the job's own hosts.
//!
//! # What is enforced
//!
//! **By the broker** (this module, [`crate::Connects::Broker`]). A process outside the confinement, one on each host, holds the
//! list of hosts, their ports and the job's key. The confined process has no network at all: its own namespace, no `socket`, no
//! `connect`. It asks the broker over an AF_UNIX stream that it opened before, and gets a connected TCP socket (SCM_RIGHTS) when
//! address and port are on the list, or an accepted one when the peer's address is; and in both cases only when the peer is a
//! broker of the same job, which it shows by the key ([`JobKey`]): another service of the host, or another user's, is refused. The
//! broker makes the connection itself with an address that it copied, so that nothing can change
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
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

pub use crate::peer::JobKey;

/// How long the broker tries to reach a host.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest request: an IPv6 address with a scope and a port.
const LONGEST: u64 = 100;

/// How long a peer may take to show that it holds the key. Nobody waits on that side for anything else.
const PATIENCE_WITH_PEERS: Duration = Duration::from_secs(5);

/// How long the broker waits for descriptors or memory to come free.
const PAUSE: Duration = Duration::from_millis(50);

/// Whom a job may speak with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The addresses of the job's hosts. IPv4 inside IPv6 is IPv4.
    pub hosts: Vec<IpAddr>,
    /// The ports that the job's brokers listen on: nothing else of a host is the job's.
    pub ports: RangeInclusive<u16>,
    /// What the job's brokers have in common.
    pub key: JobKey,
}

impl Peers {
    /// Whether an address is one of the job's hosts.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.hosts.iter().any(|host| host.to_canonical() == address.to_canonical())
    }
}

/// Holds the list and makes the connections, outside.
#[derive(Debug)]
pub struct Broker {
    peers: Peers,
    listener: Option<TcpListener>,
}

impl Broker {
    /// One for the job's hosts; peers are accepted on `listener`, where there is one.
    pub fn new(peers: Peers, listener: Option<TcpListener>) -> Self {
        Self { peers, listener }
    }

    /// Takes clients of the same user, each on a thread, until the listener fails. Never returns otherwise: a client that breaks
    /// off, and a lack of descriptors, memory or threads, is got over.
    ///
    /// # Errors
    /// When clients cannot be accepted any more.
    pub fn run(&self, clients: &UnixListener) -> io::Result<()> {
        let own = rustix::process::geteuid();
        std::thread::scope(|scope| {
            loop {
                let client = patiently(|| clients.accept())?.0;
                if rustix::net::sockopt::socket_peercred(&client).is_ok_and(|peer| peer.uid == own) {
                    // A client that breaks off ends its thread and nothing else; one for whom there is no thread is hung up on.
                    let _ = std::thread::Builder::new().spawn_scoped(scope, move || self.serve(&client));
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
        if !self.peers.knows(to.ip()) || !self.peers.ports.contains(&to.port()) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let peer = TcpStream::connect_timeout(&to, PATIENCE)?;
        self.peers.key.connecting(&peer, PATIENCE)?;
        Ok(peer)
    }

    /// The next peer of the job; others are hung up on.
    fn accept(&self) -> io::Result<TcpStream> {
        let listener = self.listener.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
        loop {
            let (peer, address) = patiently(|| listener.accept())?;
            if self.peers.knows(address.ip()) && self.peers.key.accepting(&peer, PATIENCE_WITH_PEERS).is_ok() {
                return Ok(peer);
            }
        }
    }
}

/// Accepts again where accept(2) says that the next attempt may succeed.
fn patiently<T>(mut accept: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match accept() {
            Err(error) if of_one_connection(&error) => {}
            Err(error) if lacks_room(&error) => std::thread::sleep(PAUSE),
            accepted => return accepted,
        }
    }
}

/// Errors of a connection that is gone already: Linux hands those that were pending on it to accept(2), which says to try again.
fn of_one_connection(error: &io::Error) -> bool {
    let gone = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EINTR,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::ETIMEDOUT,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|number| gone.contains(&number))
}

/// Too many files are open, here or in the system, or there is no memory: others may close theirs.
fn lacks_room(error: &io::Error) -> bool {
    let lacking = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|number| lacking.contains(&number))
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
    /// EACCES when address or port is not the job's, or the peer does not hold its key; else what the broker met, or that it is gone.
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

    fn peers(ports: RangeInclusive<u16>, key: u8) -> Peers {
        Peers { hosts: vec!["127.0.0.1".parse().unwrap()], ports, key: JobKey::from_bytes([key; 32]) }
    }

    /// A client in this process, whose broker knows the loopback and nothing else.
    fn client(ports: RangeInclusive<u16>, key: u8, listener: Option<TcpListener>) -> Client {
        let (inside, outside) = UnixStream::pair().unwrap();
        std::thread::spawn(move || Broker::new(peers(ports, key), listener).serve(&outside));
        Client::over(inside)
    }

    /// A client that waits for a peer, whose word it gives back, and where.
    fn accepting(key: u8) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = client(1..=1, key, Some(listener));
        let thread = std::thread::spawn(move || {
            let mut text = String::new();
            client.accept().unwrap().read_to_string(&mut text).unwrap();
            text
        });
        (address, thread)
    }

    #[test]
    fn a_host_of_the_job_is_connected_to() {
        let (address, thread) = accepting(1);
        let mut connection = client(address.port()..=address.port(), 1, None).connect(address).unwrap();
        connection.write_all(b"gradient").unwrap();
        drop(connection);
        assert_eq!(thread.join().unwrap(), "gradient");
    }

    #[test]
    fn another_host_and_another_port_are_refused_and_the_next_request_is_heard() {
        let (address, thread) = accepting(1);
        let port = address.port();
        let mut client = client(port..=port, 1, None);
        for other in ["127.0.0.2", "::1", "192.0.2.1", "::ffff:127.0.0.2"] {
            let refused = client.connect(SocketAddr::new(other.parse().unwrap(), port)).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "{other}");
        }
        let other_service = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = client.connect(other_service.local_addr().unwrap()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "a port that is not the job's");
        drop(client.connect(address).unwrap());
        assert_eq!(thread.join().unwrap(), "");
    }

    #[test]
    fn a_service_that_does_not_hold_the_key_is_refused() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut peer = stranger.accept().unwrap().0;
            peer.write_all(&[7; 64]).unwrap();
            let mut heard = Vec::new();
            let _ = peer.read_to_end(&mut heard);
            heard.len()
        });
        let refused = client(1..=u16::MAX, 1, None).connect(address).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        assert_eq!(thread.join().unwrap(), 32, "it got a random number and no more");
    }

    #[test]
    fn only_peers_of_the_job_are_accepted() {
        let (address, thread) = accepting(1);
        let mut from_elsewhere = {
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &"127.0.0.2:0".parse::<SocketAddr>().unwrap()).unwrap();
            rustix::net::connect(&socket, &address).unwrap();
            TcpStream::from(socket)
        };
        // Of the right host, and of another user there: it hangs up without the key.
        drop(TcpStream::connect(address).unwrap());
        let another_job = client(1..=u16::MAX, 2, None).connect(address).unwrap_err();
        assert_eq!(another_job.raw_os_error(), Some(libc::EACCES));
        let mut from_the_job = client(1..=u16::MAX, 1, None).connect(address).unwrap();
        from_the_job.write_all(b"yes").unwrap();
        drop(from_the_job);
        assert_eq!(thread.join().unwrap(), "yes");
        assert_eq!(from_elsewhere.read(&mut [0]).unwrap(), 0, "it was hung up on");
    }

    #[test]
    fn errors_of_one_connection_and_a_lack_of_room_are_got_over() {
        let errors = [libc::ECONNABORTED, libc::EMFILE, libc::EINTR, libc::ENFILE, libc::ENOMEM, libc::EPROTO];
        let mut left = errors.to_vec();
        let accepted = patiently(|| left.pop().map_or(Ok(7), |number| Err(io::Error::from_raw_os_error(number))));
        assert_eq!((accepted.unwrap(), left), (7, vec![]));
        for fatal in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP, libc::EFAULT] {
            let error = patiently(|| Err::<(), _>(io::Error::from_raw_os_error(fatal))).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(fatal));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let mut client = client(1..=u16::MAX, 1, None);
        for request in ["\n", "localhost:1\n", "127.0.0.1\n"] {
            assert_eq!(client.ask(request).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{request:?}");
        }
        assert_eq!(client.accept().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}

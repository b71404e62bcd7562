//! What was open before: a connected socket, or a ring, goes on working whatever is closed afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::Refused;
use crate::level::{Allowed, Connects};
use crate::rdma;

/// What the open files of this process say about its ways out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// Connected AF_UNIX streams: pipes of the program that started this one, as a rule. They are counted and reported, nothing
    /// more.
    pub(crate) unix: usize,
}

/// What an AF_UNIX socket can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unix {
    /// A connected stream, or sequence of packets: it takes no other address.
    Connected,
    /// It waits for others to connect.
    Listens,
    /// A datagram socket sends to every path and name that it is given, connected or not.
    Datagrams,
    /// A stream without another end can still be given one.
    Unconnected,
}

/// The sockets of this network namespace by inode.
struct Known {
    unix: BTreeMap<u64, Unix>,
    /// Inode to local port, of TCP sockets that listen.
    listeners: BTreeMap<u64, u16>,
}

/// Looks at every open file.
///
/// # Errors
/// When one leads out and is not allowed, or when /proc cannot be read.
pub(crate) fn look(allowed: &Allowed) -> Result<Inherited, Refused> {
    let known = known().map_err(Refused::at("reading /proc/self/net"))?;
    let mut inherited = Inherited::default();
    let mut has_listener = false;
    for (descriptor, target) in open_files().map_err(Refused::at("reading /proc/self/fd"))? {
        let refused = |what: String| Err(Refused::Inherited { descriptor, what });
        if target.starts_with("anon_inode:[io_uring]") {
            return refused("an io_uring".to_owned());
        }
        if rdma::is_device(Path::new(&target)) {
            return refused(format!("the device {target}"));
        }
        let Some(inode) = inode(&target) else { continue };
        match (known.unix.get(&inode), known.listeners.get(&inode), allowed) {
            (Some(Unix::Connected), ..) => inherited.unix += 1,
            (Some(Unix::Listens), _, Allowed::Unix { .. }) => {}
            (Some(Unix::Listens), ..) => return refused("an AF_UNIX listener".to_owned()),
            (Some(Unix::Datagrams), ..) => return refused("an AF_UNIX datagram socket".to_owned()),
            (Some(Unix::Unconnected), ..) => return refused("an AF_UNIX socket without another end".to_owned()),
            (None, Some(found), Allowed::Listen { port }) if found == port => has_listener = true,
            // Slurm's PMIx leaves its own open in each task (`srun --mpi=pmix`, Slurm 22.05); a process that makes such sockets by itself
            // gains nothing by it.
            (None, Some(_), Allowed::Hosts { by: Connects::Itself, .. }) => {}
            (None, Some(found), _) => return refused(format!("a listener on TCP port {found}")),
            (None, None, _) => return refused("a socket that is not AF_UNIX".to_owned()),
        }
    }
    match allowed {
        Allowed::Listen { port } if !has_listener => Err(Refused::NoListener { port: *port }),
        _ => Ok(inherited),
    }
}

fn open_files() -> io::Result<Vec<(i32, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The directory's own descriptor is gone again by the time it is read.
        let (Some(number), Ok(target)) =
            (entry.file_name().to_str().and_then(|name| name.parse().ok()), fs::read_link(entry.path()))
        else {
            continue;
        };
        files.push((number, target.to_string_lossy().into_owned()));
    }
    Ok(files)
}

fn inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn known() -> io::Result<Known> {
    let table = |name: &str| fs::read_to_string(format!("/proc/self/net/{name}"));
    // A kernel without IPv6 has no tcp6.
    let tcp = table("tcp")? + &table("tcp6").unwrap_or_default();
    Ok(Known { unix: table("unix").map(|text| unix(&text)).unwrap_or_default(), listeners: listeners(&tcp) })
}

/// What /proc/net/unix says (proc_pid_net(5)): flags are the fourth column, of which 0x10000 is that it listens, the type the
/// fifth, the state the sixth, where 3 is connected, the inode the seventh. Numbers are hexadecimal but for the inode.
fn unix(table: &str) -> BTreeMap<u64, Unix> {
    const LISTENS: u32 = 0x1_0000;
    const CONNECTED: u32 = 3;
    let row = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let number = |column: usize| u32::from_str_radix(columns.get(column)?, 16).ok();
        let kind = i32::try_from(number(4)?).ok()?;
        let found = if kind != libc::SOCK_STREAM && kind != libc::SOCK_SEQPACKET {
            Unix::Datagrams
        } else if number(3)? & LISTENS != 0 {
            Unix::Listens
        } else if number(5)? == CONNECTED {
            Unix::Connected
        } else {
            Unix::Unconnected
        };
        Some((columns.get(6)?.parse().ok()?, found))
    };
    table.lines().filter_map(row).collect()
}

/// Inode and local port of what listens in /proc/net/tcp and tcp6 (proc(5)): address:port is the second column, the state the
/// fourth, the inode the tenth.
fn listeners(table: &str) -> BTreeMap<u64, u16> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let port = columns.get(1)?.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok())?;
        let inode = columns.get(9)?.parse().ok()?;
        (*columns.get(3)? == LISTEN).then_some((inode, port))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn tables_are_read() {
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 11883 /run/dbus/socket\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 22971\n\
                    0000000000000000: 00000003 00000000 00000000 0005 03 22972\n\
                    0000000000000000: 00000002 00000000 00000000 0002 01 22973\n\
                    0000000000000000: 00000002 00000000 00000000 0001 01 22974 @name\n";
        let found = [
            (11883, Unix::Listens),
            (22971, Unix::Connected),
            (22972, Unix::Connected),
            (22973, Unix::Datagrams),
            (22974, Unix::Unconnected),
        ];
        assert_eq!(super::unix(unix), BTreeMap::from(found));
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                   0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8121 1\n\
                   1: 0100007F:0278 0100007F:0277 01 00000000:00000000 00:00000000 00000000     0        0 8122 1\n";
        assert_eq!(listeners(tcp), BTreeMap::from([(8121, 0x277)]));
    }

    #[test]
    fn sockets_of_this_process_are_found() {
        let pair = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let datagrams = UnixDatagram::unbound().unwrap();
        let known = known().unwrap();
        let files = open_files().unwrap();
        let inodes: Vec<_> = files.iter().filter_map(|(_, target)| inode(target)).collect();
        let of = |kind| inodes.iter().filter(|inode| known.unix.get(inode) == Some(&kind)).count();
        assert!(of(Unix::Connected) >= 2 && of(Unix::Datagrams) >= 1);
        assert!(inodes.iter().any(|inode| known.listeners.get(inode) == Some(&port)));
        drop((pair, datagrams));
    }

    #[test]
    fn what_leads_out_is_refused() {
        // Other tests of this process open sockets, too: whichever is found first, the answer is the same.
        let itself = Allowed::Hosts { hosts: vec![], by: Connects::Itself };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for allowed in [Allowed::Nothing, itself] {
            assert!(matches!(look(&allowed), Err(Refused::Inherited { .. })));
        }
        drop(socket);
    }
}

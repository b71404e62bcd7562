//! What was open before: a connected socket, or a ring, goes on working whatever is closed afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::error::Refused;
use crate::level::Wish;

/// What the open files of this process say about its ways out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// AF_UNIX sockets: pipes of the program that started this one, as a rule. They are counted and reported, nothing more.
    pub(crate) unix: usize,
}

/// The sockets of this network namespace by inode.
struct Known {
    unix: Vec<u64>,
    /// Inode to local port, of TCP sockets that listen.
    listeners: BTreeMap<u64, u16>,
}

/// Looks at every open file.
///
/// # Errors
/// When one leads out and the wish does not name it, or when /proc cannot be read.
pub(crate) fn look(wish: &Wish) -> Result<Inherited, Refused> {
    let known = known().map_err(Refused::at("reading /proc/self/net"))?;
    let mut inherited = Inherited::default();
    let mut has_listener = false;
    for (descriptor, target) in open_files().map_err(Refused::at("reading /proc/self/fd"))? {
        if target.starts_with("anon_inode:[io_uring]") {
            return Err(Refused::Inherited { descriptor, what: "an io_uring".to_owned() });
        }
        let Some(inode) = inode(&target) else { continue };
        match (known.listeners.get(&inode), wish) {
            _ if known.unix.contains(&inode) => inherited.unix += 1,
            (Some(found), Wish::Listen { port }) if found == port => has_listener = true,
            (Some(found), _) => {
                return Err(Refused::Inherited { descriptor, what: format!("a listener on TCP port {found}") });
            }
            (None, _) => return Err(Refused::Inherited { descriptor, what: "a socket that is not AF_UNIX".to_owned() }),
        }
    }
    match wish {
        Wish::Listen { port } if !has_listener => Err(Refused::NoListener { port: *port }),
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
    Ok(Known { unix: table("unix").map(|text| unix_inodes(&text)).unwrap_or_default(), listeners: listeners(&tcp) })
}

/// The inodes of /proc/net/unix: the seventh column.
fn unix_inodes(table: &str) -> Vec<u64> {
    table.lines().filter_map(|line| line.split_whitespace().nth(6)?.parse().ok()).collect()
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
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn tables_are_read() {
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 11883 /run/dbus/socket\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 22971\n";
        assert_eq!(unix_inodes(unix), [11883, 22971]);
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
        let known = known().unwrap();
        let files = open_files().unwrap();
        let inodes: Vec<_> = files.iter().filter_map(|(_, target)| inode(target)).collect();
        assert!(inodes.iter().filter(|inode| known.unix.contains(inode)).count() >= 2);
        assert!(inodes.iter().any(|inode| known.listeners.get(inode) == Some(&port)));
        drop(pair);
    }

    #[test]
    fn what_leads_out_is_refused() {
        // Other tests of this process open sockets, too: whichever is found first, the answer is the same.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(look(&Wish::Nothing), Err(Refused::Inherited { .. })));
        drop(socket);
    }
}

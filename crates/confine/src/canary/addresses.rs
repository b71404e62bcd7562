//! The addresses of this machine and of its name servers, as files have them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of this machine that are no loopback and no link's own, one of each family at most.
pub fn machine() -> Vec<IpAddr> {
    let four = fs::read_to_string("/proc/net/fib_trie").ok().and_then(|text| local_v4(&text)).map(IpAddr::V4);
    let six = fs::read_to_string("/proc/net/if_inet6").ok().and_then(|text| global_v6(&text)).map(IpAddr::V6);
    four.into_iter().chain(six).collect()
}

/// The name servers of resolv.conf(5).
pub fn name_servers() -> Vec<IpAddr> {
    fs::read_to_string("/etc/resolv.conf").map(|text| servers(&text)).unwrap_or_default()
}

/// The routing trie has a line with an address, and under it `/32 host LOCAL` when the address is this machine's.
fn local_v4(trie: &str) -> Option<Ipv4Addr> {
    let mut last = None;
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|--") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("host LOCAL")
            && let Some(found) = last.filter(|address| !address.is_loopback())
        {
            return Some(found);
        }
    }
    None
}

/// Columns of if_inet6: the address in hexadecimal, index, length of the prefix, scope (00 is global), flags, name.
fn global_v6(table: &str) -> Option<Ipv6Addr> {
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        let address = u128::from_str_radix(columns.next()?, 16).ok()?;
        (columns.nth(2)? == "00").then(|| Ipv6Addr::from(address))
    };
    table.lines().find_map(row)
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.split('%').next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_an_interface_is_found() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n        |-- 127.0.0.1\n           /32 host LOCAL\n     \
                    |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n";
        assert_eq!(local_v4(trie), Some(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(local_v4("|-- 127.0.0.1\n /32 host LOCAL\n"), None);
        let six = "00000000000000000000000000000001 01 80 10 80       lo\n\
                   fd000000000000000000000000000002 04 40 00 82     eth0\n";
        assert_eq!(global_v6(six), Some("fd00::2".parse().unwrap()));
    }

    #[test]
    fn name_servers_are_read() {
        let text = "# made by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver no\n";
        assert_eq!(servers(text), ["192.0.2.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
    }
}

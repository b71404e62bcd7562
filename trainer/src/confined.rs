//! How far this process is kept from the network, as far as it can see that itself.
//!
//! `sirocco train` confines itself, has that measured, and starts the ranks inside: it says so in a variable, and a variable alone
//! is believed by nobody. What is in force is looked at here.

use std::io::ErrorKind;

use sirocco_config::environment::CONFINED;
use sirocco_confine::canary::{Outcome, Plan, Try, attempt};
use sirocco_confine::{environment, network};
use sirocco_policy::Confinement;

use crate::failure::Failure;

/// The level that holds for this process: the lower of what was measured where it was started and of what it finds. `None`: variables
/// that lead out were there.
pub(crate) fn level() -> Option<Confinement> {
    let told = std::env::var(CONFINED.name).ok();
    let told = told.as_deref().and_then(parse).map(|(level, network, _)| (level, network));
    environment::left().ok().filter(Vec::is_empty)?;
    Some(told.map_or(Confinement::Environment, |(measured, outside)| measured.min(found(outside))))
}

/// Refuses a run whose file demands more than holds for this rank.
pub(crate) fn expect(least: u8) -> Result<(), Failure> {
    let found = level().map_or(0, Confinement::number);
    if found >= least {
        return Ok(());
    }
    let message = format!("[policy] confinement = {least}, and level {found} is what holds for this rank");
    Err(Failure::machine(message)
        .help("sirocco train and sirocco job start ranks confined, and say how far; docs/confinement.md"))
}

/// The account's name as it was found where this process was started; `None` where nobody says.
pub(crate) fn account() -> Option<String> {
    let told = std::env::var(CONFINED.name).ok()?;
    parse(&told).map(|(.., account)| account.to_owned()).filter(|account| !account.is_empty())
}

/// `2 net:[4026531840] amal`: the level, the network outside, and the account.
fn parse(text: &str) -> Option<(Confinement, &str, &str)> {
    let (number, rest) = text.split_once(' ')?;
    let (network, account) = rest.split_once(' ')?;
    let number: u8 = number.parse().ok()?;
    Some((Confinement::ALL.into_iter().find(|level| level.number() == number)?, network, account))
}

/// What is in force, from the lowest level on; each needs the one below it.
fn found(outside: &str) -> Confinement {
    if !is_filtered() {
        Confinement::Environment
    } else if !has_own_network(outside) {
        Confinement::Seccomp
    } else if !has_named_files() {
        Confinement::NetworkNamespace
    } else {
        Confinement::Landlock
    }
}

/// Filters, no privileges, and nothing of what they close is to be had.
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is =
        |name: &str, wanted: &str| status.lines().any(|line| line.strip_prefix(name).is_some_and(|value| value.trim() == wanted));
    let closed = [Try::Ring, Try::Raw, Try::Packet, Try::Vsock, Try::Cipher].into_iter().all(|closed| {
        let plan = Plan { attempt: closed, token: "rank".to_owned() };
        attempt(&plan) != Outcome::Passed
    });
    is("Seccomp:", "2") && is("NoNewPrivs:", "1") && is("CapEff:", "0000000000000000") && closed
}

/// Another network than outside, with nothing in it but a loopback.
fn has_own_network(outside: &str) -> bool {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    network().is_ok_and(|own| own != outside) && only_loopback(&devices)
}

/// A line for each interface below two of headings (proc_pid_net(5)).
fn only_loopback(devices: &str) -> bool {
    let mut names = devices.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).peekable();
    names.peek().is_some() && names.all(|name| name == "lo")
}

/// The root of all files is on no list of level 3.
fn has_named_files() -> bool {
    std::fs::read_dir("/").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_alone_is_not_believed() {
        assert_eq!(parse("2 net:[1] amal"), Some((Confinement::NetworkNamespace, "net:[1]", "amal")));
        assert_eq!([parse("2"), parse("2 net:[1]"), parse("9 net:[1] amal"), parse("x net:[1] amal")], [None; 4]);
        // Nobody confines the tests.
        assert!(found("net:[1]") < Confinement::NetworkNamespace);
        assert!(!has_own_network(&network().unwrap()));
        assert!(expect(0).is_ok() && expect(2).is_err());
    }

    #[test]
    fn an_interface_besides_the_loopback_is_a_way_out() {
        let head = "Inter-|   Receive\n face |bytes\n";
        assert!(only_loopback(&format!("{head}    lo: 0 0\n")));
        assert!(!only_loopback(&format!("{head}    lo: 0 0\n  eth0: 0 0\n")));
        assert!(!only_loopback(head));
    }
}

//! What is refused, and in which words.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use sirocco_confine::canary::CanaryError;
use sirocco_confine::child::Helper;
use sirocco_confine::{Allowed, Connects, Demand, Gap, Level, Paths};

use crate::place::{Place, skipped};

fn refusal(place: &Place, helper: &Helper, demand: &Demand) -> String {
    match place.canary(None).measure(helper, Some(demand)) {
        Err(CanaryError::Refused(message)) => message,
        other => panic!("{demand:?} was not refused: {other:?}"),
    }
}

fn best(allowed: Allowed) -> Demand {
    Demand::best(allowed, None)
}

#[test]
fn a_level_out_of_reach_is_an_error_that_says_what_is_possible() {
    let place = Place::new();
    let (helper, offer) = (place.helper(None), place.offer(None));
    let possible = |allowed: &Allowed| format!("and {} is possible", offer.reaches(allowed, None).0);
    let without_files = Demand { least: Level::Landlock, ..best(Allowed::Nothing) };
    assert!(refusal(&place, &helper, &without_files).contains(&possible(&Allowed::Nothing)));
    let itself = Allowed::Hosts { hosts: vec![], by: Connects::Itself };
    let with_own_connections = Demand { least: Level::NetworkNamespace, ..best(itself.clone()) };
    assert!(refusal(&place, &helper, &with_own_connections).contains(&possible(&itself)));
    let site = Demand { least: Level::Site, most: Level::Site, ..Demand::best(Allowed::Nothing, place.lists()) };
    assert!(refusal(&place, &helper, &site).contains("level 5 (site) is demanded"));
    let tolerated = Gap::ALL.into_iter().filter(|gap| *gap != Gap::Peers).collect();
    assert_eq!(refusal(&place, &helper, &Demand { tolerated, ..best(itself) }), "what is demanded would leave open: peers");
}

#[test]
fn inside_a_filter_there_is_no_namespace_to_be_had() {
    let place = Place::new();
    let inside = place.behind(&["--allow", "nothing", "--most", "seccomp", "--"]);
    let namespace = Demand { least: Level::NetworkNamespace, ..best(Allowed::Nothing) };
    let said = refusal(&place, &inside, &namespace);
    assert!(said.contains("level 2 (network_namespace) is demanded and 1 (seccomp) is possible"), "{said}");
    let said = refusal(&place, &inside, &best(Allowed::Loopback));
    assert!(said.contains("\"loopback\" needs level 2 (network_namespace) and 1 (seccomp) is possible"), "{said}");
    let what_there_is = place.canary(None).measure(&inside, Some(&best(Allowed::Nothing))).unwrap();
    assert_eq!(what_there_is.applied.as_ref().unwrap().level, Level::Seccomp);
    assert!(what_there_is.failures().is_empty());
}

#[test]
fn paths_that_hand_over_the_machine_are_refused() {
    let place = Place::new();
    for path in ["/", "/dev", "/proc", "/sys/kernel"] {
        let paths = Paths { readable: vec![], writable: vec![path.into()] };
        let said = refusal(&place, &place.helper(None), &Demand::best(Allowed::Nothing, Some(paths)));
        assert!(said.starts_with(&format!("{path} cannot be writable")), "{said}");
    }
}

#[test]
fn a_socket_that_was_open_before_is_refused() {
    let place = Place::new();
    let sockets: [(OwnedFd, &str); 3] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "a socket that is not AF_UNIX"),
        (UnixDatagram::unbound().unwrap().into(), "an AF_UNIX datagram socket"),
        (UnixDatagram::pair().unwrap().0.into(), "an AF_UNIX datagram socket"),
    ];
    for (socket, what) in sockets {
        let output = place.command("confined").args(["--allow", "nothing", "--", "true"]).stdin(socket).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&format!("file descriptor 0 is {what}")), "{said}");
    }
    let (connected, other) = UnixStream::pair().unwrap();
    let connected = OwnedFd::from(connected);
    let output = place.command("confined").args(["--allow", "nothing", "--", "true"]).stdin(connected).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("\"inherited_unix_sockets\":1"), "{said}");
    drop(other);
}

#[test]
fn variables_that_lead_out_are_refused_and_not_handed_on() {
    let place = Place::new();
    let led_out = [("https_proxy", "http://192.0.2.1:3128"), ("SIROCCO_TEST", "kept")];
    let output = place.command("openings").arg("loopback").envs(led_out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Variables") && said.contains("https_proxy"), "{said}");
    // This one starts itself once more without them.
    let output = place.command("confined").args(["--allow", "nothing", "--", "env"]).envs(led_out).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("SIROCCO_TEST=kept") && !said.to_lowercase().contains("_proxy"), "{said}");
}

#[test]
fn a_listener_that_is_not_open_is_refused() {
    let place = Place::new();
    let output = place.command("confined").args(["--allow", "listen:8080", "--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no listener is open on TCP port 8080"), "{said}");
}

#[test]
fn files_that_were_not_named_are_closed_to_programs_that_are_started() {
    let place = Place::new();
    let offer = place.offer(None);
    if offer.reaches(&Allowed::Nothing, place.lists().as_ref()).0 < Level::Landlock {
        return skipped("files that were not named", format!("not offered: {offer:?}"));
    }
    for name in ["inside", "listeners"] {
        std::fs::write(place.path(name).join("file"), name).unwrap();
    }
    let text = |name: &str| {
        let mut command = place.command("confined");
        command.args(["--allow", "nothing", "--least", "landlock"]);
        for path in place.lists().unwrap().readable {
            command.arg("--read").arg(path);
        }
        command.args(["--", "cat"]).arg(place.path(name).join("file")).output().unwrap()
    };
    let (open, shut) = (text("inside"), text("listeners"));
    assert!(open.status.success() && open.stdout == b"inside", "{open:?}");
    assert!(!shut.status.success() && shut.stdout.is_empty(), "{shut:?}");
}

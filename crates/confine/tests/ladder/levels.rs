//! What is allowed, on every level for every user.

use std::fs;
use std::net::{TcpListener, TcpStream};

use sirocco_confine::canary::{Canary, Finding, machine};
use sirocco_confine::{Allowed, Applied, Connects, Demand, Gap, Level, Mechanism, Namespace, Offer, Paths, network};

use crate::place::{Place, is_root, skipped};

/// The levels above the lowest that are reached here.
fn levels(offer: &Offer, allowed: &Allowed, paths: Option<&Paths>) -> Vec<Level> {
    let reached = offer.reaches(allowed, paths).0;
    let lowest = if *allowed == Allowed::Loopback { Level::NetworkNamespace } else { Level::Seccomp };
    Level::ALL.into_iter().filter(|level| (lowest..=reached).contains(level)).collect()
}

/// Measures on every level for every user; `expected` says what may get through, by what stays open.
fn on_every_level(allowed: &Allowed, expected: impl Fn(&[Gap], &str) -> bool) {
    let place = Place::new();
    let paths = place.lists();
    for user in place.users() {
        let (offer, mut canary) = (place.offer(user), place.canary(user));
        let levels = levels(&offer, allowed, paths.as_ref());
        let top = if allowed.fits_namespace() { Level::Landlock } else { Level::Seccomp };
        if levels.last().is_none_or(|last| *last < top) {
            let what = format!("\"{}\" above {:?}, up to level {top}, as {user:?}", allowed.name(), levels.last());
            skipped(&what, format!("not offered: {offer:?}"));
        }
        for level in levels {
            let demand = Demand { least: level, most: level, ..Demand::best(allowed.clone(), paths.clone()) };
            let report = canary.measure(&place.helper(user), Some(&demand)).expect("a measurement");
            let applied = report.applied.as_ref().expect("what is in force");
            assert_eq!((applied.level, report.user), (level, user.unwrap_or(rustix::process::getuid().as_raw())));
            for attempt in &report.attempts {
                let may = expected(&applied.gaps, &attempt.name);
                // Whether a question to somebody else's name server leaves is for this machine's routes.
                if !(may && attempt.name.starts_with("dns question to the name server")) {
                    assert_eq!(attempt.got_through, may, "{} at {level} as {user:?}: {attempt:?}", allowed.name());
                }
            }
            let others = report.findings.iter().filter(|finding| !matches!(finding, Finding::GotThrough { .. }));
            let expected: &[Finding] = if machine().is_empty() { &[Finding::NoOutsideAddress] } else { &[] };
            assert!(others.eq(expected), "{:?}", report.findings);
        }
    }
    if machine().is_empty() {
        skipped("reaching an address outside", "this machine has none but loopbacks");
    }
}

fn nothing(_: &[Gap], _: &str) -> bool {
    false
}

#[test]
fn with_no_network_nothing_gets_through_on_any_level() {
    on_every_level(&Allowed::Nothing, nothing);
}

#[test]
fn a_loopback_of_its_own_is_heard_by_nobody() {
    on_every_level(&Allowed::Loopback, nothing);
}

#[test]
fn a_server_that_may_listen_reaches_nobody() {
    on_every_level(&Allowed::Listen { port: 8080 }, nothing);
}

#[test]
fn sockets_by_a_broker_alone_leave_no_way_out() {
    on_every_level(&Allowed::Hosts { hosts: vec![], by: Connects::Broker }, nothing);
}

#[test]
fn unix_sockets_reach_what_the_report_says_and_nothing_else() {
    let place = Place::new();
    on_every_level(&Allowed::Unix { directory: place.path("inside") }, |gaps, name| match name {
        "unix connect to a path" | "unix sendto to a path" => gaps.contains(&Gap::UnixPaths),
        "unix connect to an abstract name" => gaps.contains(&Gap::UnixNames),
        service if service.starts_with("unix connect to /") => gaps.contains(&Gap::UnixPaths),
        _ => false,
    });
}

#[test]
fn processes_that_connect_themselves_are_reported_as_free_to() {
    // The canary is no host of the job, and is reached: that is what the two gaps say.
    on_every_level(&Allowed::Hosts { hosts: vec![], by: Connects::Itself }, |gaps, name| {
        let tcp = name.starts_with("tcp connect");
        let udp = name.starts_with("udp") || name.starts_with("dns question");
        tcp && gaps.contains(&Gap::Peers) || udp && gaps.contains(&Gap::Udp)
    });
}

fn applied(place: &Place, user: Option<u32>, demand: &Demand) -> Applied {
    place.canary(user).measure(&place.helper(user), Some(demand)).expect("a measurement").applied.expect("what is in force")
}

#[test]
fn what_the_probe_says_is_what_is_reached() {
    let place = Place::new();
    for user in place.users() {
        let offer = place.offer(user);
        for (allowed, paths) in [(Allowed::Nothing, None), (Allowed::Nothing, place.lists()), (Allowed::Loopback, place.lists())]
        {
            if allowed == Allowed::Loopback && offer.namespace.is_none() {
                skipped("a loopback of its own", offer.namespace_refused.as_deref().unwrap_or_default());
                continue;
            }
            let reached = applied(&place, user, &Demand::best(allowed.clone(), paths.clone()));
            assert_eq!((reached.level, reached.gaps), offer.reaches(&allowed, paths.as_ref()));
        }
    }
}

#[test]
fn a_list_with_the_root_of_all_files_is_not_level_3_and_is_recorded() {
    let place = Place::new();
    if place.offer(None).landlock_abi == 0 {
        return skipped("lists of files", "this kernel has no Landlock");
    }
    let demand = |path: &str| {
        let paths = Paths { readable: vec![path.into()], writable: vec![] };
        Demand::best(Allowed::Nothing, Some(paths))
    };
    for (path, recorded) in [("/", "/"), ("/usr/..", "/")] {
        let applied = applied(&place, None, &demand(path));
        assert!(applied.level <= Level::NetworkNamespace && applied.gaps.contains(&Gap::Files), "{applied:?}");
        assert_eq!(applied.paths.unwrap().readable, [std::path::PathBuf::from(recorded)]);
    }
    let applied = applied(&place, None, &demand("/usr/bin/.."));
    assert!(!applied.gaps.contains(&Gap::Files), "{applied:?}");
    assert_eq!(applied.paths.unwrap().readable, [std::path::PathBuf::from("/usr")]);
}

#[test]
fn root_without_lists_of_files_is_reported() {
    let place = Place::new();
    for user in place.users() {
        let is_root = is_root() && user.is_none();
        let bare = applied(&place, user, &Demand::best(Allowed::Nothing, None));
        assert_eq!(bare.gaps.contains(&Gap::Root), is_root, "{bare:?}");
        assert_eq!(bare.gaps.contains(&Gap::Network), bare.namespace.is_none(), "{bare:?}");
        let listed = applied(&place, user, &Demand::best(Allowed::Nothing, place.lists()));
        assert_eq!(listed.gaps.contains(&Gap::Root), is_root && listed.landlock.is_none(), "{listed:?}");
        let below = Demand { most: Level::Seccomp, ..Demand::best(Allowed::Nothing, None) };
        assert!(applied(&place, user, &below).gaps.contains(&Gap::Network));
    }
}

/// A `/dev` with an RDMA device that anybody may open, in a mount namespace of its own.
const WITH_RDMA: &str = "mount -t tmpfs none /dev && mkdir /dev/infiniband && : > /dev/infiniband/uverbs0 && \
                         chmod 666 /dev/infiniband/uverbs0 && exec \"$0\" helper";

#[test]
fn an_rdma_device_that_can_be_opened_is_a_gap_and_is_attempted() {
    let place = Place::new();
    let Some(helper) =
        place.unshared(&["--mount"], WITH_RDMA).or_else(|| place.unshared(&["--user", "--map-root-user", "--mount"], WITH_RDMA))
    else {
        return skipped("RDMA devices", "`unshare --mount` is not to be had");
    };
    // The user of such a namespace is root by its own reckoning, and so is the control's.
    let mut canary = Canary::open(&helper, &place.path("listeners")).unwrap();
    let device = "open of /dev/infiniband/uverbs0";
    let mut measure = |demand: &Demand| {
        let report = canary.measure(&helper, Some(demand)).unwrap();
        (report.failures().contains(&device), report.holds(), report.applied.unwrap())
    };
    let (through, holds, bare) = measure(&Demand::best(Allowed::Nothing, None));
    assert!(through && !holds && bare.gaps.contains(&Gap::Rdma), "{bare:?}");
    let (through, _, listed) = measure(&Demand::best(Allowed::Nothing, place.lists()));
    assert_eq!((through, listed.gaps.contains(&Gap::Rdma)), (listed.landlock.is_none(), listed.landlock.is_none()), "{listed:?}");
    let dev = Paths { readable: vec!["/dev".into()], writable: vec![] };
    let (through, _, read) = measure(&Demand::best(Allowed::Nothing, Some(dev)));
    assert!(through && read.gaps.contains(&Gap::Rdma), "to read is enough: {read:?}");
}

#[test]
fn root_without_user_namespaces_has_a_network_of_its_own() {
    let place = Place::new();
    // The limit is one of each user namespace: nothing outside of this one sees it.
    let shut = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" helper";
    let Some(helper) = place.unshared(&["--user", "--map-root-user"], shut).filter(|_| is_root()) else {
        return skipped("root without user namespaces", "this is not root, or `unshare --user` is not to be had");
    };
    let mut canary = place.canary(None);
    for allowed in [Allowed::Nothing, Allowed::Loopback] {
        let report = canary.measure(&helper, Some(&Demand::best(allowed, place.lists()))).unwrap();
        assert_eq!(report.applied.as_ref().unwrap().namespace, Some(Namespace::Network));
        assert!(!report.applied.as_ref().unwrap().mechanisms.contains(&Mechanism::UserNamespace));
        assert_eq!(report.failures(), Vec::<&str>::new());
    }
}

#[test]
fn who_asks_stays_as_it_is() {
    let place = Place::new();
    let state = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kept = status.lines().filter(|line| ["Seccomp", "NoNewPrivs", "Cap"].iter().any(|start| line.starts_with(start)));
        (kept.map(str::to_owned).collect::<Vec<_>>(), network().unwrap())
    };
    let before = state();
    assert!(before.0.len() >= 5, "{before:?}");
    applied(&place, None, &Demand::best(Allowed::Nothing, None));
    place.offer(None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(before, state());
}

//! Every rung that this kernel offers, as root and as an ordinary user, measured by the canary; and that the canary can fail.
//!
//! Everything that is confined is a process of its own: `examples/confined.rs` and `examples/openings.rs`, which cargo builds
//! with the tests.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sirocco_confine::canary::{CanaryError, Report, measure};
use sirocco_confine::child::{Helper, probe};
use sirocco_confine::hosts::Broker;
use sirocco_confine::{Connects, Demand, Gap, Level, Namespace, Offer, Paths, Wish, network};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;

/// A directory that everybody may enter, with copies of the programs: an ordinary user may not read the build's.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = TempDir::new().expect("a temporary directory");
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("its mode");
        let test = std::env::current_exe().expect("the path of the running test");
        let examples = test.ancestors().nth(2).expect("target/release/deps/TEST").join("examples");
        for name in ["confined", "openings"] {
            fs::copy(examples.join(name), place.path().join(name)).unwrap_or_else(|error| {
                panic!("{}: {error}; `cargo test -p sirocco-confine` builds it", examples.join(name).display())
            });
        }
        for name in ["listeners", "inside"] {
            fs::create_dir(place.path().join(name)).expect("a directory");
        }
        Self(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn helper(&self, user: Option<u32>) -> Helper {
        Helper { program: self.path("confined"), arguments: vec!["helper".into()], identity: user.map(|user| (user, user)) }
    }

    /// A helper that another program starts.
    fn behind(&self, words: &[&str]) -> Helper {
        let program = self.path("confined");
        let arguments = words.iter().map(Into::into).chain([program.clone().into(), "helper".into()]).collect();
        Helper { program, arguments, identity: None }
    }

    fn measure(&self, helper: &Helper, demand: Option<&Demand>) -> Result<Report, CanaryError> {
        measure(helper, demand, &self.path("listeners"))
    }
}

/// Whoever the tests run as, and an ordinary user where that is root.
fn users() -> Vec<Option<u32>> {
    if rustix::process::geteuid().is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

fn everything() -> Option<Paths> {
    Some(Paths { readable: vec!["/".into()], writable: vec![] })
}

fn up_to(most: Level, wish: Wish) -> Demand {
    Demand { least: most, most, ..Demand::best(wish, everything()) }
}

/// The rungs above the lowest that a wish reaches here.
fn rungs(offer: &Offer, wish: &Wish) -> Vec<Level> {
    let reached = offer.reaches(wish, true).0;
    let lowest = if *wish == Wish::Loopback { Level::Namespace } else { Level::Seccomp };
    [Level::Seccomp, Level::Namespace, Level::Landlock].into_iter().filter(|level| (lowest..=reached).contains(level)).collect()
}

/// Measures a wish on every rung for every user; `expected` says what may get through, by what stays open.
fn on_every_rung(wish: &Wish, expected: impl Fn(&[Gap], &str) -> bool) {
    let place = Place::new();
    for user in users() {
        let helper = place.helper(user);
        let offer = probe(&helper).expect("the helper's answer");
        let rungs = rungs(&offer, wish);
        assert!(!rungs.is_empty(), "this kernel offers {offer:?}");
        for level in rungs {
            let report = place.measure(&helper, Some(&up_to(level, wish.clone()))).expect("a measurement");
            let applied = report.applied.as_ref().expect("what is in force");
            assert_eq!((applied.level, report.user), (level, user.unwrap_or(rustix::process::getuid().as_raw())));
            for attempt in &report.attempts {
                let may = expected(&applied.gaps, &attempt.name);
                assert_eq!(attempt.got_through, may, "{} at {level:?} as {user:?}: {attempt:?}", wish.name());
            }
        }
    }
}

fn nothing(_: &[Gap], _: &str) -> bool {
    false
}

#[test]
fn without_confinement_attempts_get_through() {
    let place = Place::new();
    for user in users() {
        let helper = place.helper(user);
        let report = place.measure(&helper, None).unwrap();
        assert!(!report.holds() && report.applied.is_none());
        let got_through = report.failures();
        for (start, least) in
            [("tcp connect", 1), ("udp sendto", 1), ("udp sendmsg", 1), ("udp connect", 1), ("dns question to", 1), ("unix", 3)]
        {
            let found = got_through.iter().filter(|name| name.starts_with(start)).count();
            assert!(found >= least, "{start} as {user:?}: {report:?}");
        }
        // What a kernel may lack, and what an ordinary user may not; whatever it permits, it permits here.
        for attempt in report.attempts.iter().filter(|attempt| attempt.met == sirocco_confine::canary::Met::Passed) {
            assert!(attempt.got_through, "{attempt:?}");
        }
        assert_eq!(got_through.contains(&"io_uring_setup"), probe(&helper).unwrap().io_uring);
        if user.is_none() && rustix::process::geteuid().is_root() {
            assert!(got_through.contains(&"raw socket") && got_through.contains(&"setns to the network outside"), "{report:?}");
        }
    }
}

#[test]
fn with_no_network_nothing_gets_through_on_any_rung() {
    on_every_rung(&Wish::Nothing, nothing);
}

#[test]
fn a_loopback_of_its_own_is_heard_by_nobody() {
    on_every_rung(&Wish::Loopback, nothing);
}

#[test]
fn sockets_by_a_broker_alone_leave_no_way_out() {
    on_every_rung(&Wish::Hosts { hosts: vec![], by: Connects::Broker }, nothing);
}

#[test]
fn unix_sockets_reach_what_the_report_says_and_nothing_else() {
    let place = Place::new();
    on_every_rung(&Wish::Unix { directory: place.path("inside") }, |gaps, name| match name {
        "unix connect to a path" | "unix sendto to a path" => gaps.contains(&Gap::UnixPaths),
        "unix connect to an abstract name" => gaps.contains(&Gap::UnixNames),
        door if door.starts_with("unix connect to /") => gaps.contains(&Gap::UnixPaths),
        _ => false,
    });
}

#[test]
fn processes_that_connect_themselves_are_reported_as_free_to() {
    // The canary is no host of the job, and is reached: that is what the two gaps say.
    on_every_rung(&Wish::Hosts { hosts: vec![], by: Connects::Itself }, |gaps, name| {
        let tcp = name.starts_with("tcp connect");
        let udp = name.starts_with("udp") || name.starts_with("dns question");
        // Nobody needs to answer at the name server for the question to have left.
        tcp && gaps.contains(&Gap::Peers) || udp && gaps.contains(&Gap::Udp)
    });
}

#[test]
fn programs_that_are_started_inherit_it() {
    let place = Place::new();
    let (program, inside) = (place.path("confined"), ["--wish", "nothing", "--"]);
    let by_exec = place.measure(&place.behind(&inside), None).unwrap();
    let shell = [inside.as_slice(), &["sh", "-c", "\"$0\" \"$1\"; exit $?"]].concat();
    let by_fork = place.measure(&place.behind(&shell), None).unwrap();
    for report in [by_exec, by_fork] {
        assert!(report.holds() && report.applied.is_none(), "{report:?}");
    }
    assert!(program.is_file());
}

#[test]
fn who_asks_stays_as_it_is() {
    let place = Place::new();
    let before = network().unwrap();
    let report = place.measure(&place.helper(None), Some(&Demand::best(Wish::Nothing, None))).unwrap();
    assert!(report.holds());
    probe(&place.helper(None)).unwrap();
    assert_eq!(before, network().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Seccomp:\t0") && status.contains("NoNewPrivs:\t0"), "{status}");
}

#[test]
fn what_the_probe_says_is_what_is_reached() {
    let place = Place::new();
    for user in users() {
        let helper = place.helper(user);
        let offer = probe(&helper).unwrap();
        for (wish, paths) in [(Wish::Nothing, None), (Wish::Nothing, everything()), (Wish::Loopback, everything())] {
            let reached = place.measure(&helper, Some(&Demand::best(wish.clone(), paths.clone()))).unwrap().applied.unwrap();
            assert_eq!((reached.level, reached.gaps), offer.reaches(&wish, paths.is_some()));
        }
    }
}

fn refusal(place: &Place, helper: &Helper, demand: &Demand) -> String {
    match place.measure(helper, Some(demand)) {
        Err(CanaryError::Refused(message)) => message,
        other => panic!("{demand:?} was not refused: {other:?}"),
    }
}

#[test]
fn a_rung_out_of_reach_is_an_error_that_says_what_is_possible() {
    let place = Place::new();
    let helper = place.helper(None);
    let best = |wish| Demand::best(wish, None);
    let without_files = Demand { least: Level::Landlock, ..best(Wish::Nothing) };
    assert!(refusal(&place, &helper, &without_files).contains("namespace is possible"));
    let itself = Wish::Hosts { hosts: vec![], by: Connects::Itself };
    let with_own_connections = Demand { least: Level::Namespace, ..best(itself.clone()) };
    assert!(refusal(&place, &helper, &with_own_connections).contains("level namespace is demanded and seccomp is possible"));
    let peers = Demand { tolerated: vec![Gap::Files, Gap::OtherProcesses, Gap::Udp], ..best(itself) };
    assert_eq!(refusal(&place, &helper, &peers), "what is demanded would leave open: peers");
    // Inside a filter there is no namespace to be had.
    let inside = place.behind(&["--wish", "nothing", "--most", "seccomp", "--"]);
    let namespace = Demand { least: Level::Namespace, ..best(Wish::Nothing) };
    assert!(refusal(&place, &inside, &namespace).contains("level namespace is demanded and seccomp is possible"));
    assert!(refusal(&place, &inside, &best(Wish::Loopback)).contains("\"loopback\" needs level namespace"));
    let what_there_is = place.measure(&inside, Some(&best(Wish::Nothing))).unwrap();
    assert_eq!(what_there_is.applied.as_ref().unwrap().level, Level::Seccomp);
    assert!(what_there_is.holds());
}

#[test]
fn root_without_user_namespaces_has_a_network_of_its_own() {
    let place = Place::new();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The limit is one of each user namespace: nothing outside of this one sees it.
    let shut = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" helper";
    let words = ["--user", "--map-root-user", "sh", "-c", shut].map(Into::into);
    let arguments = words.into_iter().chain([place.path("confined").into()]).collect();
    let helper = Helper { program: "unshare".into(), arguments, identity: None };
    assert_eq!(probe(&helper).unwrap().namespace, Some(Namespace::Network));
    for wish in [Wish::Nothing, Wish::Loopback] {
        let report = place.measure(&helper, Some(&up_to(Level::Landlock, wish))).unwrap();
        assert_eq!(report.applied.as_ref().unwrap().namespace, Some(Namespace::Network));
        assert!(report.holds(), "{report:?}");
    }
}

#[test]
fn a_socket_that_was_open_before_is_refused() {
    let place = Place::new();
    let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut command = Command::new(place.path("confined"));
    let output = command.args(["--wish", "nothing", "--", "true"]).stdin(socket).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("file descriptor 0 is a socket that is not AF_UNIX"), "{said}");
}

#[test]
fn files_that_were_not_named_are_closed_to_programs_that_are_started() {
    let place = Place::new();
    if probe(&place.helper(None)).unwrap().landlock_abi == 0 {
        return;
    }
    let confined = |files: &[&str]| {
        let mut command = Command::new(place.path("confined"));
        command.args(["--wish", "nothing", "--least", "landlock", "--read", "/usr", "--read", "/lib", "--read", "/bin"]);
        command.arg("--read").arg(place.path("inside")).args(["--", "cat"]).args(files).output().unwrap()
    };
    for name in ["inside", "listeners"] {
        fs::write(place.path(name).join("file"), name).unwrap();
    }
    let text = |name: &str| confined(&[place.path(name).join("file").to_str().unwrap()]);
    let (open, shut) = (text("inside"), text("listeners"));
    assert!(open.status.success() && open.stdout == b"inside", "{open:?}");
    assert!(!shut.status.success() && shut.stdout.is_empty(), "{shut:?}");
}

#[test]
fn variables_that_lead_out_are_not_handed_on() {
    let place = Place::new();
    let mut command = Command::new(place.path("confined"));
    command.args(["--wish", "nothing", "--", "env"]).envs([("https_proxy", "http://192.0.2.1:3128"), ("SIROCCO_TEST", "kept")]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.contains("SIROCCO_TEST=kept") && !said.to_lowercase().contains("_proxy"), "{said}");
}

#[test]
fn a_listener_that_is_not_open_is_refused() {
    let place = Place::new();
    let listen = Demand::best(Wish::Listen { port: 8080 }, None);
    assert!(refusal(&place, &place.helper(None), &listen).contains("no listener is open on TCP port 8080"));
}

/// What a program of `openings` met, as JSON: errors all of them.
fn assert_closed(text: &str) {
    let met: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(met.len(), 5);
    for met in met {
        assert!(met["errno"]["name"] == "EPERM" || met["failed"] == "errno 1", "{text}");
    }
}

#[test]
fn a_server_answers_on_its_port_and_can_do_nothing_else() {
    let place = Place::new();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(place.path("openings"));
    let mut server = command.arg("listen").stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let client = TcpStream::connect(("127.0.0.1", port.trim().parse().unwrap())).unwrap();
    writeln!(&client, "{}", outside.local_addr().unwrap()).unwrap();
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    assert!(server.wait().unwrap().success());
    assert_closed(&answer);
}

#[test]
fn processes_on_a_loopback_of_their_own_hear_each_other() {
    let place = Place::new();
    let output = Command::new(place.path("openings")).arg("loopback").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"to itself\n"), "{output:?}");
}

#[test]
fn a_broker_is_the_way_to_the_hosts_of_the_job_and_to_no_other() {
    let place = Place::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = place.path("broker");
    let clients = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || Broker::new(["127.0.0.1".parse().unwrap()], None).run(&clients));
    let address = host.local_addr().unwrap().to_string();
    let output = Command::new(place.path("openings")).args([Path::new("broker"), &path, Path::new(&address)]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut word = String::new();
    host.accept().unwrap().0.read_to_string(&mut word).unwrap();
    assert_eq!(word, "by the broker\n");
    let said = String::from_utf8(output.stdout).unwrap();
    let (met, elsewhere) = said.trim().split_once(" elsewhere ").unwrap();
    assert_closed(met);
    assert_eq!(elsewhere, format!("Err(Some({}))", libc::EACCES));
}

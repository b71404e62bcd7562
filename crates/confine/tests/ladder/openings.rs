//! What is left works, and nothing else: a server's port, a loopback, a broker.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sirocco_confine::hosts::{Broker, Client, JobKey, Peers};

use crate::place::{Place, skipped};

/// What a program of `openings` met, as JSON: errors all of them.
fn assert_closed(text: &str) {
    let outcomes: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(outcomes.len(), 5);
    for outcome in outcomes {
        assert!(outcome["errno"]["name"] == "EPERM" || outcome["failed"] == "errno 1", "{text}");
    }
}

#[test]
fn a_server_answers_on_its_port_and_can_do_nothing_else() {
    let place = Place::new();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = place.command("openings").arg("listen").stdout(Stdio::piped()).spawn().unwrap();
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
    let offer = place.offer(None);
    if offer.namespace.is_none() {
        return skipped("a loopback of its own", offer.namespace_refused.unwrap_or_default());
    }
    let output = place.command("openings").arg("loopback").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"to itself\n"), "{output:?}");
}

#[test]
fn a_broker_is_the_way_to_the_hosts_of_the_job_and_to_no_other() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let key = JobKey::random().unwrap();
    let peers = || Peers { hosts: vec![address.ip()], ports: address.port()..=address.port(), key: key.clone() };
    let path = place.path("broker");
    let clients = UnixListener::bind(&path).unwrap();
    let near = Broker::new(peers(), None);
    std::thread::spawn(move || near.run(&clients));
    let far = Broker::new(peers(), Some(listener));
    let (inside, outside) = UnixStream::pair().unwrap();
    std::thread::spawn(move || far.serve(&outside));
    let heard = std::thread::spawn(move || {
        let mut word = String::new();
        Client::over(inside).accept().unwrap().read_to_string(&mut word).unwrap();
        word
    });
    let words = [Path::new("broker"), &path, Path::new(&address.to_string())].map(Path::to_owned);
    let output = place.command("openings").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(heard.join().unwrap(), "by the broker\n");
    let said = String::from_utf8(output.stdout).unwrap();
    let (met, elsewhere) = said.trim().split_once(" elsewhere ").unwrap();
    assert_closed(met);
    assert_eq!(elsewhere, format!("Err(Some({}))", libc::EACCES));
}

#[test]
fn a_broker_that_has_no_descriptors_left_goes_on_when_it_has() {
    let place = Place::new();
    let path = place.path("broker");
    // A dozen files: fewer clients than come.
    let mut broker = Command::new("sh");
    broker.args(["-c", "ulimit -n 12; exec \"$0\" serve \"$1\""]).arg(place.path("openings")).arg(&path);
    let mut broker = broker.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !path.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let crowd: Vec<_> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // Answered or not, the broker has taken as many as it can by the time that one of them is.
    let refused = |stream: UnixStream| Client::over(stream).accept().unwrap_err().raw_os_error();
    assert_eq!(refused(crowd[0].try_clone().unwrap()), Some(libc::EOPNOTSUPP));
    std::thread::sleep(Duration::from_millis(200));
    assert!(broker.try_wait().unwrap().is_none(), "the broker ended");
    drop(crowd);
    assert_eq!(refused(UnixStream::connect(&path).unwrap()), Some(libc::EOPNOTSUPP));
    broker.kill().unwrap();
    broker.wait().unwrap();
}

//! Programs that keep one opening each: a server that accepts on the port that it opened, a loopback, and a client of a broker.
//!
//! ```text
//! openings listen               prints its port, confines itself, answers one client
//! openings loopback             speaks to itself over a loopback of its own
//! openings broker PATH ADDRESS  asks the broker at PATH for a connection to ADDRESS, and says a word there
//! openings serve PATH           is a broker at PATH, for clients and no hosts
//! ```
//! The first and the third then try to leave by themselves, and say what they met.

use std::error::Error;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;

use sirocco_confine::canary::{Outcome, Plan, Try, attempt};
use sirocco_confine::hosts::{Broker, Client, JobKey, Peers};
use sirocco_confine::{Allowed, Connects, Demand, apply};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["listen"] => listen(),
        ["loopback"] => loopback(),
        ["broker", path, address] => broker(Path::new(path), address.parse()?),
        ["serve", path] => serve(Path::new(path)),
        _ => Err("listen, loopback, broker PATH ADDRESS, or serve PATH".into()),
    }
}

fn listen() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    writeln!(std::io::stdout(), "{port}")?;
    apply(&Demand::best(Allowed::Listen { port }, None))?;
    let (client, from) = listener.accept()?;
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line)?;
    let answer = ways_out(&client, line.trim().parse()?);
    writeln!(&client, "{answer}")?;
    // The client is still there: nothing was turned to another address.
    if client.peer_addr()? == from { Ok(()) } else { Err("the client is another".into()) }
}

fn loopback() -> Result<(), Box<dyn Error>> {
    apply(&Demand::best(Allowed::Loopback, None))?;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = match TcpListener::bind(address) {
            // A kernel without IPv6.
            Err(error) if address.starts_with('[') && error.kind() == ErrorKind::AddrNotAvailable => continue,
            bound => bound?,
        };
        let client = TcpStream::connect(listener.local_addr()?)?;
        writeln!(&client, "to itself")?;
        let mut word = String::new();
        BufReader::new(listener.accept()?.0).read_line(&mut word)?;
        write!(std::io::stdout(), "{word}")?;
    }
    Ok(())
}

fn broker(path: &Path, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut client = Client::open(path)?;
    apply(&Demand::best(Allowed::Hosts { hosts: vec![address.ip()], by: Connects::Broker }, None))?;
    let connection = client.connect(address)?;
    writeln!(&connection, "by the broker")?;
    let elsewhere = client.connect(SocketAddr::new("192.0.2.77".parse()?, address.port())).map(drop);
    let outcome = elsewhere.map_err(|error| error.raw_os_error());
    writeln!(std::io::stdout(), "{} elsewhere {outcome:?}", ways_out(&connection, address))?;
    Ok(())
}

fn serve(path: &Path) -> Result<(), Box<dyn Error>> {
    let clients = UnixListener::bind(path)?;
    let peers = Peers { hosts: vec![], ports: 1..=1, key: JobKey::random()? };
    Ok(Broker::new(peers, None).run(&clients)?)
}

/// Tries to get to an address by new sockets, and by the one that is open.
fn ways_out(open: &TcpStream, to: SocketAddr) -> String {
    let tries = [Try::TcpConnect(to), Try::TcpFastOpen(to), Try::UdpSendTo(to), Try::Ring];
    let mut outcome: Vec<_> = tries.map(|attempt| Plan { attempt, token: "out".into() }).iter().map(attempt).collect();
    // connect() to no address would free the socket for another.
    let freed = rustix::net::connect_unspec(open).and_then(|()| rustix::net::connect(open, &to));
    outcome.push(match freed {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("errno {}", error.raw_os_error())),
    });
    serde_json::to_string(&outcome).unwrap_or_default()
}

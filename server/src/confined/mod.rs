//! The server kept from the network: its port is opened before, and afterwards it accepts what comes there and reaches nobody.

mod files;

use std::ffi::OsString;
use std::io::{BufReader, stdin, stdout};
use std::net::TcpListener as Opened;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use sirocco_confine::child::{Helper, serve};
use sirocco_confine::witness::{Measured, confined, testify};
use sirocco_confine::{Allowed, Demand, Level, environment};
use sirocco_custody::{Account, Deed, host, kernel};
use sirocco_policy::Confinement;
use tokio::net::{TcpListener, TcpSocket};

use crate::args::Args;
use crate::failure::Failure;

/// What was measured of this process, once it is confined.
static MEASURED: OnceLock<Measured> = OnceLock::new();
/// Whose process this is, asked before: inside no directory service answers.
static ACCOUNT: OnceLock<String> = OnceLock::new();
/// The port that was opened before.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

/// The word before those that follow: this program as it starts itself outside, to measure.
const CONFINED: &str = "confined";
/// Makes the attempts of the control, without confinement.
const HELPER: &str = "helper";
/// Has the listeners.
const WITNESS: &str = "witness";

/// The port, taken or open.
pub(crate) enum Port {
    /// Taken; clients are refused until it is opened.
    Taken(TcpSocket),
    /// Open since before the confinement, which lets nothing be opened afterwards; clients wait.
    Open(Opened),
}

impl Port {
    /// Opens it, if it is not.
    pub(crate) fn listen(self, backlog: u32) -> std::io::Result<TcpListener> {
        match self {
            Port::Taken(socket) => socket.listen(backlog),
            Port::Open(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            }
        }
    }
}

/// The port that was opened before the confinement; `None` where there is none.
pub(crate) fn opened() -> Option<Port> {
    let opened = OPENED.lock().ok()?.take()?;
    Some(Port::Open(opened))
}

/// Confines this process, which has one thread, if that is demanded, with its port open.
pub(crate) fn apply(args: &Args, least: Level) -> Result<(), Failure> {
    without_ways_out()?;
    if least == Level::Environment {
        return Ok(());
    }
    let paths = if least >= Level::Landlock { Some(files::lists(args)?) } else { None };
    let listen = args.listen.as_str();
    let unusable = |source| Failure::Listen { address: listen.to_owned(), source };
    let listener = Opened::bind(listen).map_err(unusable)?;
    let port = listener.local_addr().map_err(unusable)?.port();
    let best = Demand::best(Allowed::Listen { port }, paths);
    let demand = Demand { least, most: best.most.max(least), ..best };
    let _ = ACCOUNT.set(Account::own(None).name);
    let measured = confined(&demand, &called(WITNESS)?)?;
    if let Ok(mut opened) = OPENED.lock() {
        *opened = Some(listener);
    }
    // Nobody confines a process twice.
    let _ = MEASURED.set(measured);
    Ok(())
}

/// The level that holds for this process: what was measured, or else whether variables that lead out are gone. `None`: they are not.
pub(crate) fn level() -> Option<Confinement> {
    let number = match MEASURED.get() {
        Some(measured) => measured.level.number(),
        None if environment::left().is_ok_and(|names| names.is_empty()) => Level::Environment.number(),
        None => return None,
    };
    Confinement::ALL.into_iter().find(|level| level.number() == number)
}

/// The account's name as it was found outside; `None` where nothing was confined.
pub(crate) fn account() -> Option<String> {
    ACCOUNT.get().cloned()
}

/// The entry that says how this process is confined; `None` where nothing was measured.
pub(crate) fn deed() -> Result<Option<Deed>, Failure> {
    let Some(measured) = MEASURED.get() else { return Ok(None) };
    let unwritten = |error| Failure::System { what: "the report of the confinement", source: std::io::Error::other(error) };
    let report = serde_json::to_string(&measured.report).map_err(unwritten)?;
    let node = (host().map_err(Failure::Account)?, kernel().map_err(Failure::Account)?);
    Ok(Some(Deed::node_confined(measured.level.number(), node, report)))
}

/// How many attempts to get out were made, all in vain.
pub(crate) fn attempts() -> usize {
    MEASURED.get().map_or(0, |measured| measured.report.attempts.len())
}

/// What this program starts itself as, outside. `None`: it was started by somebody else.
pub(crate) fn assist() -> Option<Result<(), Failure>> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let broken = |error| Failure::System { what: "the measurement of the confinement", source: std::io::Error::other(error) };
    match words.as_slice() {
        [first, second] if first == CONFINED && second == HELPER => Some(serve(stdin(), stdout()).map_err(broken)),
        [first, second] if first == CONFINED && second == WITNESS => Some(
            called(HELPER)
                .and_then(|helper| testify(&helper, &std::env::temp_dir(), BufReader::new(stdin()), stdout()).map_err(broken)),
        ),
        _ => None,
    }
}

/// This program as it is called outside.
fn called(word: &str) -> Result<Helper, Failure> {
    let program = own_program()?;
    Ok(Helper {
        program,
        arguments: vec![CONFINED.into(), word.into()],
        environment: std::env::vars_os().collect(),
        identity: None,
    })
}

fn own_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe().map_err(|source| Failure::System { what: "the path of this program", source })
}

/// Variables that lead out can only be left behind by starting once more: the same process, the same command.
fn without_ways_out() -> Result<(), Failure> {
    let failed = |source| Failure::System { what: "starting again without variables that lead out", source };
    if environment::left().map_err(failed)?.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(own_program()?);
    command.args(std::env::args_os().skip(1));
    environment::clean(&mut command, std::env::vars_os().map(|(name, _)| name));
    Err(failed(command.exec()))
}

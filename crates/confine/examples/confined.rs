//! Starts a program confined, and is the helper of the canary.
//!
//! ```text
//! confined --allow nothing -- COMMAND …           runs COMMAND without any network
//! confined --allow loopback -- mpirun -n 2 …      the same with a loopback of its own
//! confined --allow unix:DIRECTORY -- COMMAND …    AF_UNIX sockets within a directory
//! confined --allow itself:ADDRESS,… -- COMMAND …  the sockets of a job of several nodes
//! confined --canary DIRECTORY --allow nothing     measures; exit code 3 when something is found
//! confined --control DIRECTORY                    what gets through without confinement
//! confined --probe                                what this kernel offers
//! ```
//! Further options, before `--`: `--least LEVEL`, `--most LEVEL`, `--write PATH` and `--read PATH` (any number), `--user UID` for
//! the helper.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use sirocco_confine::canary::{Canary, measure};
use sirocco_confine::child::{Helper, probe, serve};
use sirocco_confine::{Allowed, Connects, Demand, Level, Paths, apply, environment};

/// What was typed.
#[derive(Default)]
struct Options {
    allowed: Option<Allowed>,
    least: Option<Level>,
    most: Option<Level>,
    paths: Paths,
    user: Option<u32>,
    canary: Option<PathBuf>,
    control: Option<PathBuf>,
    probe: bool,
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "helper") {
        serve(std::io::stdin(), std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !environment::left()?.is_empty() {
        return Err(again(&arguments)?.into());
    }
    let options = read(arguments)?;
    let helper = Helper {
        program: std::env::current_exe()?,
        arguments: vec!["helper".into()],
        environment: std::env::vars_os().collect(),
        identity: options.user.map(|user| (user, user)),
    };
    let demand = options.allowed.clone().map(|allowed| demand(allowed, &options));
    let mut out = std::io::stdout();
    if options.probe {
        writeln!(out, "{}", serde_json::to_string_pretty(&probe(&helper)?)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(directory) = options.control {
        let canary = Canary::open(&helper, &directory)?;
        writeln!(out, "{}", serde_json::to_string_pretty(canary.control())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(directory), Some(demand)) = (options.canary, &demand) {
        let report = measure(&helper, demand, &directory)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(3) });
    }
    let (Some(demand), [program, rest @ ..]) = (demand, options.command.as_slice()) else {
        return Err("what is allowed and a command are needed".into());
    };
    let applied = apply(&demand)?;
    writeln!(std::io::stderr(), "{}", serde_json::to_string(&applied)?)?;
    let mut command = Command::new(program);
    command.args(rest);
    command.envs(environment::FOR_OPEN_MPI);
    Err(command.exec().into())
}

/// Starts itself once more without the variables that lead out; comes back with an error or not at all.
fn again(arguments: &[OsString]) -> std::io::Result<std::io::Error> {
    let mut command = Command::new(std::env::current_exe()?);
    environment::clean(command.args(arguments), std::env::vars_os().map(|(name, _)| name));
    Ok(command.exec())
}

fn demand(allowed: Allowed, options: &Options) -> Demand {
    let paths = (options.paths != Paths::default()).then(|| options.paths.clone());
    let best = Demand::best(allowed, paths);
    Demand { least: options.least.unwrap_or(best.least), most: options.most.unwrap_or(best.most), ..best }
}

fn read(arguments: Vec<OsString>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            options.command = words.collect();
            break;
        }
        if word == "--probe" {
            options.probe = true;
            continue;
        }
        let value = words.next().ok_or("an option without its value")?;
        let text = value.to_str().ok_or("an option's value is not UTF-8")?;
        match word.to_str() {
            Some("--allow") => options.allowed = Some(allowed(text)?),
            Some("--least") => options.least = Some(level(text)?),
            Some("--most") => options.most = Some(level(text)?),
            Some("--read") => options.paths.readable.push(text.into()),
            Some("--write") => options.paths.writable.push(text.into()),
            Some("--user") => options.user = Some(text.parse()?),
            Some("--canary") => options.canary = Some(text.into()),
            Some("--control") => options.control = Some(text.into()),
            _ => return Err(format!("unknown option {}", word.display()).into()),
        }
    }
    Ok(options)
}

fn level(text: &str) -> Result<Level, Box<dyn Error>> {
    Ok(serde_json::from_value(text.into())?)
}

fn allowed(text: &str) -> Result<Allowed, Box<dyn Error>> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    Ok(match name {
        "nothing" => Allowed::Nothing,
        "loopback" => Allowed::Loopback,
        "unix" => Allowed::Unix { directory: value.into() },
        "listen" => Allowed::Listen { port: value.parse()? },
        "itself" => {
            let hosts = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            Allowed::Hosts { hosts, by: Connects::Itself }
        }
        _ => return Err(format!("nothing is known that is called {text}").into()),
    })
}

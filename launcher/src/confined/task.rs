//! What the tasks of a job are started as, before they become what they are to do: `sirocco confined node`, `rank` and `whole`.
//!
//! What starts a task (slurmstepd, a daemon of mpirun, the words that open a container) stays outside; the task confines itself before
//! it opens anything, and PMI and PMIx find inside what they need: a stream that was open already, or TCP on the node.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use sirocco_config::RunFile;
use sirocco_config::environment::{CONFINED, NODE_NAME};
use sirocco_confine::witness::{Measured, confined};
use sirocco_confine::{Allowed, Connects, Demand, Level, apply, environment, network};
use sirocco_custody::{host, kernel};
use sirocco_files::replace;

use super::{WITNESS, called, need, without_ways_out};
use crate::failure::{Failure, Kind};
use crate::gate::next_action;
use crate::programs::{TRAINER, beside, settle};
use crate::train::directory::RunDirectory;
use crate::train::here;
use crate::train::ranks::under_mpirun;

/// `sirocco confined node`: measures a node.
pub(crate) const NODE: &str = "node";
/// `sirocco confined rank`: becomes a rank.
pub(crate) const RANK: &str = "rank";

/// `sirocco confined whole`: becomes what starts all ranks of a job of one node, inside.
pub(crate) const WHOLE: &str = "whole";
/// What Slurm tells its tasks, of which mpirun is none: inside it starts ranks as on one machine.
const OF_SLURM: [&str; 3] = ["SLURM_", "PMI_", "PMIX_"];

/// How the tasks of a job that spans nodes are confined: their words on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The addresses of the job's nodes, for the report.
    pub(crate) hosts: Vec<IpAddr>,
    /// Whose run it is, as it was found outside of any container.
    pub(crate) account: String,
    /// Where a node leaves what it measured.
    pub(crate) into: Option<PathBuf>,
    /// Which measurement that is.
    pub(crate) stamp: Option<String>,
}

/// What a node leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Which measurement this is.
    pub(crate) stamp: String,
    /// The node's own name.
    pub(crate) host: String,
    /// Its kernel.
    pub(crate) kernel: String,
    /// What was measured; `None` where the node cannot be confined, or where that does not hold.
    pub(crate) measured: Option<Measured>,
    /// Why.
    pub(crate) refused: Option<String>,
}

impl Words {
    /// As a command line has them, behind `sirocco`.
    pub(crate) fn written(&self, what: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["confined".into(), what.into()];
        let hosts: Vec<String> = self.hosts.iter().map(IpAddr::to_string).collect();
        words.extend(["--hosts".into(), hosts.join(",").into(), "--account".into(), self.account.clone().into()]);
        if let Some(into) = &self.into {
            words.extend(["--into".into(), into.into()]);
        }
        if let Some(stamp) = &self.stamp {
            words.extend(["--stamp".into(), stamp.into()]);
        }
        words
    }

    /// Reads them back; what follows `--` is the program.
    fn read(words: &[OsString]) -> Option<(Words, &[OsString])> {
        let (mut read, mut rest) = (Words::default(), words);
        while let [name, value, behind @ ..] = rest {
            let text = value.to_str();
            match name.to_str()? {
                "--" => break,
                "--hosts" => {
                    let hosts = text?.split(',').filter(|host| !host.is_empty());
                    read.hosts = hosts.map(|host| host.parse().ok()).collect::<Option<_>>()?;
                }
                "--account" => read.account = text?.to_owned(),
                "--into" => read.into = Some(PathBuf::from(value)),
                "--stamp" => read.stamp = Some(text?.to_owned()),
                _ => return None,
            }
            rest = behind;
        }
        match rest {
            [] => Some((read, &[])),
            [mark, program @ ..] if mark == "--" => Some((read, program)),
            _ => None,
        }
    }

    /// Connections by TCP and UDP, which MPI makes by itself, and no other sockets: nobody sees where they go.
    fn demand(&self) -> Demand {
        let allowed = Allowed::Hosts { hosts: self.hosts.clone(), by: Connects::Itself };
        Demand { least: Level::Seccomp, ..Demand::best(allowed, None) }
    }
}

/// Confines this process as the ranks of this node will be, has that measured, and leaves what came of it.
pub(super) fn node(words: &[OsString]) -> Result<(), Failure> {
    let Some((Words { into: Some(into), stamp: Some(stamp), hosts, account }, [])) = Words::read(words) else {
        return Err(wrong());
    };
    let demand = Words { hosts, account, ..Words::default() }.demand();
    without_ways_out(false)?;
    let own = host().map_err(failed)?;
    let kernel = kernel().map_err(failed)?;
    let (measured, refused) = match confined(&demand, &called(WITNESS)?) {
        Ok(measured) => (Some(measured), None),
        Err(why) => (None, Some(why.to_string())),
    };
    let name = std::env::var_os(NODE_NAME.name).unwrap_or_else(|| own.clone().into());
    let report = NodeReport { stamp, host: own, kernel, measured, refused };
    leave(&into, &name, &report).map_err(failed)
}

/// Whole or not at all: who reads it may look at any moment.
fn leave(into: &Path, name: &OsStr, report: &NodeReport) -> Result<(), Box<dyn std::error::Error>> {
    let mut name = name.to_owned();
    name.push(".json");
    Ok(replace::file_and_name(&into.join(name), &serde_json::to_vec(report)?, 0o644)?)
}

/// Confines this process as the others, which the node's measurement stands for, and becomes the program.
pub(super) fn rank(words: &[OsString]) -> Result<(), Failure> {
    let Some((words, [program, arguments @ ..])) = Words::read(words) else { return Err(wrong()) };
    let demand = words.demand();
    without_ways_out(false)?;
    let outside = network().map_err(|error| not_confined(&error))?;
    let applied = apply(&demand).map_err(|refused| not_confined(&refused))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment::FOR_OPEN_MPI);
    command.env(CONFINED.name, format!("{} {outside} {}", applied.level.number(), words.account));
    let error = command.exec();
    Err(Failure::new(Kind::Machine, format_args!("{}: cannot be started: {error}", program.display())))
}

/// Confines this process, has that measured and written down, and becomes mpirun, or the one rank.
pub(super) fn whole(words: &[OsString]) -> Result<(), Failure> {
    let Some((words, [directory, arguments @ ..])) = Words::read(words) else { return Err(wrong()) };
    without_ways_out(false)?;
    let directory = RunDirectory::existing(Path::new(directory))?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let action = next_action(directory.path());
    // An image may know other accounts than its host.
    let _ = super::ACCOUNT.set(words.account);
    let Some(demand) = need::together(&run, action, directory.path())? else { return Err(wrong()) };
    super::now(&demand).map_err(|failure| not_confined(&failure.message))?;
    super::record(&directory, &run)?;
    let trainer = beside(TRAINER)?;
    let mut command = if run.ranks() == 1 { Command::new(trainer) } else { under_mpirun(&trainer, run.ranks())? };
    command.args(["run", "--dir"]).arg(directory.path());
    command.args(["--comm", if run.ranks() == 1 { "solo" } else { "mpi" }]).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OF_SLURM.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    super::hand_on(settle(&mut command));
    let error = command.exec();
    Err(Failure::new(Kind::Machine, format_args!("{}: cannot be started: {error}", command.get_program().display())))
}

fn not_confined(why: &dyn std::fmt::Display) -> Failure {
    let node = host().unwrap_or_else(|_| "this node".to_owned());
    Failure::new(Kind::Machine, format_args!("{NOT_CONFINED}{node}: {why}"))
}

/// How a task begins that cannot be confined: no job that is like it will go better.
pub(crate) const NOT_CONFINED: &str = "not confined as this run needs, on ";

fn wrong() -> Failure {
    Failure::usage("sirocco confined is started by other commands")
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Failed, format_args!("the measurement of the confinement: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        let words = Words {
            hosts: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            account: "amal".to_owned(),
            into: Some("/runs/a b/logs/confined".into()),
            stamp: Some("7 1".to_owned()),
        };
        let mut written = words.written(RANK);
        assert_eq!(written[..2], ["confined", RANK].map(OsString::from));
        assert_eq!(Words::read(&written[2..]), Some((words, &[][..])));
        written.extend(["--", "sirocco-train", "run", "--", "--hosts"].map(OsString::from));
        let (_, program) = Words::read(&written[2..]).unwrap();
        assert_eq!(program, ["sirocco-train", "run", "--", "--hosts"]);
        for wrong in [&["--hosts"][..], &["--hosts", "here"], &["--other", "x"]] {
            let wrong: Vec<OsString> = wrong.iter().map(OsString::from).collect();
            assert_eq!(Words::read(&wrong), None, "{wrong:?}");
        }
    }
}

//! What Slurm says of itself: commands, controller, partitions, qualities of service, ways to start MPI.
use sirocco_site::WallTime;

use super::ask::{Answer, LIMIT, ask};
use super::lines::Seen;
use crate::programs::is_on_path;

/// The commands without which nothing can be submitted or watched.
pub(crate) const COMMANDS: [&str; 6] = ["sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"];

/// A partition as `sinfo` and `scontrol` see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) nodes: u64,
    /// CPUs as Slurm counts them, of the smallest node.
    pub(crate) cpus: u64,
    /// Memory in MiB of the smallest node.
    pub(crate) memory_mb: u64,
    /// GPUs of the node with the fewest.
    pub(crate) gpus: u64,
    /// `None` without a limit.
    pub(crate) max_time: Option<WallTime>,
}

/// A quality of service as `sacctmgr` sees it. `None` is without a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Qos {
    pub(crate) name: String,
    pub(crate) max_time: Option<WallTime>,
    pub(crate) max_nodes: Option<u64>,
}

/// What was asked of Slurm.
#[derive(Debug)]
pub(crate) struct Slurm {
    pub(crate) version: Seen<String>,
    /// Those of [`COMMANDS`] that are not there.
    pub(crate) lacking: Vec<&'static str>,
    /// What the controller says when it is up.
    pub(crate) controller: Seen<String>,
    pub(crate) partitions: Seen<Vec<Partition>>,
    pub(crate) qos: Seen<Vec<Qos>>,
    /// The types that `srun --mpi=` takes.
    pub(crate) mpi: Seen<Vec<String>>,
    /// The plugin that counts energy.
    pub(crate) energy: Seen<String>,
}

impl Slurm {
    /// Asks everything, unless the controller does not answer: then only what needs none.
    pub(crate) fn look() -> Slurm {
        let version = seen(ask("sinfo", &["--version"]), "sinfo").map(|said| last_word(&said));
        let lacking: Vec<_> = COMMANDS.into_iter().filter(|command| !is_on_path(command)).collect();
        if lacking.contains(&"scontrol") || version == Seen::Nothing {
            return Slurm { version, lacking, ..Slurm::without("there is no Slurm here to ask") };
        }
        let mpi = seen(ask("srun", &["--mpi=list"]), "srun").map(|said| mpi_types(&said));
        let controller = seen(ask("scontrol", &["ping"]), "scontrol ping").map(|said| first_line(&said));
        if !matches!(controller, Seen::Here(_)) {
            return Slurm { version, lacking, controller, mpi, ..Slurm::without("the controller does not answer") };
        }
        let format = ["--all", "--noheader", "--exact", "--format=%R|%D|%c|%m|%G|%l"];
        let partitions = seen(ask("sinfo", &format), "sinfo").map(|said| partitions(&said));
        let accounting = ["--noheader", "--parsable2", "show", "qos", "format=Name,MaxWall,MaxTRES"];
        let qos = seen(ask("sacctmgr", &accounting), "sacctmgr").map(|said| qualities(&said));
        let config = seen(ask("scontrol", &["show", "config"]), "scontrol");
        let energy = config.map(|said| setting(&said, "AcctGatherEnergyType").unwrap_or_default());
        Slurm { version, lacking, controller, partitions, qos, mpi, energy }
    }

    fn without(why: &str) -> Slurm {
        fn unseen<T>(why: &str) -> Seen<T> {
            Seen::Unseen(why.to_owned())
        }
        let lacking = Vec::new();
        let (version, controller, energy) = (unseen(why), unseen(why), unseen(why));
        Slurm { version, lacking, controller, partitions: unseen(why), qos: unseen(why), mpi: unseen(why), energy }
    }
}

/// An answer of `who`: a command that is not there says nothing, one that fails says why it was not seen.
fn seen(answer: Answer, who: &str) -> Seen<String> {
    match answer {
        Answer::Said(said) => Seen::Here(said),
        Answer::NotThere => Seen::Nothing,
        Answer::Failed(why) => Seen::Unseen(format!("{who}: {why}")),
        Answer::TooLate => Seen::Unseen(format!("{who} did not answer in {} s", LIMIT.as_secs())),
    }
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// `slurm 23.11.9`, and `slurm-wlm 22.05.8` on Debian.
fn last_word(text: &str) -> String {
    first_line(text).split_whitespace().last().unwrap_or_default().to_owned()
}

/// The types of `srun --mpi=list`: a word on a line of its own, after a heading; then perhaps `specific pmix plugin versions available: …`.
fn mpi_types(said: &str) -> Vec<String> {
    let words = said.lines().map(|line| line.trim().trim_start_matches("srun: ").trim());
    words.filter(|word| !word.is_empty() && !word.contains([' ', ':'])).map(str::to_owned).collect()
}

/// `KEY = value` of `scontrol show config`.
fn setting(said: &str, key: &str) -> Option<String> {
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// Lines `name|nodes|cpus|memory|gres|time`; a partition with nodes of several kinds has several.
fn partitions(said: &str) -> Vec<Partition> {
    let mut all: Vec<Partition> = Vec::new();
    for line in said.lines() {
        let [name, nodes, cpus, memory, gres, time] = line.split('|').collect::<Vec<_>>()[..] else { continue };
        let one = Partition {
            name: name.trim().to_owned(),
            nodes: number(nodes),
            cpus: number(cpus),
            memory_mb: number(memory),
            gpus: gpus(gres),
            max_time: WallTime::parse(time.trim()),
        };
        match all.iter_mut().find(|other| other.name == one.name) {
            Some(other) => {
                other.nodes += one.nodes;
                other.cpus = other.cpus.min(one.cpus);
                other.memory_mb = other.memory_mb.min(one.memory_mb);
                other.gpus = other.gpus.min(one.gpus);
            }
            None => all.push(one),
        }
    }
    all
}

/// More than any cluster has of anything, and few enough to compute with.
const MOST: u64 = 1_000_000_000_000;

/// The digits at the beginning, [`MOST`] at most: `4` and `4+` are both at least 4.
fn number(text: &str) -> u64 {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0).min(MOST)
}

/// GPUs in a list of generic resources: `gpu:4`, `gpu:a100:4(S:0-1)`, `gpu:a100:2,gpu:h100:2`, `(null)`.
fn gpus(gres: &str) -> u64 {
    let plain: String = gres.split('(').enumerate().fold(String::new(), |text, (index, part)| {
        // What stands in brackets names sockets, with commas of its own.
        text + if index == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) }
    });
    let count = |one: &str| match one.trim().split(':').collect::<Vec<_>>()[..] {
        ["gpu"] => 1,
        ["gpu", .., count] => number(count),
        _ => 0,
    };
    plain.split(',').map(count).sum()
}

/// Lines `name|wall time|cpu=…,node=…`.
fn qualities(said: &str) -> Vec<Qos> {
    let line = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, wall, resources) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        let nodes = resources.split(',').find_map(|one| one.strip_prefix("node=")).map(number);
        (!name.is_empty()).then(|| Qos { name: name.to_owned(), max_time: WallTime::parse(wall), max_nodes: nodes })
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_several_kinds_of_nodes_are_one() {
        let said = "gpu|180|128|500000|gpu:a100:4(S:0-1)|2-00:00:00\ngpu|20|128+|490000+|gpu:a100:4|2-00:00:00\ncpu|573|256|500000|(null)|infinite\nbad line\n";
        let found = partitions(said);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].nodes, found[0].cpus, found[0].memory_mb, found[0].gpus), (200, 128, 490_000, 4));
        assert_eq!(found[0].max_time.map(|time| time.to_string()).as_deref(), Some("2-00:00:00"));
        assert_eq!((found[1].name.as_str(), found[1].gpus, found[1].max_time), ("cpu", 0, None));
    }

    #[test]
    fn numbers_are_ones_to_compute_with() {
        assert_eq!(["4", "4+", "", "x", "18446744073709551615"].map(number), [4, 4, 0, 0, MOST]);
    }

    #[test]
    fn generic_resources_are_counted() {
        for (gres, count) in [
            ("(null)", 0),
            ("gpu", 1),
            ("gpu:4", 4),
            ("gpu:fake:4", 4),
            ("gpu:a:2(S:0,1),gpu:b:2", 4),
            ("tmpfs:10,gpu:1", 1),
            ("gputter:3", 0),
        ] {
            assert_eq!(gpus(gres), count, "{gres}");
        }
    }

    #[test]
    fn qualities_and_mpi_types_are_read() {
        let found = qualities("normal|||\ndefault|2-00:00:00|cpu=9,node=50\nlong|6-00:00:00|\n");
        assert_eq!(found.iter().map(|qos| qos.max_nodes).collect::<Vec<_>>(), [None, Some(50), None]);
        let said = "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n";
        assert_eq!(mpi_types(said), ["pmix", "none", "pmi2"]);
        assert_eq!(mpi_types("srun: MPI types are...\nsrun: pmi2\nsrun: openmpi\n"), ["pmi2", "openmpi"]);
    }

    #[test]
    fn versions_and_settings_are_read() {
        assert_eq!(last_word("slurm-wlm 22.05.8\n"), "22.05.8");
        let config = "ClusterName             = test\nAcctGatherEnergyType    = acct_gather_energy/none\n";
        assert_eq!(setting(config, "AcctGatherEnergyType").as_deref(), Some("acct_gather_energy/none"));
    }
}

//! What Slurm itself would have against a job, asked before one is submitted: account, partition, QOS, time and nodes. sbatch takes many jobs that
//! then wait for ever, with a reason that only squeue shows.
mod ask;
mod judge;
mod read;
mod rules;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use sirocco_config::{Run, RunFile, WallTime};
use sirocco_site::Site;

use crate::chain::needs::gpus_per_node;
use crate::failure::Failure;
use crate::output::{count, say};
use judge::{Problem, judge};
use rules::Rules;

/// How long a person who checks a run waits for Slurm; its controller answers within a tenth of a second, its database within a few.
pub(crate) const QUICKLY: Duration = Duration::from_secs(3);
/// And one who submits.
pub(crate) const PATIENTLY: Duration = Duration::from_secs(10);

/// What a job asks of Slurm.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) account: Option<String>,
    pub(crate) partition: Option<String>,
    pub(crate) qos: Option<String>,
    pub(crate) time: Option<WallTime>,
    /// Spare ones included.
    pub(crate) nodes: u64,
    pub(crate) spare_nodes: u64,
    /// Of all nodes.
    pub(crate) gpus: u64,
    /// Each takes one CPU at least.
    pub(crate) ranks: u64,
}

/// What the job would be, as far as Slurm says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Allowed {
    pub(crate) account: Option<String>,
    pub(crate) partition: Option<String>,
    pub(crate) qos: Option<String>,
    /// What could not be asked, or is of use to know.
    #[serde(skip)]
    pub(crate) notes: Vec<String>,
}

/// A question to Slurm whose answer is on its way.
pub(crate) struct Question {
    asked: Asked,
    rules: Receiver<Rules>,
    until: Instant,
    patience: Duration,
}

impl Asked {
    pub(crate) fn of(run: &Run, site: &Site) -> Asked {
        let wanted = &run.site;
        let nodes = wanted.nodes.saturating_add(wanted.spare_nodes);
        Asked {
            account: wanted.account.clone(),
            partition: wanted.partition.clone().or_else(|| site.default_partition.clone()),
            qos: wanted.qos.clone(),
            time: wanted.time,
            nodes,
            spare_nodes: wanted.spare_nodes,
            gpus: gpus_per_node(run).saturating_mul(nodes),
            ranks: run.ranks(),
        }
    }
}

impl Question {
    /// Begins to ask; other things can be looked at meanwhile.
    pub(crate) fn begin(asked: Asked, patience: Duration) -> Question {
        let (sender, rules) = channel();
        thread::spawn(move || {
            // Who waited may have given up.
            let _ = sender.send(ask::rules(patience));
        });
        Question { asked, rules, until: Instant::now() + patience, patience }
    }

    /// The answer, once it is there: a refusal names every setting that stands against the job, with what would be allowed. What cannot be asked is
    /// a note.
    pub(crate) fn answer(self, file: &RunFile) -> Result<Allowed, Failure> {
        // The commands have the same limit; what remains is the time in which they are ended.
        let remains = self.until.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let rules = match self.rules.recv_timeout(remains) {
            Ok(rules) => rules,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let note = format!("Slurm did not answer in {} s: what it allows was not checked", self.patience.as_secs());
                return Ok(Allowed { notes: vec![note], ..Allowed::default() }.told());
            }
        };
        let judged = judge(&self.asked, &rules);
        let allowed = judged.allowed.told();
        if judged.problems.is_empty() { Ok(allowed) } else { Err(refusal(file, &judged.problems)) }
    }
}

impl Allowed {
    fn told(self) -> Allowed {
        self.notes.iter().for_each(|note| say(format_args!("note: {note}")));
        self
    }

    /// As a line of a check: `account a, partition p, QOS q`.
    pub(crate) fn words(&self) -> Option<String> {
        let named = [("account", &self.account), ("partition", &self.partition), ("QOS", &self.qos)];
        let words: Vec<String> =
            named.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// All problems in one refusal, each on its line: whoever corrects one wants to know the next.
fn refusal(file: &RunFile, problems: &[Problem]) -> Failure {
    let lines: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", file.place_of(problem.setting), problem.message)).collect();
    let more = if lines.len() > 1 {
        format!("{} stand against this job:\n  ", count(lines.len() as u64, "thing"))
    } else {
        String::new()
    };
    let mut helps: Vec<&str> = Vec::new();
    for problem in problems.iter().filter(|problem| !helps.contains(&problem.help.as_str())).collect::<Vec<_>>() {
        helps.push(&problem.help);
    }
    Failure::usage(more + &lines.join("\n  ")).help(helps.join("; "))
}

//! The commands of Slurm that change something or look at one job. Each has a limit on its time; where the controller does not answer it is
//! asked again for a while, and nothing is ever submitted twice.
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::chain::{environment, hosts};
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::site::ask::{Answer, SILENCE, ask, ask_command};

/// For how long a controller is asked again that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two questions to one.
const PAUSE: Duration = Duration::from_secs(3);

/// What Slurm's commands say when the controller, and not the question, is the trouble.
const UNREACHABLE: [&str; 5] = [
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
    "Connection timed out",
];

/// A job as Slurm sees it now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    /// `RUNNING`, `PENDING`, `CANCELLED` …
    pub(crate) state: String,
    /// Until its time is up.
    pub(crate) left: Option<Duration>,
    /// In the notation of Slurm: `n[1-3]`.
    pub(crate) nodes: String,
}

/// A script to submit.
pub(crate) struct Submission<'a> {
    pub(crate) script: &'a Path,
    /// The name of its job.
    pub(crate) name: &'a str,
    /// Jobs of that name that were recorded.
    pub(crate) known: &'a [String],
    /// Nodes to keep away from.
    pub(crate) excluded: &'a [String],
    /// Variables that stay here.
    pub(crate) leading_out: &'a [String],
}

impl Job {
    /// Whether it waits or runs.
    pub(crate) fn is_active(&self) -> bool {
        ["PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD"].contains(&self.state.as_str())
    }
}

/// Submits a script; the number of its job.
pub(crate) fn submit(wanted: &Submission<'_>) -> Result<String, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new("sbatch");
        command.arg("--parsable");
        if !wanted.excluded.is_empty() {
            command.arg(format!("--exclude={}", hosts::write(wanted.excluded)));
        }
        environment::keep_out_of_jobs(command.arg(wanted.script), wanted.leading_out);
        match ask_command(&mut command) {
            Answer::Said(said) => {
                return number(&said).ok_or_else(|| refused(&format!("it said {said:?} in place of a job's number")));
            }
            Answer::NotThere => return Err(not_there("sbatch")),
            Answer::Failed(why) if !is_unreachable(&why) => return Err(refused(&why)),
            // The controller may have taken the job before it fell silent.
            Answer::Failed(_) | Answer::TooLate => {
                let unknown = jobs_called(wanted.name, until)?.into_iter().find(|job| !wanted.known.contains(job));
                if let Some(job) = unknown {
                    return Ok(job);
                }
            }
        }
        if Instant::now() >= until {
            return Err(silent());
        }
    }
}

/// Has Slurm say whether it would ever run a script; nothing is submitted. A controller that does not answer is no refusal.
pub(crate) fn test(script: &str, leading_out: &[String]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Kind::Failed, format_args!("no file for Slurm to look at can be made: {error}"));
    let mut file = tempfile::Builder::new().prefix("sirocco-job-").tempfile().map_err(failed)?;
    file.write_all(script.as_bytes()).map_err(failed)?;
    let mut command = Command::new("sbatch");
    environment::keep_out_of_jobs(command.arg("--test-only").arg(file.path()), leading_out);
    match ask_command(&mut command) {
        Answer::NotThere => Err(not_there("sbatch")),
        Answer::Failed(why) if !is_unreachable(&why) => Err(refused(&why)),
        _ => Ok(()),
    }
}

/// The jobs of that name that wait or run.
pub(crate) fn jobs_called(name: &str, until: Instant) -> Result<Vec<String>, Failure> {
    let named = format!("--name={name}");
    let said = persist(until, || {
        ask("squeue", &["--me", "--noheader", "--states=PENDING,RUNNING,CONFIGURING,SUSPENDED", "--format=%i", &named])
    })?;
    Ok(said.lines().map(str::trim).filter(|line| is_id(line)).map(str::to_owned).collect())
}

/// `17`, `17_3` of a task of an array, or `17_[0-3]` of tasks that wait. What else a command says are warnings.
fn is_id(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
        && line.chars().all(|letter| letter.is_ascii_digit() || "_[]-,%".contains(letter))
}

/// How a job is; `None` if Slurm has forgotten it.
pub(crate) fn job(id: &str) -> Result<Option<Job>, Failure> {
    let asked = || match ask("squeue", &["--noheader", "--states=all", "--format=%T|%L|%N", "--jobs", id]) {
        Answer::Failed(why) if why.contains("Invalid job id") => Answer::Said(String::new()),
        answer => answer,
    };
    Ok(persist(Instant::now() + PATIENCE, asked)?.lines().find_map(read_job))
}

/// `RUNNING|9:42|n[1-2]`
fn read_job(line: &str) -> Option<Job> {
    let mut fields = line.trim().split('|');
    let (state, left, nodes) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Job { state: state.to_owned(), left: time_left(left), nodes: nodes.to_owned() })
}

/// `1-02:03:04`, `2:03:04` or `3:04`; none for `UNLIMITED`, `INVALID`, `NOT_SET`.
fn time_left(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('-').map_or((Some(0_u64), text), |(days, clock)| (days.parse().ok(), clock));
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let seconds = match parts[..] {
        [minutes, seconds] => minutes.checked_mul(60)?.checked_add(seconds)?,
        [hours, minutes, seconds] => hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_add(seconds)?,
        _ => return None,
    };
    Some(Duration::from_secs(days?.checked_mul(86_400)?.checked_add(seconds)?))
}

/// Has Slurm start the same job again, with the nodes that are free then.
pub(crate) fn requeue(id: &str) -> Result<(), Failure> {
    persist(Instant::now() + PATIENCE, || ask("scontrol", &["requeue", id])).map(drop)
}

/// Ends a job, or sends its ranks a signal.
pub(crate) fn cancel(id: &str, signal: Option<&str>) -> Result<(), Failure> {
    cancel_all(&[id.to_owned()], signal)
}

/// The same of several. One that has ended meanwhile needs none: scancel fails then, and says nothing.
pub(crate) fn cancel_all(ids: &[String], signal: Option<&str>) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let signal = signal.map(|signal| format!("--signal={signal}"));
    let words: Vec<&str> = signal.as_deref().into_iter().chain(ids.iter().map(String::as_str)).collect();
    let asked = || match ask("scancel", &words) {
        Answer::Failed(why) if why == SILENCE || why.contains("Invalid job id") => Answer::Said(String::new()),
        answer => answer,
    };
    persist(Instant::now() + PATIENCE, asked).map(drop)
}

/// A job of this user that waits or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mine {
    /// `17`, or `17_3` of an array.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) runs: bool,
}

/// Every such job; each one of an array by itself, also those that still wait.
pub(crate) fn mine() -> Result<Vec<Mine>, Failure> {
    let words = ["--me", "--noheader", "--array", "--states=PENDING,RUNNING,CONFIGURING,SUSPENDED", "--format=%i|%T|%j"];
    let said = persist(Instant::now() + PATIENCE, || ask("squeue", &words))?;
    Ok(said.lines().filter_map(read_mine).collect())
}

/// `17_3|PENDING|tiny.4c3d2f`
fn read_mine(line: &str) -> Option<Mine> {
    let mut fields = line.trim().splitn(3, '|');
    let (id, state, name) = (fields.next()?, fields.next()?, fields.next()?);
    is_id(id).then(|| Mine { id: id.to_owned(), name: name.to_owned(), runs: state == "RUNNING" })
}

/// Ends what `srun` has started in a job, and nothing else of it, within a time. A signal to the job would not do: KILL goes to the batch script, too, and with it
/// the job ends for good.
pub(crate) fn end_steps(id: &str, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    let said = persist(until, || ask("squeue", &["--noheader", "--steps", "--format=%i", "--jobs", id]))?;
    for step in said.lines().map(str::trim).filter(|line| is_step(line)) {
        let over = |answer| match answer {
            // It has ended since.
            Answer::Failed(why) if !is_unreachable(&why) => Answer::Said(why),
            answer => answer,
        };
        persist(until, || over(ask("scancel", &["--ctld", step])))?;
    }
    Ok(())
}

/// `17.2`, or `17_3.2` in an array; neither `17.batch` nor `17.extern`.
fn is_step(line: &str) -> bool {
    line.rsplit_once('.')
        .is_some_and(|(job, step)| is_id(job) && !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Asks until there is an answer of the controller.
fn persist(until: Instant, asked: impl Fn() -> Answer) -> Result<String, Failure> {
    let mut told = false;
    loop {
        match asked() {
            Answer::Said(said) => return Ok(said),
            Answer::NotThere => return Err(not_there("Slurm")),
            Answer::Failed(why) if !is_unreachable(&why) => return Err(refused(&why)),
            Answer::Failed(_) | Answer::TooLate if Instant::now() >= until => return Err(silent()),
            Answer::Failed(_) | Answer::TooLate => {
                if !told {
                    say(format_args!("the controller of Slurm does not answer: asking again"));
                    told = true;
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

fn is_unreachable(why: &str) -> bool {
    UNREACHABLE.iter().any(|words| why.contains(words))
}

/// `17`, or `17;cluster`, among warnings.
fn number(said: &str) -> Option<String> {
    let is_number = |line: &&str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    said.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).find(is_number).map(str::to_owned)
}

fn not_there(command: &str) -> Failure {
    let message = format!("{command} is not on PATH: expected a login node of a cluster with Slurm");
    Failure::new(Kind::Machine, message).help("sirocco train starts a run on this machine, without Slurm")
}

fn refused(why: &str) -> Failure {
    if ["Unknown host", "resolve_ctls_from_dns_srv", "Could not establish a configuration source"]
        .iter()
        .any(|words| why.contains(words))
    {
        let message = format!("no controller of Slurm is known here: {why}");
        return Failure::new(Kind::Machine, message)
            .help("a login node of the cluster knows one; sirocco site check says what is there of Slurm");
    }
    let why = why.trim_start_matches("allocation failure: ").trim_start_matches("sbatch: error: ").to_owned();
    Failure::new(Kind::Usage, format!("Slurm refused: {why}")).help(advice(&why))
}

/// What to do about a refusal of sbatch.
fn advice(why: &str) -> &'static str {
    let lower = why.to_lowercase();
    let about = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if about(&["submit limit", "max jobs", "accounting/qos policy"]) {
        "a limit of your account or QOS is reached: squeue --me shows your jobs, [site] qos and time are what can be changed"
    } else if about(&["account"]) {
        "[site] account must be one that you may use: sacctmgr show associations user=$USER format=account,partition,qos"
    } else if about(&["partition"]) {
        "[site] partition must be one of sinfo --summarize"
    } else if about(&["qos"]) {
        "[site] qos must be one that your account may use: sacctmgr show associations user=$USER format=account,qos"
    } else if about(&["time limit", "timelimit"]) {
        "[site] time must be within the limits of partition and qos: a longer run becomes a chain of jobs by itself"
    } else if about(&["node count", "node configuration", "nodes"]) {
        "[site] nodes and [parallel] ask for more than the partition has: sinfo --format='%P %D %c %G' shows it"
    } else {
        "sirocco site check shows what Slurm has; sirocco submit --dry-run shows the script"
    }
}

fn silent() -> Failure {
    let seconds = PATIENCE.as_secs();
    let message = format!("the controller of Slurm has not answered for {seconds} s");
    Failure::new(Kind::Machine, message)
        .help("scontrol ping shows whether it is up; sirocco status shows what was submitted; then the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_squeue_says_of_a_job_is_read() {
        let job = |line| read_job(line).map(|job| (job.state, job.left.map(|left| left.as_secs()), job.nodes));
        assert_eq!(job("RUNNING|9:42|n[1-2]"), Some(("RUNNING".to_owned(), Some(582), "n[1-2]".to_owned())));
        assert_eq!(job("PENDING|1-00:00:10|"), Some(("PENDING".to_owned(), Some(86_410), String::new())));
        assert_eq!(job("RUNNING|UNLIMITED|n1").unwrap().1, None);
        assert_eq!(job("slurm_load_jobs error"), None);
        let mine = |line| read_mine(line).map(|job| (job.id, job.name, job.runs));
        assert_eq!(mine("17_3|PENDING|a|b.4c3d2f"), Some(("17_3".to_owned(), "a|b.4c3d2f".to_owned(), false)));
        assert_eq!(mine("17|RUNNING|tiny.4c3d2f").map(|job| job.2), Some(true));
        assert_eq!((mine("slurm_load_jobs error: no"), mine("x|RUNNING|y")), (None, None));
        for nonsense in ["INVALID", "", "1:2:3:4", "-1:00", "x-1:00"] {
            assert_eq!(time_left(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn steps_are_told_from_the_script() {
        assert!(is_step("17.0") && is_step("17_3.12"));
        assert!(!is_step("17.batch") && !is_step("17.extern") && !is_step("17") && !is_step("17."));
    }

    #[test]
    fn the_number_of_a_job_stands_between_warnings() {
        assert_eq!(number("sbatch: warning: no time\n17\n").as_deref(), Some("17"));
        assert_eq!(number("18;cluster\n").as_deref(), Some("18"));
        assert_eq!(number("sbatch: nothing\n"), None);
    }

    #[test]
    fn a_refusal_says_which_setting_to_change() {
        let help = |why| refused(why).help.unwrap();
        assert!(help("sbatch: error: invalid partition specified: gpux").starts_with("[site] partition"));
        assert!(help("Invalid account or account/partition combination specified").starts_with("[site] account"));
        assert!(help("Requested node configuration is not available").starts_with("[site] nodes"));
        assert!(help("Requested time limit is invalid").starts_with("[site] time"));
        assert!(is_unreachable("slurm_load_jobs error: Unable to contact slurm controller (connect failure)"));
    }
}

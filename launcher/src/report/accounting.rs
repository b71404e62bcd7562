//! What Slurm's accounting says of the jobs of a run: seconds, nodes, GPUs and energy. A cluster may keep no accounts, and may count no energy;
//! then a report says that it is not measured.
use crate::programs::is_on_path;
use crate::report::chain::Stint;
use crate::site::ask::{Answer, ask};

/// The fields that are asked for, in this order.
const FORMAT: &str = "--format=JobID,Start,ElapsedRaw,AllocNodes,AllocTRES,ConsumedEnergyRaw";
/// A job of that number which began this much earlier or later is another one: of another cluster, or of one that was set up anew.
const CLOSE: f64 = 300.0;
/// From here on a counter is none: Slurm writes a number just below 2⁶⁴ for one that it does not have (`NO_VAL64`), and so does one that has run
/// backwards.
const NO_VALUE: u64 = 1 << 63;

/// The sums over a run's jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Account {
    pub(crate) node_seconds: f64,
    /// None where no job says that it had any.
    pub(crate) gpu_seconds: Option<f64>,
    /// Joules of all jobs; none where one of them does not say.
    pub(crate) joules: Option<u64>,
    /// Jobs, each time that Slurm started them.
    pub(crate) jobs: usize,
}

/// The account of `stints`, or why there is none.
pub(crate) fn of(stints: &[Stint]) -> Result<Account, String> {
    let mut jobs: Vec<&str> =
        stints.iter().filter(|stint| stint.began.is_some()).filter_map(|stint| stint.job.as_deref()).collect();
    jobs.dedup();
    if jobs.is_empty() {
        return Err("no job of Slurm has run".to_owned());
    }
    if !is_on_path("sacct") {
        return Err("sacct is not on PATH here".to_owned());
    }
    let listed = format!("--jobs={}", jobs.join(","));
    // Moments as numbers: Slurm takes their form from its environment.
    let words = ["SLURM_TIME_FORMAT=%s", "sacct", "--duplicates", "--noheader", "--parsable2", FORMAT, &listed];
    match ask("env", &words) {
        Answer::Said(text) => read(&text, stints),
        Answer::Failed(why) => Err(format!("sacct: {why}")),
        Answer::TooLate => Err("sacct did not answer in time".to_owned()),
        Answer::NotThere => Err("sacct cannot be started here".to_owned()),
    }
}

/// A job or one of its steps.
struct Line<'a> {
    job: &'a str,
    is_step: bool,
    /// A step with a number, not `batch` or `extern`.
    is_of_srun: bool,
    start: f64,
    seconds: f64,
    nodes: f64,
    gpus: f64,
    joules: u64,
}

fn read(text: &str, stints: &[Stint]) -> Result<Account, String> {
    let lines: Vec<Line> = text.lines().filter_map(line).collect();
    let mut account = Account { joules: Some(0), ..Account::default() };
    for stint in stints {
        let (Some(job), Some(began)) = (&stint.job, stint.began) else { continue };
        let close = |line: &&Line| line.job == job && !line.is_step && (line.start - began).abs() < CLOSE;
        let Some(found) = lines.iter().find(close) else {
            return Err(format!("sacct knows no job {job} that began then"));
        };
        account.jobs += 1;
        account.node_seconds += found.nodes * found.seconds;
        if found.gpus > 0.0 {
            account.gpu_seconds = Some(account.gpu_seconds.unwrap_or(0.0) + found.gpus * found.seconds);
        }
        let end = found.start + found.seconds;
        let steps = lines.iter().filter(|line| line.job == job && line.is_step && line.start >= found.start && line.start <= end);
        // Energy is that of whole nodes while a step runs; Slurm sums up the steps of srun for the job. The step of the script runs beside them: its
        // node would count twice.
        let joules = if found.joules > 0 {
            found.joules
        } else {
            steps.filter(|step| step.is_of_srun).fold(0, |sum, step| step.joules.saturating_add(sum))
        };
        account.joules = account.joules.filter(|_| joules > 0).and_then(|sum| sum.checked_add(joules));
    }
    Ok(account)
}

fn line(text: &str) -> Option<Line<'_>> {
    let fields: Vec<&str> = text.split('|').collect();
    let [id, start, seconds, nodes, resources, joules] = fields.as_slice() else { return None };
    let (job, step) = id.split_once('.').map_or((*id, None), |(job, step)| (job, Some(step)));
    let gpus = resources.split(',').find_map(|resource| resource.strip_prefix("gres/gpu="));
    Some(Line {
        job,
        is_step: step.is_some(),
        is_of_srun: step.is_some_and(|step| step.starts_with(|first: char| first.is_ascii_digit())),
        start: start.parse().ok()?,
        seconds: seconds.parse().ok()?,
        nodes: nodes.parse().ok()?,
        gpus: gpus.and_then(|gpus| gpus.parse().ok()).unwrap_or(0.0),
        joules: joules.parse().ok().filter(|joules| *joules < NO_VALUE).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stint(job: &str, began: f64) -> Stint {
        Stint { job: Some(job.to_owned()), began: Some(began), ..Stint::default() }
    }

    const SAID: &str = "\
7|1000|3600|2|billing=8,cpu=8,gres/gpu=8,node=2|0
7.batch|1000|3600|1|cpu=4|9000
7.0|1001|3000|2|cpu=8|7000
7.1|4100|400|2|cpu=8|500
7|5000|1800|2|billing=8,cpu=8,gres/gpu=8,node=2|4000
8|9000|60|2|cpu=8,gres/gpu=8|100
";

    #[test]
    fn jobs_are_summed_and_steps_count_energy_once() {
        let account = read(SAID, &[stint("7", 1002.0), stint("7", 5001.0)]).unwrap();
        assert_eq!((account.node_seconds, account.gpu_seconds), (10800.0, Some(43200.0)));
        assert_eq!((account.joules, account.jobs), (Some(11500), 2));
    }

    #[test]
    fn energy_that_one_job_lacks_is_not_measured() {
        let lacking = SAID.replace("|4000", "|").replace("|100\n", "|18446744073709551614\n");
        assert_eq!(read(&lacking, &[stint("7", 1002.0), stint("7", 5001.0)]).unwrap().joules, None);
        assert_eq!(read(&lacking, &[stint("8", 9000.0)]).unwrap().joules, None);
        assert_eq!(read("8|9000|60|2|cpu=8|0", &[stint("8", 9000.0)]).unwrap().gpu_seconds, None);
    }

    #[test]
    fn a_job_of_another_cluster_is_not_ours() {
        let why = read(SAID, &[stint("7", 90_000.0)]).unwrap_err();
        assert_eq!(why, "sacct knows no job 7 that began then");
        assert!(of(&[Stint::default()]).is_err());
    }
}

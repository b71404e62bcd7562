//! The batch script of a job: `slurm/job.sh` with the words of a run and of a site. What it says can be read, and submitted by hand.
use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior, context};
use sirocco_config::{Run, shell_word};
use sirocco_site::Site;

use super::needs::gpus_per_node;
use crate::failure::{Failure, Kind};

const TEMPLATE: &str = include_str!("../../../slurm/job.sh");

/// Slurm sends SIGUSR1 this long before the end of a job, if it is long enough; up to a minute earlier, says its manual. Ranks know the end
/// themselves and leave in time: this is for the day on which they do not.
const SIGNAL_SECONDS: u64 = 60;

/// Jobs shorter than this would get that signal too early.
const LONG_JOB_SECONDS: u64 = 1200;

/// What a script is made of.
pub(crate) struct Script<'a> {
    run: &'a Run,
    site: &'a Site,
    /// Where the run is, absolute.
    directory: &'a Path,
    /// The path of this program.
    sirocco: PathBuf,
    /// How many runs there are below `directory`, each the work of one job of an array; without it, the run is `directory` itself.
    sweep: Option<usize>,
}

impl<'a> Script<'a> {
    /// That starts this program again, for a run in `directory`, or for so many runs of a `sweep` below it.
    pub(crate) fn new(run: &'a Run, site: &'a Site, directory: &'a Path, sweep: Option<usize>) -> Result<Self, Failure> {
        let own = |error| Failure::new(Kind::Machine, format_args!("cannot find the path of this program: {error}"));
        Ok(Script { run, site, directory, sirocco: std::env::current_exe().map_err(own)?, sweep })
    }

    /// The text.
    pub(crate) fn render(&self) -> Result<String, Failure> {
        [self.directory, &self.sirocco].into_iter().try_for_each(expect_plain)?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let word = |path: &Path| shell_word(&path.display().to_string());
        let network = self.site.network.as_ref().map(|known| &known.facts.environment);
        let exports: Vec<(String, String)> =
            network.into_iter().flatten().map(|(name, value)| (name.clone(), shell_word(value))).collect();
        let modules: Vec<String> =
            self.site.modules.iter().flat_map(|known| &known.facts.load).map(|module| shell_word(module)).collect();
        let context = context! {
            what => if self.sweep.is_some() { "a sweep" } else { "a run" },
            directory => word(self.directory),
            // In the words of a shell: the directory of the run that is this job's.
            run => match self.sweep {
                Some(_) => format!("{}/$(printf %04d \"$SLURM_ARRAY_TASK_ID\")", word(self.directory)),
                None => word(self.directory),
            },
            script => word(&self.path()),
            options => self.options(),
            modules, exports,
            starter => self.site.mpi.as_ref().map_or("srun", |known| known.facts.start.command()),
            sirocco => word(&self.sirocco),
        };
        let failed =
            |error: minijinja::Error| Failure::new(Kind::Failed, format_args!("the job script cannot be written: {error}"));
        environment.render_str(TEMPLATE, context).map(|text| text.trim_end().to_owned() + "\n").map_err(failed)
    }

    /// Where the script belongs.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(if self.sweep.is_some() { "sweep.sh" } else { "job.sh" })
    }

    /// sbatch's options, as the script has them, in the order in which people look for them.
    pub(crate) fn options(&self) -> Vec<String> {
        let asked = &self.run.site;
        let (nodes, per_node) = (asked.nodes + asked.spare_nodes, self.run.ranks() / asked.nodes);
        let partition = asked.partition.as_deref().or(self.site.default_partition.as_deref());
        let submit = self.site.submit.as_ref().map(|known| &known.facts);
        let named = [("account", asked.account.as_deref()), ("partition", partition), ("qos", asked.qos.as_deref())];
        let mut options = vec![format!("--job-name={}", job_name(&self.run.name, self.directory))];
        options.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
        options.extend([format!("--nodes={nodes}"), format!("--ntasks-per-node={per_node}")]);
        let cores = partition.and_then(|name| self.site.partition(name)).and_then(|partition| partition.cores);
        options.extend(cores.map(|cores| format!("--cpus-per-task={}", (cores / per_node).max(1))));
        // 0 where the run computes on the hosts.
        let gpus = gpus_per_node(self.run);
        if gpus > 0 {
            let request = submit.and_then(|submit| submit.gpu_request.as_deref()).unwrap_or("--gpus-per-node={gpus}");
            options.push(request.replace("{gpus}", &gpus.to_string()));
        }
        options.extend(asked.time.map(|time| format!("--time={time}")));
        options.extend(submit.iter().flat_map(|submit| submit.options.iter().cloned()));
        if asked.time.is_some_and(|time| time.seconds() >= LONG_JOB_SECONDS) {
            options.push(format!("--signal=USR1@{SIGNAL_SECONDS}"));
        }
        options.extend(["--requeue".to_owned(), "--open-mode=append".to_owned()]);
        options.extend(self.sweep.map(|runs| format!("--array=0-{}", runs.saturating_sub(1))));
        // Slurm takes what follows a % for its own; %4a is the number of a run in its sweep, with four digits.
        let output = if self.sweep.is_some() { "%4a/logs/job-%A_%a.out" } else { "logs/job-%j.out" };
        let output = format!("{}/{output}", self.directory.display().to_string().replace('%', "%%"));
        options.push(format!("--output={}", shell_word(&output)));
        options
    }
}

/// Refuses a path that has no form in a job script.
fn expect_plain(path: &Path) -> Result<(), Failure> {
    let is_plain = |text: &str| !text.contains(|letter: char| letter.is_control() || letter == '\\');
    if path.to_str().is_some_and(is_plain) {
        return Ok(());
    }
    let message =
        format!("{}: a job script cannot name this: expected UTF-8 text without control characters and `\\`", path.display());
    Err(Failure::usage(message).help("--dir names another directory"))
}

/// The name of every job of a run: that of the run, and something that runs of the same name in other directories do not share.
pub(crate) fn job_name(run: &str, directory: &Path) -> String {
    // FNV-1a: short, and the same on every machine and in every version.
    let hash = directory
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{run}.{:06x}", hash & 0x00ff_ffff)
}

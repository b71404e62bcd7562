//! A real Slurm cluster of four nodes for one test: jobs are submitted to it, and nodes lose their power.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{Finished, LIMIT, Running, own_keys, wait_for};
use crate::repository::root;

/// How long Slurm may take for what it does by itself: to schedule a job, to miss a node, to see that it is back.
pub const SOON: Duration = Duration::from_secs(45);

/// What a cluster is made of; `make test` installs it where it may.
const NEEDED: [&str; 7] = ["slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter"];

/// What one that keeps accounts needs beside that.
const NEEDED_FOR_ACCOUNTS: [&str; 4] = ["slurmdbd", "sacctmgr", "sacct", "mariadbd"];

/// A cluster that ends with this value, and with the test if that is killed.
pub struct Cluster {
    directory: TempDir,
    /// Its end is the end of the cluster.
    _until_eof: ChildStdin,
}

impl Cluster {
    /// Starts one of four nodes, `n1` to `n4`, each with two CPUs and four GPUs that exist by name only; `None` where [`is_possible`] says
    /// no, for the test to end.
    ///
    /// # Panics
    /// When it does not start, or cannot where it must.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with accounts that are kept and limits that hold, as tests/slurm/accounting.sh sets them.
    ///
    /// # Panics
    /// When it does not start, or cannot where it must.
    #[track_caller]
    pub fn with_accounts() -> Option<Self> {
        can_start(&NEEDED_FOR_ACCOUNTS).then(|| Self::up(&[("ACCOUNTING", "1")]))
    }

    /// One whose settings in the environment of tests/slurm/cluster.sh are these.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        is_possible().then(|| Self::up(settings))
    }

    #[track_caller]
    fn up(environment: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut command = script(directory.path());
        command.envs(environment.iter().copied());
        command.args(["up", "--until-eof"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("tests/slurm/cluster.sh");
        let until_eof = child.stdin.take().expect("a pipe");
        let output = child.wait_with_output().expect("the end of tests/slurm/cluster.sh");
        assert!(output.status.success(), "no cluster:\n{}", String::from_utf8_lossy(&output.stderr));
        Self { directory, _until_eof: until_eof }
    }

    /// A file of the cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `NAME ARGS…` where Slurm's commands reach the controller, in a directory.
    pub fn command(&self, name: &str, arguments: &[&str], directory: &Path) -> Command {
        let mut command = script(self.directory.path());
        command.args(["run", name]).args(arguments).current_dir(directory);
        command.env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
        own_keys(&mut command, directory);
        command
    }

    /// The standard output of a command of Slurm.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn say(&self, name: &str, arguments: &[&str]) -> String {
        Running::start(&mut self.command(name, arguments, self.directory.path())).wait(LIMIT).expect_code(0).stdout
    }

    /// Submits a job script that runs in `directory`. Both its outputs go into one file, which grows when the job is requeued.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn submit(&self, script: &str, directory: &Path) -> Job<'_> {
        let file = self.directory.path().join("job.sh");
        fs::write(&file, script).expect("a job script");
        let output = self.directory.path().join("job-%j.out");
        let arguments = ["--parsable", "--open-mode=append", "--output", &output.to_string_lossy(), &file.to_string_lossy()];
        let finished = Running::start(&mut self.command("sbatch", &arguments, directory)).wait(LIMIT).expect_code(0);
        let id = finished.stdout.trim().to_owned();
        Job { cluster: self, output: self.directory.path().join(format!("job-{id}.out")), id }
    }

    /// Cuts the power of a node. Nobody is told.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn fail(&self, node: &str) {
        self.switch("fail", node).expect_code(0);
    }

    /// Gives a node its power again, without what was on its disk, and waits until Slurm has work for it.
    ///
    /// # Panics
    /// When it has power, or Slurm does not take it back.
    #[track_caller]
    pub fn recover(&self, node: &str) {
        self.switch("recover", node).expect_code(0);
        self.wait_for_node(node, "idle", SOON);
    }

    /// Prints what Slurm knows and did, for a test that fails.
    fn tell(&self) {
        for (name, arguments) in [("scontrol", &["show", "job"][..]), ("sinfo", &["--long", "--Node"])] {
            let said = self.command(name, arguments, self.directory.path()).output();
            let _ = writeln!(std::io::stderr(), "{}", said.map_or_else(|error| error.to_string(), |said| text(&said.stdout)));
        }
        for log in ["slurmctld.log", "slurmd.n1.log", "slurmd.n2.log"] {
            let written = fs::read(self.directory.path().join("log").join(log)).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "--- {log}\n{}", text(&written));
        }
    }

    fn switch(&self, action: &str, node: &str) -> Finished {
        Running::start(script(self.directory.path()).args([action, node])).wait(LIMIT)
    }

    /// A node's state in the long form of sinfo: `idle`, `mixed`, `allocated`, `down`; with `*` while it does not respond.
    pub fn node_state(&self, node: &str) -> String {
        self.say("sinfo", &["--noheader", "--Node", "--nodes", node, "--format", "%T"]).trim().to_owned()
    }

    /// Waits until a node is in a state, whether it responds or not.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    #[track_caller]
    pub fn wait_for_node(&self, node: &str, state: &str, limit: Duration) {
        let mut found = String::new();
        wait_for(&format!("{node} that is {state}"), limit, || {
            found = self.node_state(node);
            (found.trim_end_matches('*') == state).then_some(())
        });
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        // Closing the pipe would do; but files would still be written when the directory goes.
        let ended = script(self.directory.path()).arg("down").stdin(Stdio::null()).status();
        if !ended.is_ok_and(|status| status.success()) {
            let _ = writeln!(std::io::stderr(), "the cluster in {} does not end", self.directory.path().display());
        }
    }
}

/// A job of a cluster.
pub struct Job<'a> {
    cluster: &'a Cluster,
    output: PathBuf,
    /// Its number.
    pub id: String,
}

impl Job<'_> {
    /// A field of `scontrol show job`, such as `JobState`, `ExitCode`, `Restarts`, `NodeList`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn field(&self, name: &str) -> String {
        let shown = self.cluster.say("scontrol", &["--oneliner", "show", "job", &self.id]);
        let value = shown.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
    }

    /// What the job has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until the job is in a state.
    ///
    /// # Panics
    /// When that takes longer than `limit`, or the job ends in another; with what it has written.
    #[track_caller]
    pub fn wait_until(&self, state: &str, limit: Duration) {
        let started = std::time::Instant::now();
        loop {
            let found = self.field("JobState");
            if found == state {
                return;
            }
            let is_over = !["PENDING", "CONFIGURING", "RUNNING", "COMPLETING"].contains(&found.as_str());
            let waited = started.elapsed();
            assert!(!is_over && waited < limit, "job {} is {found} after {waited:.0?}, not {state}:\n{}", self.id, self.output());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// `tests/slurm/cluster.sh DIRECTORY`, whose action comes next.
pub fn script(directory: &Path) -> Command {
    let mut command = Command::new(root().join("tests/slurm/cluster.sh"));
    command.arg(directory);
    // A job that the tests themselves may run in, and settings of cluster.sh.
    let is_foreign = |name: &str| {
        ["SLURM_", "SBATCH_"].iter().any(|of| name.starts_with(of))
            || ["NODES", "CPUS", "GPUS", "PATIENCE", "KILL_WAIT", "ACCOUNTING"].contains(&name)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_foreign(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Whether a cluster can be started here. Where it cannot, a line that shows says so and why.
///
/// # Panics
/// When it cannot although continuous integration runs as root, who is to have what it takes.
#[track_caller]
pub fn is_possible() -> bool {
    can_start(&[])
}

/// The same where a cluster needs more programs.
#[track_caller]
fn can_start(more: &[&str]) -> bool {
    let Some(why) = why_not(more) else { return true };
    assert!(!is_root() || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no Slurm cluster for the tests: {why}");
    // Not by a macro, whose output is shown of failed tests only.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, a test on a real Slurm cluster: {why} ***");
    false
}

/// Why no cluster can be started here.
fn why_not(more: &[&str]) -> Option<String> {
    if !is_root() {
        return Some("only root can give nodes networks of their own".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&paths).any(|directory| directory.join(name).is_file());
    let missing: Vec<_> = NEEDED.iter().chain(more).copied().filter(|name| !is_there(name)).collect();
    let packages = "scripts/setup.sh installs slurm-wlm, munge, iproute2, slurmdbd and mariadb-server-core for make test";
    (!missing.is_empty()).then(|| format!("no {}: {packages}", missing.join(", ")))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

//! Runs the programs that were built beside the test, each with a time limit, so that a hang is a failure and not a wait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a program may take unless a test says otherwise.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where programs that a test starts find the account's keys, in the directory that they run in.
pub const CONFIG_HOME: &str = ".config-of-the-test";

/// Where they find the account's ledger.
const STATE_HOME: &str = ".state-of-the-test";

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code, or `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything it wrote on standard output.
    pub stdout: String,
    /// Everything it wrote on standard error.
    pub stderr: String,
}

impl Finished {
    /// The same, after asserting the exit code; the failure shows what the program said.
    ///
    /// # Panics
    /// When the exit code is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error holds each of `words`.
    ///
    /// # Panics
    /// When one is not there.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks {word:?}:\n{}", self.stderr);
        }
        self
    }
}

/// The path of a program of this workspace: beside the running test, where one `cargo build --release --workspace` puts all.
///
/// # Panics
/// When it was not built.
pub fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let release = test.ancestors().nth(2).expect("target/release/deps/TEST");
    let program = release.join(name);
    assert!(
        program.is_file(),
        "{} is not there: `make test` builds the programs first (cargo build --release --workspace)",
        program.display()
    );
    program
}

/// A program that runs, in a process group of its own that ends with this value.
pub struct Running {
    child: Child,
    output: TempDir,
    started: Instant,
}

impl Running {
    /// Starts a command with both outputs kept in files, which no amount of output can block.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        let output = TempDir::new().expect("a temporary directory");
        let file = |name: &str| File::create(output.path().join(name)).expect("a file for the output");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, output, started: Instant::now() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far on standard output.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written so far on standard error.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than `limit` from its start.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Finished {
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of a child") {
                return Finished { code: status.code(), stdout: self.stdout(), stderr: self.stderr() };
            }
            assert!(
                self.started.elapsed() < limit,
                "still running after {limit:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // mpirun has a process group of its own, and its ranks too: found before their parent is gone.
        let below = descendants(self.child.id());
        signal("KILL", &format!("-{}", self.child.id()));
        below.iter().for_each(|id| signal("KILL", &id.to_string()));
        let _ = self.child.wait();
    }
}

/// The processes that a process has started, and those that they have.
fn descendants(id: u32) -> Vec<u32> {
    // proc(5): "pid (name) state ppid …"; the name may hold spaces and parentheses.
    let parent = |id: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(u32, u32)> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![id];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    found.split_off(1)
}

/// Sends a signal to one process id, or to a process group written as `-ID`. A process that is gone already is no error.
pub fn signal(name: &str, id: &str) {
    // The shell's own kill: a bare machine may have no /bin/kill.
    let _ = Command::new("sh").args(["-c", "kill -s \"$0\" -- \"$1\" 2>/dev/null", name, id]).status();
}

/// Runs `NAME ARGS…` in a directory.
///
/// # Panics
/// When it takes longer than [`LIMIT`].
#[track_caller]
pub fn run(name: &str, args: &[&str], directory: &Path) -> Finished {
    Running::start(&mut command(name, args, directory)).wait(LIMIT)
}

/// The command `NAME ARGS…` in a directory, quiet about backtraces, to be started or changed first.
pub fn command(name: &str, args: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(path(name));
    command.args(args).current_dir(directory).env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
    own_keys(&mut command, directory);
    command
}

/// Lets a command that runs in `directory` find the keys and the ledger that others there have made: nobody's home is touched.
pub fn own_keys(command: &mut Command, directory: &Path) {
    command.env("XDG_CONFIG_HOME", directory.join(CONFIG_HOME)).env("XDG_STATE_HOME", directory.join(STATE_HOME));
}

/// Waits until `ready` gives a value.
///
/// # Panics
/// When that takes longer than `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(started.elapsed() < limit, "no {what} after {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

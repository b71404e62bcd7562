//! A bench for the launcher: a copy of the program with a trainer of shell beside it, and commands with their outcome as text.
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory with `bin/sirocco` and room for everything else.
pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let program = dir.path().join("bin/sirocco");
        if fs::hard_link(env!("CARGO_BIN_EXE_sirocco"), &program).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_sirocco"), &program).unwrap();
        }
        Bench { dir }
    }

    /// A bench whose trainer is `script`. `$job` is what it was asked for (`run`, `doctor`, …), `$dir` the run directory,
    /// `$rank` the rank, `$until` the step to stop after; `step N LOSS` writes a line of metrics on rank 0, `valid N LOSS`
    /// one of an evaluation, and `checkpoint N` a checkpoint.
    pub(crate) fn with_trainer(script: &str) -> Bench {
        let bench = Bench::new();
        let text = format!("{}\n{script}\n", include_str!("trainer.sh"));
        bench.write_program("sirocco-train", &text);
        bench
    }

    pub(crate) fn write_program(&self, name: &str, text: &str) {
        let path = self.path(&format!("bin/{name}"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command, not yet started, in the bench's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        // Tests under nohup ignore SIGHUP, and what they start would, too.
        let mut command = Command::new("/usr/bin/env");
        command
            .arg("--default-signal=HUP,INT")
            .arg(self.path("bin/sirocco"))
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            // The keys and the ledger of whoever runs the tests stay as they are.
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("COLUMNS", "100");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        Finished::new(&self.command(arguments).output().unwrap(), self.dir.path())
    }
}

/// Exit code and both outputs, with the bench's directory called `BENCH`.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    pub(crate) fn new(output: &Output, dir: &Path) -> Finished {
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "BENCH");
        Finished { code: output.status.code(), out: plain(&output.stdout), err: plain(&output.stderr) }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.out.trim()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// For snapshots.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("exit code {}\n", self.code.unwrap_or(-1));
        for (name, part) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !part.is_empty() {
                let _ = write!(text, "--- {name}\n{part}");
            }
        }
        text
    }
}

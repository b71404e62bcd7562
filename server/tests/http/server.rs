//! Starts the program, talks to it, reads a stream frame by frame.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sirocco_tests::http::{Answer, request};
use sirocco_tests::material::tiny_model;
use sirocco_tests::program::{Finished, Running, signal, wait_for};
use tempfile::TempDir;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running server with the tiny model under the name `tiny`.
pub(crate) struct Server {
    running: Running,
    pub(crate) port: u16,
    dir: TempDir,
}

/// The program with `args` in `dir`.
pub(crate) fn serve(dir: &Path, args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sirocco-serve"));
    // Not above what it is served from: what is temporary may always be written.
    std::fs::create_dir_all(dir.join("temporary")).unwrap();
    command.env("TMPDIR", dir.join("temporary"));
    command.args(args).current_dir(dir).env("OMP_NUM_THREADS", "1").env_remove("RUST_BACKTRACE");
    // Keys and ledger of whoever runs the tests are left alone.
    Running::start(command.env("XDG_CONFIG_HOME", dir.join("config")).env("XDG_STATE_HOME", dir.join("state")))
}

impl Server {
    /// Serves the tiny model in fp32 on a free port; `prepare` may add to its directory before.
    pub(crate) fn start(args: &[&str], prepare: impl FnOnce(&Path)) -> Server {
        let dir = TempDir::new().unwrap();
        tiny_model(&dir.path().join("tiny"));
        prepare(dir.path());
        let fixed = ["tiny", "--dtype", "fp32", "--listen", "127.0.0.1:0", "--threads", "1"];
        let running = serve(dir.path(), &[&fixed, args].concat());
        let port = wait_for("listening line", LIMIT, || {
            let line = running.stdout();
            line.strip_prefix("listening on http://127.0.0.1:")?.strip_suffix('\n')?.parse().ok()
        });
        Server { running, port, dir }
    }

    /// Sends `body` and expects `status`.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        let answer = self.raw("POST", path, &body.to_string());
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        answer.json()
    }

    /// A request as it is.
    #[track_caller]
    pub(crate) fn raw(&self, method: &str, path: &str, body: &str) -> Answer {
        request(self.port, method, path, Some(body)).expect("an answer")
    }

    /// The greedy continuation of a prompt.
    #[track_caller]
    pub(crate) fn greedy(&self, model: &str, prompt: &str, max_tokens: usize) -> String {
        let body = json!({"model": model, "prompt": prompt, "temperature": 0, "max_tokens": max_tokens});
        self.post("/v1/completions", &body, 200)["choices"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Begins a streamed answer.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Frames {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let body = body.to_string();
        let head = "host: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
        write!(socket, "POST {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        Frames { lines: BufReader::new(socket) }
    }

    /// Its process.
    pub(crate) fn id(&self) -> String {
        self.running.id().to_string()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, &self.running.id().to_string());
    }

    /// Puts something in the way of the ledger: a directory where its signed checkpoint is.
    pub(crate) fn block_ledger(&self) {
        let checkpoint = self.dir.path().join("state/sirocco/ledger/checkpoint");
        std::fs::remove_file(&checkpoint).unwrap();
        std::fs::create_dir_all(checkpoint.join("in the way")).unwrap();
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        self.running.stderr()
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn wait(self) -> Finished {
        self.running.wait(LIMIT)
    }

    /// The same, and leaves its directory.
    #[track_caller]
    pub(crate) fn wait_and_keep(self) -> (Finished, TempDir) {
        (self.running.wait(LIMIT), self.dir)
    }
}

/// The events of a streamed answer as they come.
pub(crate) struct Frames {
    lines: BufReader<TcpStream>,
}

impl Iterator for Frames {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }
}

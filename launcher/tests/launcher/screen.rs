//! `sirocco watch` on a real pseudo-terminal, which `script` of util-linux makes.
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use sirocco_tests::program::signal;

use crate::bench::Bench;
use crate::live::{RUN, append, event, far_away, step};
use crate::training::wait_for;

/// A terminal in which a shell runs `sirocco watch` and then says how it left.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    record: PathBuf,
    process: PathBuf,
    size: (usize, usize),
}

impl Terminal {
    fn start(bench: &Bench, (columns, rows): (usize, usize), environment: &[(&str, &str)], options: &str) -> Terminal {
        let (record, process) = (bench.path("record"), bench.path("process"));
        let program = bench.path("bin/sirocco");
        let words = format!(
            "stty rows {rows} cols {columns}; sh -c 'echo $$ >{}; exec {} watch {RUN} {options}'; echo \"left with $?\"; stty -a",
            process.display(),
            program.display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--command", &words]).arg(&record).current_dir(bench.path(""));
        command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let keys = child.stdin.take().unwrap();
        Terminal { child, keys, record, process, size: (columns, rows) }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.record).unwrap_or_default()).into_owned()
    }

    /// What is on the screen: letters at the places to which the cursor was moved.
    fn screen(&self) -> String {
        let (columns, rows) = self.size;
        let mut cells = vec![vec![' '; columns]; rows];
        let (mut row, mut column) = (0, 0);
        let written = self.written();
        let mut rest = written.rsplit_once("\u{1b}[?1049h").map_or("", |(_, after)| after).chars();
        while let Some(letter) = rest.next() {
            if letter != '\u{1b}' {
                if let Some(cell) = cells.get_mut(row).and_then(|cells| cells.get_mut(column)) {
                    *cell = letter;
                }
                column += 1;
                continue;
            }
            let sequence: String = rest.by_ref().skip_while(|letter| *letter == '[').take_while_inclusive();
            if let Some(place) = sequence.strip_suffix('H') {
                let (to_row, to_column) = place.split_once(';').unwrap_or(("1", "1"));
                (row, column) = (to_row.parse::<usize>().unwrap_or(1) - 1, to_column.parse::<usize>().unwrap_or(1) - 1);
            }
        }
        cells.iter().map(|cells| cells.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn wait_for(&self, text: &str) {
        wait_for(text, || self.screen().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn signal(&self, name: &str) {
        signal(name, fs::read_to_string(&self.process).unwrap().trim());
    }

    /// Waits for the end, and expects a terminal as it was before.
    fn left(mut self) -> String {
        let start = Instant::now();
        wait_for("the end", || self.child.try_wait().unwrap().is_some());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let written = self.written();
        let (_, after) = written.rsplit_once("\u{1b}[?1049l").unwrap_or_else(|| panic!("the screen was not left: {written:?}"));
        assert!(written.contains("\u{1b}[?25h"), "the cursor was not shown again");
        // Lines are edited and letters echoed, as by a shell.
        assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
        after.to_owned()
    }
}

/// An escape sequence ends with its first letter, which belongs to it.
trait TakeWhileInclusive: Iterator<Item = char> + Sized {
    fn take_while_inclusive(self) -> String {
        let mut sequence = String::new();
        for letter in self {
            sequence.push(letter);
            if letter.is_ascii_alphabetic() {
                break;
            }
        }
        sequence
    }
}

impl<T: Iterator<Item = char>> TakeWhileInclusive for T {}

/// A run of two ranks on a cluster, at step 2.
fn at_work() -> Bench {
    let bench = far_away();
    bench.write("runs/far/jobs.jsonl", &event("7", r#""event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":2,"from_step":0"#));
    bench.write("runs/far/metrics.jsonl", &(step(1, 4.5, "") + &step(2, 4.25, r#","skipped":true"#) + "{\"step\":3,\"lo"));
    bench
}

#[test]
fn a_terminal_that_is_gone_ends_the_watch() {
    let bench = at_work();
    let mut terminal = Terminal::start(&bench, (80, 24), &[], "");
    terminal.wait_for("far  running  step 2 of 60");
    let process = fs::read_to_string(&terminal.process).unwrap();
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    wait_for("the end of the watch", || !PathBuf::from(format!("/proc/{}", process.trim())).exists());
}

#[test]
fn a_run_is_drawn_as_it_goes_on_and_left_with_a_key() {
    let bench = at_work();
    let mut terminal = Terminal::start(&bench, (80, 24), &[], "");
    terminal.wait_for("far  running  step 2 of 60");
    for text in [
        "loss            4.2500",
        "next checkpoint 36 s (step 20)",
        "peak memory     1.50 GB on rank 1",
        "7  running    0-2",
        "step 2 was skipped",
    ] {
        terminal.wait_for(text);
    }
    append(&bench.path("runs/far/metrics.jsonl"), "ss\":broken}\n");
    append(&bench.path("runs/far/metrics.jsonl"), &step(4, 3.5, ""));
    terminal.wait_for("step 4 of 60");
    terminal.press("?");
    terminal.wait_for("quit; the run goes on");
    terminal.press("?\t");
    terminal.wait_for("[curve]");
    assert!(terminal.written().contains("\u{1b}[38;5;"), "no colour");
    fs::rename(bench.path("runs/far"), bench.path("runs/elsewhere")).unwrap();
    terminal.wait_for("not there");
    fs::rename(bench.path("runs/elsewhere"), bench.path("runs/far")).unwrap();
    terminal.wait_for("far  running  step 4 of 60");
    terminal.press("q");
    assert!(terminal.left().contains("left with 0"));
}

#[test]
fn signals_and_ctrl_c_give_the_terminal_back() {
    for leave in ["TERM", "HUP", "\u{3}"] {
        let bench = at_work();
        let mut terminal = Terminal::start(&bench, (40, 10), &[("NO_COLOR", "1")], "");
        terminal.wait_for("loss            4.2500");
        let written = terminal.written();
        let coloured = written.split('\u{1b}').any(|part| part.starts_with("[38;5") || part.starts_with("[1m"));
        assert!(!coloured, "{written:?}");
        if leave == "\u{3}" {
            terminal.press(leave);
        } else {
            terminal.signal(leave);
        }
        assert!(terminal.left().contains("left with 0"), "{leave:?}");
    }
}

#[test]
fn the_end_of_the_run_ends_the_view_where_that_is_asked_for() {
    let bench = at_work();
    let terminal = Terminal::start(&bench, (80, 24), &[], "--until-end");
    terminal.wait_for("step 2 of 60");
    let failed = r#""event":"ended","attempt":1,"outcome":"failed","step":0,"why":"n2 is gone","unfit":[],"next":"nothing""#;
    append(&bench.path("runs/far/jobs.jsonl"), &event("7", failed));
    let after = terminal.left();
    assert!(after.contains("failed: runs/far, step 2 of 60, loss 4.2500") && after.contains("left with 0"), "{after}");
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_lines() {
    let bench = at_work();
    let terminal = Terminal::start(&bench, (80, 24), &[("TERM", "dumb")], "");
    wait_for("a line", || terminal.written().contains("step 2/60  loss 4.2500"));
    assert!(!terminal.written().contains('\u{1b}'), "{:?}", terminal.written());
    terminal.signal("TERM");
    wait_for("the end", || terminal.written().contains("left with 0"));
}

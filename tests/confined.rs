//! Programs that are kept from the network by what the policy demands: the same results, measured, or no run at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sirocco_tests::program::{Finished, LIMIT, Running, command, path};
use sirocco_tests::workplace::Workplace;

const FOUR_STEPS: &str = "train.steps=4 train.warmup_steps=0";

/// A test that this machine cannot make says so.
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn skipped(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
}

fn words(settings: &str) -> Vec<String> {
    settings.split_whitespace().flat_map(|word| ["--set".to_owned(), word.to_owned()]).collect()
}

/// `sirocco train run.toml --dir DIRECTORY --json` behind other words, such as those of `unshare`.
fn train(place: &Workplace, before: &[&str], directory: &str, settings: &str) -> Command {
    let mut command = match before {
        [] => Command::new(path("sirocco")),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(path("sirocco"));
            command
        }
    };
    command.args(["train", "run.toml", "--dir", directory, "--json"]).args(words(settings));
    command.current_dir(place.path()).env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
    command.env("XDG_CONFIG_HOME", place.path().join("config")).env("XDG_STATE_HOME", place.path().join("state"));
    command
}

fn finished(command: &mut Command) -> Finished {
    Running::start(command).wait(LIMIT)
}

fn summary(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", finished.stdout, finished.stderr))
}

fn log(place: &Workplace, directory: &str, rank: usize) -> String {
    std::fs::read_to_string(place.file(directory, &format!("logs/rank-{rank:05}.log"))).unwrap_or_default()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether one file of a ledger holds all of these words.
fn ledger_holds(place: &Workplace, directory: &str, words: &[&str]) -> bool {
    let texts = files(&place.file(directory, "ledger")).into_iter().filter_map(|file| std::fs::read(file).ok());
    texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|text| words.iter().all(|word| text.contains(word)))
}

/// Whether this machine lets its users have namespaces, which level 2 is made of.
fn has_namespaces() -> bool {
    let made = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).output();
    made.is_ok_and(|output| output.status.success())
}

fn expect_level_2(place: &Workplace, directory: &str, ranks: usize, finished: Finished) {
    let finished =
        finished.expect_code(0).expect_words(&["confined: level 2 (network_namespace), ", "attempts to get out failed"]);
    let confinement = &summary(&finished)["confinement"];
    assert_eq!((&confinement["level"], &confinement["number"]), (&"network_namespace".into(), &2.into()), "{confinement}");
    assert!(confinement["attempts"].as_u64().unwrap_or(0) >= 20, "{confinement}");
    for rank in 0..ranks {
        assert!(log(place, directory, rank).contains("confinement=\"network_namespace\""), "{}", log(place, directory, rank));
    }
    assert!(ledger_holds(place, directory, &["node.confined", "\"level\":2", "network_namespace", "EPERM"]));
    assert!(
        !ledger_holds(place, directory, &["got_through\\\":true,\\\"unconfined"]),
        "the report tells of something that got through"
    );
}

#[test]
fn level_2_trains_the_same_bits_on_one_rank_and_on_two() {
    if !has_namespaces() {
        return skipped("level 2", "this machine makes no namespaces for its users");
    }
    let place = Workplace::new();
    for ranks in [1, 2] {
        let settings = format!("{FOUR_STEPS} parallel.dp={ranks}");
        let free = finished(&mut train(&place, &[], &format!("free-{ranks}"), &settings)).expect_code(0);
        assert_eq!(summary(&free)["confinement"]["attempts"], 0);
        let directory = format!("confined-{ranks}");
        // A variable that leads out is left behind, and does not stop anybody.
        let mut command = train(&place, &[], &directory, &format!("{settings} policy.confinement=2"));
        let confined = finished(command.env("HTTPS_PROXY", "http://192.0.2.1:3128"));
        let note = confined.stderr.lines().find(|line| line.starts_with("note: variables that lead out are not handed on: "));
        assert!(note.is_some_and(|note| note.contains("HTTPS_PROXY")), "{}", confined.stderr);
        expect_level_2(&place, &directory, ranks, confined);
        let exactly =
            |directory: &str| place.steps(directory).iter().map(sirocco_tests::steps::Step::exactly).collect::<Vec<_>>();
        assert_eq!(exactly(&directory), exactly(&format!("free-{ranks}")));
        assert_eq!(exactly(&directory).len(), 4);
    }
}

#[test]
fn an_ordinary_user_has_the_same() {
    // The tester under another number and without capabilities: libtorch may lie where only the tester can read.
    let before = ["unshare", "--user", "--map-user=65534", "--map-group=65534"];
    let can = Command::new(before[0]).args(&before[1..]).args(["sh", "-c", "test \"$(id -u)\" = 65534"]).status();
    if !can.is_ok_and(|status| status.success()) || !has_namespaces() {
        return skipped("another user", "this machine makes no namespaces for its users");
    }
    let place = Workplace::new();
    for ranks in [1, 2] {
        let directory = format!("run-{ranks}");
        let settings = format!("{FOUR_STEPS} parallel.dp={ranks} policy.confinement=2");
        expect_level_2(&place, &directory, ranks, finished(&mut train(&place, &before, &directory, &settings)));
    }
}

#[test]
fn the_least_level_at_which_the_policy_allows_it_is_taken() {
    if !has_namespaces() {
        return skipped("level 2", "this machine makes no namespaces for its users");
    }
    let place = Workplace::new();
    let rules = place.path().join("rules");
    std::fs::create_dir(&rules).expect("a directory for rules");
    let write = |name: &str, text: &str| std::fs::write(rules.join(name), text).expect("a file of rules");
    write("facts.toml", "[site.local]\ncountry = \"MA\"\n");
    write(
        "policy.cedar",
        "@id(\"confined\")\n@advice(\"Reach level 2.\")\npermit(principal, action, resource)\nwhen { context.confinement.measured >= 2 };\n",
    );
    write("cases.toml", "");
    let settings = format!("{FOUR_STEPS} policy.set=rules");
    // What only prepares reads the data, too.
    finished(train(&place, &[], "prepared", &settings).args(["--until", "0"])).expect_code(0);
    assert!(ledger_holds(&place, "prepared", &["node.confined", "\"level\":2"]));
    expect_level_2(&place, "run", 1, finished(&mut train(&place, &[], "run", &settings)));
}

#[test]
fn level_3_has_only_the_files_of_the_run() {
    let place = Workplace::new();
    let done = finished(&mut train(&place, &[], "run", &format!("{FOUR_STEPS} parallel.dp=2 policy.confinement=3")));
    if done.code == Some(5) && done.stderr.contains("no Landlock") {
        return skipped("level 3", "this kernel has no Landlock, or it is not switched on");
    }
    let done = done.expect_code(0).expect_words(&["confined: level 3 (landlock), "]);
    assert_eq!(summary(&done)["confinement"]["number"], 3);
    assert!(log(&place, "run", 1).contains("confinement=\"landlock\""), "{}", log(&place, "run", 1));
}

#[test]
fn what_cannot_be_had_is_refused_with_what_is_possible() {
    let place = Workplace::new();
    let refused = finished(&mut train(&place, &[], "run", &format!("{FOUR_STEPS} policy.confinement=5"))).expect_code(5);
    assert!(
        refused.stderr.contains("level 5 (site) is demanded and ") && refused.stderr.contains(" is possible"),
        "{}",
        refused.stderr
    );
    // Where the mechanism is really missing: no namespaces below this one.
    let limits =
        "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "sh", "-c", limits];
    if !has_namespaces() {
        return skipped("a machine without namespaces", "this one is one");
    }
    let refused = finished(&mut train(&place, &before, "other", &format!("{FOUR_STEPS} policy.confinement=2"))).expect_code(5);
    let words = ["level 2 (network_namespace) is demanded and 1 (seccomp) is possible", "nothing was started", "help: "];
    let refused = refused.expect_words(&words);
    let error: Value = serde_json::from_str(&refused.stdout).expect("an object");
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&"machine".into(), &5.into()));
    assert!(!place.file("other", "metrics.jsonl").exists() && !place.file("other", "tokens").exists());
    // Level 1 is to be had there, also for two ranks, which share the machine's loopback.
    let done = finished(&mut train(&place, &before, "two", &format!("{FOUR_STEPS} policy.confinement=1 parallel.dp=2")));
    let done = done.expect_code(0).expect_words(&["confined: level 1 (seccomp), "]);
    assert_eq!(summary(&done)["confinement"]["number"], 1);
}

#[test]
fn a_rank_that_is_started_by_itself_is_not_confined_whatever_a_variable_says() {
    let place = Workplace::new();
    finished(&mut train(&place, &[], "run", &format!("{FOUR_STEPS} policy.confinement=1"))).expect_code(0);
    let mut alone = Command::new(path("sirocco-train"));
    alone
        .args(["run", "--dir", "run", "--threads", "1", "--comm", "solo"])
        .current_dir(place.path())
        .env_remove("RUST_BACKTRACE");
    alone.env("XDG_CONFIG_HOME", place.path().join("config")).env("XDG_STATE_HOME", place.path().join("state"));
    let words = ["[policy] confinement = 1, and level 0 is what holds for this rank"];
    finished(&mut alone).expect_code(5).expect_words(&words);
    finished(alone.env("SIROCCO_CONFINED", "3 net:[1] root")).expect_code(5).expect_words(&words);
}

#[test]
fn what_cannot_be_measured_stops_the_run() {
    if !has_namespaces() {
        return skipped("a machine whose listeners nobody reaches", "this machine makes no namespaces for its users");
    }
    let place = Workplace::new();
    // A network whose loopback is down: nothing gets through inside, and nothing would outside.
    let before = ["unshare", "--user", "--map-root-user", "--net"];
    let settings = format!("{FOUR_STEPS} policy.confinement=2");
    let stopped = finished(&mut train(&place, &before, "run", &settings)).expect_code(5);
    let stopped = stopped.expect_words(&["the confinement does not hold: not measured: ", "nothing was started"]);
    assert!(!stopped.stderr.contains("confined: level"), "{}", stopped.stderr);
    assert!(!place.file("run", "metrics.jsonl").exists() && !place.file("run", "tokens").exists());
}

#[test]
fn a_stop_that_is_asked_for_comes_to_the_ranks() {
    if !has_namespaces() {
        return skipped("level 2", "this machine makes no namespaces for its users");
    }
    for (ranks, signal) in [(1, "TERM"), (2, "INT"), (2, "USR1")] {
        let place = Workplace::new();
        let settings = format!("train.steps=100000 parallel.dp={ranks} policy.confinement=2");
        let running = Running::start(&mut train(&place, &[], "run", &settings));
        sirocco_tests::program::wait_for("step", LIMIT, || (!place.steps("run").is_empty()).then_some(()));
        sirocco_tests::program::signal(signal, &running.id().to_string());
        let done = running.wait(LIMIT).expect_code(75);
        assert_eq!(summary(&done)["state"], "stopped");
        // It goes on confined, too: what a run demands is in its run file.
        let on = Running::start(
            command("sirocco", &["train", "run", "--set", "train.steps=100001", "--until", "1"], place.path())
                .env("XDG_STATE_HOME", place.path()),
        );
        on.wait(LIMIT).expect_code(75).expect_words(&["confined: level 2"]);
    }
}

/// Connections that were made, or are being made, by what is confined: all but the witness and its helper.
fn connections(trace: &str) -> Vec<&str> {
    let pid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let outside: Vec<_> =
        trace.lines().filter(|line| line.contains("execve(") && line.contains("\"confined\"")).map(pid).collect();
    let made = |line: &str| line.ends_with("= 0") || line.contains("EINPROGRESS") || line.contains("<unfinished");
    let inside = trace.lines().filter(|line| !outside.contains(&pid(line)));
    inside.filter(|line| line.contains("connect(") && line.contains("sa_family=AF_INET") && made(line)).collect()
}

#[test]
fn system_calls_show_no_connection_but_over_the_loopback() {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) || !has_namespaces() {
        return skipped("following system calls", "strace is not there or follows nobody, or there are no namespaces");
    }
    let place = Workplace::new();
    let trace = place.path().join("trace");
    let before = ["strace", "-f", "-e", "trace=connect,execve", "-o", trace.to_str().expect("a path in UTF-8")];
    let settings = format!("{FOUR_STEPS} parallel.dp=2 policy.confinement=2");
    finished(&mut train(&place, &before, "run", &settings)).expect_code(0);
    let text = std::fs::read_to_string(&trace).expect("the trace");
    let connections = connections(&text);
    let loopback = |line: &&&str| line.contains("inet_addr(\"127.") || line.contains("\"::1\"");
    assert!(!connections.is_empty(), "mpirun and its ranks speak over the loopback");
    let others: Vec<_> = connections.iter().filter(|line| !loopback(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

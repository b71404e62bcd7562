//! `sirocco report`: pages of runs whose every file is known, so that each page is known, too.
use std::fs;
use std::process::Command;

use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};

/// Ten steps in two jobs: the first loses a node, the second is done. Names and reasons try to be HTML.
const JOBS: &str = r#"{"time":1795349000.0,"job":"41","event":"submitted","after":null,"excluded":[]}
{"time":1795349100.0,"job":"41","event":"started","nodes":["n1","n2"],"ends":1795352700.0,"restarts":0}
{"time":1795349101.5,"job":"41","event":"tested","seconds":1.5,"unfit":[]}
{"time":1795349102.0,"job":"41","event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":4,"from_step":0}
{"time":1795349400.0,"job":"41","event":"ended","attempt":1,"outcome":"failed","step":5,"why":"node n2 <b>is gone</b>","unfit":[{"node":"n2","why":"it does not answer"}],"next":"requeued"}
{"time":1795349500.0,"job":"41","event":"started","nodes":["n1","n3"],"ends":1795353100.0,"restarts":1}
{"time":1795349502.0,"job":"41","event":"ranks","attempt":1,"nodes":["n1","n3"],"ranks":4,"from_step":5}
{"time":1795349900.0,"job":"41","event":"ended","attempt":1,"outcome":"done","step":10,"why":"every step is done","unfit":[],"next":"nothing"}
"#;

/// A line of the log for each record, a second after the one before; step 6 was done twice.
fn log() -> String {
    let line = |second: u64, text: &str| {
        format!("2026-11-22T12:{:02}:{:02}.000000Z  INFO sirocco_train::run: {text}\n", second / 60, second % 60)
    };
    let mut text =
        line(302, "started rank=0 ranks=4 threads=1 version=\"0.1.0\"") + &line(303, "training first=0 steps=10 sequences=9");
    (1..=6).for_each(|step| text += &line(310 + step, &format!("step step={step} loss=2.5 seconds=1.0")));
    text +=
        &(line(702, "started rank=0 ranks=4 threads=1 version=\"0.1.0\"") + &line(703, "training first=5 steps=10 sequences=9"));
    (6..=10).for_each(|step| text += &line(710 + step, &format!("step step={step} loss=2.5 seconds=1.0")));
    text + &line(722, "held out step=10 loss=1.75")
}

/// Ten steps, one of them skipped, one that jumps; three evaluations.
fn metrics(speed: f64) -> String {
    let valid = |step: u64, loss: f64| format!("{{\"step\":{step},\"valid_loss\":{loss}}}\n");
    let mut text = valid(0, 4.5);
    for step in 1..=10_u64 {
        let loss = if step == 3 { "null".to_owned() } else { format!("{:?}", 4.5 - step as f64 / 4.0) };
        let what = match step {
            3 => ",\"skipped\":true",
            8 => ",\"loss_spike\":true",
            _ => "",
        };
        text += &format!(
            "{{\"step\":{step},\"loss\":{loss},\"target_tokens\":100,\"tokens\":200,\"grad_norm\":1.5,\"learning_rate\":{:?},\
             \"seconds\":{:?},\"tokens_per_s\":{speed:?},\"peak_memory_bytes\":{}{what}}}\n",
            0.01 / step as f64,
            200.0 / speed,
            1_500_000_000 + step * 1_000_000,
        );
        if step == 5 || step == 10 {
            text += &valid(step, 4.5 - step as f64 / 4.0 + 0.5);
        }
    }
    text
}

/// A workplace and one run in `runs/tiny`, done by a trainer of shell, with files that do not change from one day to the next.
fn bench() -> Bench {
    let bench = Bench::with_trainer("for n in 1 2 3 4 5 6 7 8 9 10; do step $n 1.5; done; valid 10 1.5; checkpoint 10");
    workplace(&bench.path(""));
    run(&bench, "tiny", &[]);
    let site = bench.read("runs/tiny/run.toml").replace("profile = \"local\"", "profile = \"meluxina\"");
    bench.write("runs/tiny/run.toml", &site.replace("\nnodes = 1\n", "\nnodes = 2\n").replace("\ndp = 1\n", "\ndp = 4\n"));
    bench.write("runs/tiny/jobs.jsonl", JOBS);
    bench
}

fn run(bench: &Bench, name: &str, more: &[&str]) {
    let named = format!("name={name}");
    let trained = bench.run(&[&["train", "run.toml", "--set", &named], more].concat());
    assert_eq!(trained.code, Some(0), "{trained:?}");
    bench.write(&format!("runs/{name}/metrics.jsonl"), &metrics(200.0));
    bench.write(&format!("runs/{name}/logs/rank-00000.log"), &log());
}

/// With a Slurm of shell on PATH that answers with `sacct`, or fails.
fn report(bench: &Bench, sacct: &str, arguments: &[&str]) -> Finished {
    bench.write_program("sacct", &format!("#!/bin/sh\n{sacct}\n"));
    let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
    let output = bench.command(&[&["report"], arguments].concat()).env("PATH", path).output().unwrap();
    Finished::new(&output, bench.path("bin").parent().unwrap())
}

const NO_ACCOUNTS: &str = "echo 'Slurm accounting storage is disabled' >&2; exit 1";

/// A page without its style and without the run file at its end, which other tests hold; with the bench's directory called `BENCH`, and
/// readable slashes.
fn body(bench: &Bench, page: &str) -> String {
    let text = bench.read(page).replace("&#x2f;", "/").replace(&bench.path("").display().to_string(), "BENCH/");
    let (_, body) = text.split_once("<body>").unwrap();
    let body = body.split("<h3>run.toml</h3>").next().unwrap();
    let version = format!("<td>{}</td>", env!("CARGO_PKG_VERSION"));
    body.replace("BENCH//", "BENCH/")
        .replace(&version, "<td>VERSION</td>")
        .lines()
        .map(without_digest)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A token cache names the files that it was made of, so that its digest is another one in every directory.
fn without_digest(line: &str) -> String {
    match line.split_once(" tokens, SHA-256</th><td>") {
        Some((name, digest)) => {
            assert!(digest.len() == 64 + "</td></tr>".len(), "{line}");
            format!("{name} tokens, SHA-256</th><td>DIGEST</td></tr>")
        }
        None => line.to_owned(),
    }
}

#[test]
fn the_page_of_a_run() {
    let bench = bench();
    let finished = report(&bench, NO_ACCOUNTS, &["runs/tiny"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    insta::assert_snapshot!("one", body(&bench, "runs/tiny/report.html"));
    insta::assert_snapshot!("one-terminal", finished.text());
    let first = bench.read("runs/tiny/report.html");
    let settings = bench.read("runs/tiny/run.toml").replace('"', "&quot;").replace('/', "&#x2f;");
    assert!(first.contains(&settings.lines().skip(4).collect::<Vec<_>>().join("\n")), "the page ends with the settings");
    report(&bench, NO_ACCOUNTS, &["runs/tiny", "--to", "elsewhere.html"]);
    assert_eq!(bench.read("elsewhere.html"), first, "the same run gives the same page");
}

#[test]
fn a_page_needs_nothing_else_and_takes_nothing_for_markup() {
    let bench = bench();
    let markup = "<script>alert(1)</script>";
    bench.write("runs/tiny/run.toml", &format!("# {markup}\n{}", bench.read("runs/tiny/run.toml")));
    bench.write(
        "runs/tiny/samples.jsonl",
        &format!(r#"{{"prompt":"{markup}","reference":"\"quoted\" & more","before":"<img src=x>","after":"ok","step":10}}"#),
    );
    let sacct = "echo '41|1795349100|300|2|node=2,gres/gpu=8|36000'; echo '41|1795349500|400|2|node=2,gres/gpu=8|72000'";
    let finished = report(&bench, sacct, &["runs/tiny", "--json"]);
    let page = bench.read("runs/tiny/report.html");
    for never in ["<script", "<img", "<b>is gone", "src=", "href=", "url(", "http:", "https:", "@import", " style="] {
        let found = page.find(never).map(|at| page[at.saturating_sub(40)..at + 60].to_owned());
        // What is escaped shows the letters of an attribute, and is none.
        assert!(found.as_ref().is_none_or(|found| found.contains("&lt;img src=")), "{never}: {found:?}");
    }
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;") && page.contains("node n2 &lt;b&gt;is gone"));
    let cost = &finished.json()["runs"][0]["cost"];
    assert_eq!(cost["node_hours"]["value"], 2.0 * 700.0 / 3600.0, "{cost}");
    assert_eq!(
        (cost["gpu_hours"]["value"].as_f64(), cost["energy_kwh"]["value"].as_f64()),
        (Some(8.0 * 700.0 / 3600.0), Some(0.03))
    );
}

#[test]
fn several_runs_are_compared() {
    let bench = bench();
    run(&bench, "slow", &["--set", "train.learning_rate=0.02", "--set", "method.rank=8"]);
    bench.write("runs/slow/metrics.jsonl", &metrics(50.0).replace("\"valid_loss\":2.5", "\"valid_loss\":2.25"));
    run(&bench, "early", &[]);
    bench.write(
        "runs/early/metrics.jsonl",
        &metrics(100.0)
            .lines()
            .filter(|line| !line.contains("valid"))
            .take(4)
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    let finished = report(&bench, NO_ACCOUNTS, &["runs"]);
    insta::assert_snapshot!("several", body(&bench, "runs/report.html"));
    insta::assert_snapshot!("several-terminal", finished.text());
    let object = report(&bench, NO_ACCOUNTS, &["runs/tiny", "runs/slow", "runs/early", "--json"]).json();
    assert_eq!(
        object["differ"],
        serde_json::json!(["method.rank", "parallel.dp", "site.nodes", "site.profile", "train.learning_rate"])
    );
    let names: Vec<_> = object["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["slow", "tiny", "early"]);
    bench.write("runs/0003/run.toml", &bench.read("run.toml"));
    let finished = report(&bench, NO_ACCOUNTS, &["runs"]);
    assert!(finished.code == Some(0) && finished.err.contains("note: left out: runs/0003 holds a run file"), "{finished:?}");
    assert_eq!(report(&bench, NO_ACCOUNTS, &["runs/tiny", "runs/0003"]).code, Some(2));
    assert_eq!(report(&bench, NO_ACCOUNTS, &["runs", "--samples", "valid.jsonl"]).code, Some(2));
}

#[test]
fn damage_is_noted_and_what_is_no_run_is_refused() {
    let bench = bench();
    bench.write("runs/tiny/metrics.jsonl", &(metrics(200.0) + "{\"step\":11,\"lo"));
    fs::remove_dir_all(bench.path("model")).unwrap();
    fs::remove_dir_all(bench.path("runs/tiny/tokens")).unwrap();
    let finished = report(&bench, NO_ACCOUNTS, &["runs/tiny"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for note in [
        "the last line is cut off in the middle",
        "the base model cannot be described",
        "the training tokens cannot be described",
    ] {
        assert!(finished.err.contains(note) && bench.read("runs/tiny/report.html").contains(note), "{note}: {finished:?}");
    }
    bench.write("thesis.html", "a thesis");
    let refused = [
        (vec!["runs/nothing"], 2, "is not there: expected a run directory"),
        (vec!["model.toml"], 2, "is not there"),
        (vec!["run.toml"], 2, "is a file: expected a run directory"),
        (vec!["bin"], 2, "holds no run: expected run.toml in it"),
        (vec!["runs/tiny", "--to", "thesis.html"], 2, "is there already and no report of sirocco"),
        (vec!["runs/tiny", "--to", "nowhere/page.html"], 1, "nowhere/page.html: cannot be written"),
    ];
    for (arguments, code, words) in refused {
        let finished = report(&bench, NO_ACCOUNTS, &arguments);
        assert!(finished.code == Some(code) && finished.err.contains(words), "{arguments:?}: {finished:?}");
        assert!(finished.err.contains("help: "), "{finished:?}");
    }
    assert_eq!(bench.read("thesis.html"), "a thesis");
}

#[test]
fn samples_are_taken_of_the_base_and_of_what_was_trained() {
    let bench = Bench::with_trainer(
        r#"case "$job" in
             run) step 1 1.5; checkpoint 10 ;;
             export) echo '{"run":"r"}' ;;
             eval) case "$asked" in
                     *--adapter*) echo '{"samples":[{"prompt":"p","reference":"r","answer":"trained"}]}' ;;
                     *) echo '{"samples":[{"prompt":"p","reference":"r","answer":"base"}]}' ;;
                   esac ;;
           esac"#,
    );
    // What the trainer was asked is gone once its options are read.
    let trainer = bench.read("bin/sirocco-train").replacen("set -u\n", "set -u\nasked=\"$*\"\n", 1);
    bench.write_program("sirocco-train", &trainer);
    workplace(&bench.path(""));
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(0));
    let finished = bench.run(&["report", "runs/tiny", "--samples", "valid.jsonl", "--json"]);
    assert_eq!(finished.json()["runs"][0]["samples"], 1, "{finished:?}");
    let line = "{\"prompt\":\"p\",\"reference\":\"r\",\"before\":\"base\",\"after\":\"trained\",\"step\":10}\n";
    assert_eq!(bench.read("runs/tiny/samples.jsonl"), line);
    let page = bench.read("runs/tiny/report.html");
    assert!(page.contains("<td>base</td>") && page.contains("after step 10</th><td>trained</td>"));
    let left = fs::read_dir(bench.path("runs/tiny"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(".samples"));
    assert!(left.is_none(), "the export is removed: {left:?}");
}

#[test]
fn training_leaves_curves_for_tensorboard() {
    let bench = Bench::with_trainer("step 1 1.5; checkpoint 10");
    workplace(&bench.path(""));
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(0));
    let events = || {
        Command::new("sh").args(["-c", "ls events.out.tfevents.*.sirocco"]).current_dir(bench.path("runs/tiny")).output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&events().stdout).lines().count(), 1);
    bench.run(&["report", "runs/tiny"]);
    assert_eq!(String::from_utf8_lossy(&events().stdout).lines().count(), 1);
}

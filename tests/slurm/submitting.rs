//! `sirocco submit` on a real cluster: from a run file to a finished run, whatever happens to its jobs on the way.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{Finished, LIMIT, Running, path, signal, wait_for};
use sirocco_tests::slurm::Cluster;
use sirocco_tests::steps::assert_equal;
use sirocco_tests::workplace::Workplace;

/// Four ranks on two of the four nodes.
pub(crate) const SITE: &str = "site.profile=slurm site.nodes=2 site.time=30 parallel.dp=2 parallel.tp=2 parallel.timeout_s=5";

/// `sirocco COMMAND WORDS…` where Slurm is.
pub(crate) fn sirocco(cluster: &Cluster, place: &Workplace, words: &str) -> Finished {
    let program = path("sirocco").display().to_string();
    let words: Vec<&str> = words.split_whitespace().collect();
    Running::start(&mut cluster.command(&program, &words, place.path())).wait(LIMIT)
}

/// Submits `run.toml` as the run directory `run`; the number of its job.
#[track_caller]
pub(crate) fn submit(cluster: &Cluster, place: &Workplace, settings: &str) -> String {
    let begun = place.file("run", "run.toml").is_file();
    let what = if begun { "submit run --json" } else { "submit run.toml --dir run --json" };
    let sets: String = settings.split_whitespace().map(|setting| format!(" --set {setting}")).collect();
    let finished = sirocco(cluster, place, &format!("{what}{sets}")).expect_code(0);
    let said: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    said["job"].as_str().expect("a job").to_owned()
}

/// The events of the run's jobs.
pub(crate) fn events(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("jobs.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until the chain of the run has ended; its last event.
#[track_caller]
pub(crate) fn ended(run: &Path, limit: Duration) -> Value {
    let over = |event: &Value| event["event"] == "ended" && event["next"] == "nothing";
    let started = Instant::now();
    loop {
        if let Some(last) = events(run).pop().filter(over) {
            return last;
        }
        assert!(started.elapsed() < limit, "not ended after {limit:?}:\n{}", told(run));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the jobs recorded and wrote.
pub(crate) fn told(run: &Path) -> String {
    let events: Vec<String> = events(run).iter().map(Value::to_string).collect();
    let logs = std::fs::read_dir(run.join("logs")).into_iter().flatten().flatten();
    let of_jobs = logs.filter(|log| log.file_name().to_string_lossy().starts_with("job-"));
    let texts: Vec<String> = of_jobs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect();
    format!("{}\n{}", events.join("\n"), texts.join("\n---\n"))
}

fn kinds(run: &Path) -> Vec<String> {
    events(run).iter().map(|event| event["event"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_run_goes_from_its_file_to_its_end() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let begun = Instant::now();
    let job = submit(&cluster, &place, SITE);
    let run = place.path().join("run");
    wait_for("first step", LIMIT, || {
        place.file("run", "metrics.jsonl").is_file().then(|| place.steps("run").len()).filter(|steps| *steps > 0)
    });
    println!("from submit to the first step: {:.1} s", begun.elapsed().as_secs_f64());
    let last = ended(&run, LIMIT);
    assert_eq!((last["outcome"].as_str(), last["job"].as_str()), (Some("done"), Some(job.as_str())), "{}", told(&run));
    assert_eq!(kinds(&run), ["submitted", "started", "tested", "ranks", "ended"], "{}", told(&run));
    place.train("here", "parallel.dp=2 parallel.tp=2").expect_code(0);
    assert_equal("two nodes", &place.steps("here"), &place.steps("run"));
    // What is done is not done again.
    let again = sirocco(&cluster, &place, "submit run").expect_code(2);
    assert!(again.stderr.contains("10 of 10 steps"), "{}", again.stderr);
}

#[test]
fn a_dead_rank_costs_no_more_than_an_interval_and_nobody_has_to_look() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    submit(
        &cluster,
        &place,
        &format!("{SITE} train.steps=4000 train.schedule=constant checkpoint.every_steps=50 eval.every_steps=0"),
    );
    let run = place.path().join("run");
    wait_for("a checkpoint", LIMIT, || run.join("checkpoints/LATEST").is_file().then_some(()));
    let victim = wait_for("rank 2", LIMIT, || rank_process(&run, 2));
    signal("KILL", &victim);
    let killed = Instant::now();
    let before = place.steps("run").last().expect("a step").step;
    wait_for("ranks again", LIMIT, || (kinds(&run).iter().filter(|kind| *kind == "ranks").count() == 2).then_some(()));
    wait_for("more steps", LIMIT, || (place.steps("run").last().expect("a step").step > before + 50).then_some(()));
    println!("back in training after {:.1} s", killed.elapsed().as_secs_f64());
    sirocco(&cluster, &place, "cancel run").expect_code(0);
    let last = ended(&run, LIMIT);
    assert_eq!(last["outcome"], "stopped", "{}", told(&run));
    let first = events(&run).into_iter().find(|event| event["event"] == "ended").expect("an end");
    assert!(first["why"].as_str().expect("words").contains("rank 2"), "{}", told(&run));
}

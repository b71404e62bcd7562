//! `sirocco submit` on a real cluster: from a run file to a finished run, whatever happens to its jobs on the way.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{Finished, LIMIT, Running, path, signal, wait_for};
use sirocco_tests::slurm::Cluster;
use sirocco_tests::steps::{RELATIVE, assert_equal};
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

/// Slurm's own words about a script of ours; those options left out that only the site's Slurm knows, and sizes that only its nodes have.
fn test_only(cluster: &Cluster, place: &Workplace, script: &str) -> Finished {
    const OF_THE_SITE: [&str; 6] = ["--account=", "--partition=", "--qos=", "--gres=", "--gpus-per-node=", "--cpus-per-task="];
    let known = |line: &&str| !OF_THE_SITE.iter().any(|option| line.starts_with(&format!("#SBATCH {option}")));
    let text: String =
        script.lines().filter(known).map(|line| line.replace("--ntasks-per-node=4", "--ntasks-per-node=2") + "\n").collect();
    let file = place.path().join("script.sh");
    std::fs::write(&file, text).expect("a script");
    Running::start(&mut cluster.command("sbatch", &["--test-only", &file.display().to_string()], place.path())).wait(LIMIT)
}

#[test]
fn sbatch_takes_the_script_of_every_site() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    for settings in [
        "site.profile=slurm",
        "site.profile=meluxina model.device=cuda site.account=p200000 site.qos=default site.time=1-00:00:00",
        "site.profile=leonardo model.device=cuda site.account=b site.time=24:00:00",
        "site.profile=marenostrum5 model.device=cuda site.account=ehpc000 site.qos=acc_ehpc site.time=10:00",
        "site.profile=lumi site.account=project_1 site.time=90",
    ] {
        let sets: String = settings.split_whitespace().map(|setting| format!(" --set {setting}")).collect();
        let more = "--set site.nodes=2 --set parallel.dp=4 --set parallel.tp=2";
        let script = sirocco(&cluster, &place, &format!("submit run.toml --dry-run{sets} {more}")).expect_code(0).stdout;
        let tested = test_only(&cluster, &place, &script);
        assert_eq!(tested.code, Some(0), "{settings}\n{script}\n{}", tested.stderr);
        assert!(tested.stderr.contains("to start at"), "{}", tested.stderr);
    }
    let broken = test_only(&cluster, &place, "#!/bin/bash\n#SBATCH --no-such-option\n");
    assert_ne!(broken.code, Some(0), "a script that it does not take");
}

#[test]
fn what_slurm_refuses_is_told_with_the_setting_to_change() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let eight = "parallel.dp=8 train.global_batch=8";
    for (number, (settings, message, help)) in [
        (
            format!("{eight} site.partition=gpux"),
            "Slurm knows no partition of that name: expected one of main",
            "help: set site.partition",
        ),
        (format!("{eight} site.nodes=8"), "[site] nodes = 8: partition main has 4 nodes", "help: ask for fewer nodes"),
        // What only sbatch knows: sixteen ranks on a node with two CPUs.
        (format!("{eight} site.nodes=1"), "error: Slurm refused: ", "help: [site] nodes"),
    ]
    .into_iter()
    .enumerate()
    {
        let sets: String = format!("{SITE} {settings}").split_whitespace().map(|set| format!(" --set {set}")).collect();
        let refused = sirocco(&cluster, &place, &format!("submit run.toml --dir run-{number}{sets}")).expect_code(2);
        assert!(refused.stderr.contains(message) && refused.stderr.contains(help), "{settings}: {}", refused.stderr);
    }
    assert_eq!(cluster.say("squeue", &["--noheader"]), "", "nothing was submitted");
}

#[test]
fn a_sweep_trains_every_point() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let sets = "--set site.profile=slurm --set eval.every_steps=0 --sweep train.learning_rate=1e-3,1e-2 --sweep seed=1,2";
    let finished = sirocco(&cluster, &place, &format!("submit run.toml --dir sweep --json {sets}")).expect_code(0);
    let said: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    assert_eq!(said["runs"].as_array().map(Vec::len), Some(4), "{said}");
    let runs: Vec<_> = (0..4).map(|number| place.path().join(format!("sweep/{number:04}"))).collect();
    for run in &runs {
        assert_eq!(ended(run, LIMIT)["outcome"], "done", "{}", told(run));
    }
    let alone = Workplace::new();
    let steps = alone.trained("run", "train.learning_rate=1e-2 seed=1 eval.every_steps=0");
    assert_eq!(steps.len(), place.steps("sweep/0002").len());
    // Another number of threads, so not bit for bit.
    for (alone, swept) in steps.iter().zip(place.steps("sweep/0002")) {
        assert!(
            (alone.loss - swept.loss).abs() <= RELATIVE * alone.loss
                && alone.record["learning_rate"] == swept.record["learning_rate"]
        );
    }
}

/// The controller takes a job and falls silent before it says so: sbatch hangs. The job is found, and not submitted twice.
#[test]
fn nothing_is_submitted_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    // The first submission works, and nobody is told.
    let hanging = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$CALLS\"\ncase \"$*\" in *--test-only*) exit 0;; esac\n/usr/bin/sbatch \"$@\"\nexec sleep 1000\n";
    let sbatch = place.path().join("bin/sbatch");
    std::fs::create_dir(place.path().join("bin")).expect("a directory");
    std::fs::write(&sbatch, hanging.replace("/usr/bin/sbatch \"$@\"", "/usr/bin/sbatch \"$@\" >/dev/null")).expect("a script");
    std::fs::set_permissions(&sbatch, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    let sets: String = SITE.split_whitespace().map(|setting| format!(" --set {setting}")).collect();
    let words = format!("submit run.toml --dir run --json{sets}");
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = cluster.command(&path("sirocco").display().to_string(), &words, place.path());
    let paths = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{}:{paths}", place.path().join("bin").display())).env("CALLS", place.path().join("calls"));
    let finished = Running::start(&mut command).wait(LIMIT).expect_code(0);
    let job: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    let run = place.path().join("run");
    let last = ended(&run, LIMIT);
    assert_eq!((last["outcome"].as_str(), &last["job"]), (Some("done"), &job["job"]), "{}", told(&run));
    let all = cluster.say("squeue", &["--noheader", "--states=all", "--format=%i"]);
    assert_eq!(all.lines().count(), 1, "{all}");
    let calls = std::fs::read_to_string(place.path().join("calls")).expect("the calls of sbatch");
    assert_eq!(calls.lines().filter(|call| call.contains("--parsable")).count(), 1, "{calls}");
}

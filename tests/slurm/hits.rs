//! Twenty runs, each hit at a moment that nobody chose: by signals, by a requeue, by dead and stopped ranks, by power cuts, by the end of its time.
//! Each finishes by itself, with the adapter of the run that nobody hit, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rstest::rstest;
use sirocco_tests::material::poison_token;
use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{LIMIT, signal, wait_for};
use sirocco_tests::slurm::Cluster;
use sirocco_tests::steps::Step;
use sirocco_tests::workplace::Workplace;

use crate::submitting::{SITE, ended, events, sirocco, submit, told};

/// Steps between two checkpoints: what a hit may cost.
const INTERVAL: u64 = 20;
const SETTINGS: &str = "train.steps=300 train.schedule=constant checkpoint.every_steps=20 eval.every_steps=0";

/// How long a run may take after it was hit: Slurm takes half a minute to miss a node.
const FINISHES: Duration = Duration::from_secs(150);

/// What happens to a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hit {
    /// `scancel --signal=USR1`
    Signal,
    /// `scontrol requeue`
    Requeue,
    /// `kill -9` of a rank.
    Kill,
    /// `kill -STOP` of a rank.
    Stop,
    /// The power of the node that the script runs on.
    FirstNode,
    /// The power of the other node.
    SecondNode,
}

impl Hit {
    /// Whether the ranks can save what they have done.
    fn is_polite(self) -> bool {
        matches!(self, Hit::Signal | Hit::Requeue)
    }
}

/// A number below `limit` that nobody chose.
fn random(limit: u64) -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").subsec_nanos();
    u64::from(clock) / 1000 % limit
}

fn hit(cluster: &Cluster, job: &str, run: &Path, hit: Hit) {
    let rank = random(4);
    match hit {
        Hit::Signal => drop(cluster.say("scancel", &["--signal=USR1", job])),
        Hit::Requeue => drop(cluster.say("scontrol", &["requeue", job])),
        Hit::Kill | Hit::Stop => {
            let process = wait_for("process of a rank", LIMIT, || rank_process(run, rank as usize));
            signal(if hit == Hit::Kill { "KILL" } else { "STOP" }, &process);
        }
        Hit::FirstNode => cluster.fail("n1"),
        Hit::SecondNode => cluster.fail("n2"),
    }
}

/// How often each step was done, by the log of rank 0, which grows from job to job.
fn done(run: &Path) -> BTreeMap<u64, u64> {
    let log = std::fs::read_to_string(run.join("logs/rank-00000.log")).expect("the log of rank 0");
    let steps = log.lines().filter_map(|line| line.split_once(" step step=")?.1.split_whitespace().next()?.parse().ok());
    steps.fold(BTreeMap::new(), |mut counts, step| {
        *counts.entry(step).or_default() += 1;
        counts
    })
}

/// The weights of the adapter.
fn adapter(place: &Workplace) -> Vec<u8> {
    let files = place.export("run", "adapter", &["--adapter"]);
    files.into_iter().find(|(name, _)| name == "adapter_model.safetensors").expect("the adapter's weights").1
}

/// The run that nobody hits, on this machine: its steps and its adapter. Made once.
fn undisturbed() -> &'static (Workplace, Vec<u8>) {
    static RUN: OnceLock<(Workplace, Vec<u8>)> = OnceLock::new();
    RUN.get_or_init(|| {
        let place = Workplace::new();
        // Four ranks, beside those of three clusters.
        place.start("run", &format!("{SETTINGS} parallel.dp=2 parallel.tp=2")).wait(2 * FINISHES).expect_code(0);
        let adapter = adapter(&place);
        (place, adapter)
    })
}

#[rstest]
#[case::signal(Hit::Signal)]
#[case::requeue(Hit::Requeue)]
#[case::kill(Hit::Kill)]
#[case::stop(Hit::Stop)]
#[case::first_node(Hit::FirstNode)]
#[case::second_node(Hit::SecondNode)]
fn a_run_that_is_hit_finishes_by_itself(#[case] by: Hit, #[values(1, 2, 3)] _time: u64) {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let job = submit(&cluster, &place, &format!("{SITE} {SETTINGS}"));
    let run = place.path().join("run");
    let first = 1 + random(200);
    let reached =
        || place.file("run", "metrics.jsonl").is_file() && place.steps("run").last().is_some_and(|last| last.step >= first);
    wait_for("the moment", LIMIT, || reached().then_some(()));
    hit(&cluster, &job, &run, by);
    let since = Instant::now();
    let last = ended(&run, FINISHES);
    assert_eq!(last["outcome"], "done", "{by:?} after step {first}\n{}", told(&run));
    println!("{by:?} after step {first}: done {:.1} s later, {} events", since.elapsed().as_secs_f64(), events(&run).len());

    let starts = events(&run).iter().filter(|event| event["event"] == "ranks").count();
    assert!(starts >= 2, "{by:?} after step {first} has hit nothing\n{}", told(&run));
    let (there, expected) = undisturbed();
    let exactly = |place: &Workplace| place.steps("run").iter().map(Step::exactly).collect::<Vec<_>>();
    assert!(exactly(there) == exactly(&place), "the steps differ after {by:?}");
    assert!(*expected == adapter(&place), "the adapters differ after {by:?}");
    let again = done(&run).values().filter(|times| **times > 1).count() as u64;
    let most = if by.is_polite() { 0 } else { INTERVAL };
    assert!(again <= most, "{by:?} after step {first}: {again} steps were done again, expected at most {most}\n{}", told(&run));
}

/// Sites keep the defaults: Slurm waits for minutes before it takes a silent node for dead, and half a minute for processes to end. The run does not: it ends what is left of its ranks, keeps its job's
/// record true, and goes on without the node in a job of its own. (A job that was to end its ranks once ended itself, for good.)
#[test]
fn a_node_that_slurm_still_waits_for_is_left_behind() {
    let Some(cluster) = Cluster::start_with(&[("PATIENCE", "300"), ("KILL_WAIT", "30")]) else { return };
    let place = Workplace::new();
    let job = submit(&cluster, &place, &format!("{SITE} {SETTINGS}"));
    let run = place.path().join("run");
    let reached =
        || place.file("run", "metrics.jsonl").is_file() && place.steps("run").last().is_some_and(|last| last.step >= 30);
    wait_for("the moment", LIMIT, || reached().then_some(()));
    cluster.fail("n2");
    let last = ended(&run, FINISHES);
    assert_eq!((last["outcome"].as_str(), last["job"] == *job), (Some("done"), false), "{}", told(&run));
    let first = events(&run).into_iter().find(|event| event["event"] == "ended").expect("the first job's end");
    let blamed = |event: &serde_json::Value| event["unfit"][0]["node"].as_str().map(str::to_owned);
    assert_eq!((blamed(&first).as_deref(), &first["next"]["job"]), (Some("n2"), &last["job"]), "{}", told(&run));
    let (there, expected) = undisturbed();
    assert!(place.steps("run").iter().map(Step::exactly).eq(there.steps("run").iter().map(Step::exactly)), "the steps differ");
    assert!(*expected == adapter(&place), "the adapters differ");
}

/// Jobs of a minute, whose end the ranks know: they leave in time, another job goes on, and no step is done twice.
#[rstest]
fn a_run_goes_from_job_to_job_over_the_end_of_their_time(#[values(1, 2)] _time: u64) {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let settings =
        "train.steps=1000000 train.global_batch=32 train.schedule=constant checkpoint.every_steps=1000000 eval.every_steps=0";
    submit(&cluster, &place, &format!("{SITE} site.time=1 {settings}"));
    let run = place.path().join("run");
    let of_kind = |kind: &str| events(&run).into_iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    wait_for("second job", FINISHES, || (of_kind("ranks").len() == 2).then_some(()));
    let end = of_kind("ended").remove(0);
    let (saved, next) = (end["step"].as_u64().expect("a step"), &of_kind("ranks")[1]);
    assert_eq!((end["outcome"].as_str(), next["from_step"].as_u64()), (Some("stopped"), Some(saved)), "{}", told(&run));
    assert!(end["next"]["job"].is_string() && end["job"] != next["job"], "{}", told(&run));
    wait_for("its steps", LIMIT, || place.steps("run").last().filter(|last| last.step > saved + 5).map(drop));
    sirocco(&cluster, &place, "cancel run").expect_code(0);
    ended(&run, LIMIT);
    assert!(done(&run).values().all(|times| *times == 1), "a step was done twice\n{}", told(&run));
    let steps = place.steps("run").last().expect("steps").step;
    assert_eq!(done(&run).len() as u64, steps, "every step was done");
    let there = Workplace::new();
    there.start("run", &format!("{settings} parallel.dp=2 parallel.tp=2 --until {steps}")).wait(2 * FINISHES).expect_code(75);
    assert!(adapter(&there) == adapter(&place), "the adapters differ");
}

/// An error that comes back is no accident: the chain ends, and says so.
#[test]
fn an_error_that_repeats_ends_the_chain() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    poison_token(&place.path().join("model"), 'p');
    submit(&cluster, &place, &format!("{SITE} {SETTINGS} train.max_skipped_steps=3"));
    let run = place.path().join("run");
    let last = ended(&run, LIMIT);
    assert_eq!(last["outcome"], "failed", "{}", told(&run));
    let why = last["why"].as_str().expect("words");
    assert!(why.contains("gradient norm NaN") && why.ends_with("the same error twice at step 0"), "{why}");
    let ends = events(&run).iter().filter(|event| event["event"] == "ended").count();
    assert_eq!(ends, 2, "{}", told(&run));
}

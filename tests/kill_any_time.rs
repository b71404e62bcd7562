//! `kill -9` of any rank at any moment, while a checkpoint is written too: what was published loads, little is lost, the others
//! end and the message names the dead rank; and in the end the run is bit for bit the one that nobody disturbed.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{LIMIT, signal, wait_for};
use sirocco_tests::steps::assert_equal;
use sirocco_tests::workplace::Workplace;

/// Steps between two checkpoints.
const INTERVAL: u64 = 2;
/// The bound for the end of the ranks that were not killed.
const SURVIVORS_END: Duration = Duration::from_secs(15);
const SETTINGS: &str = "method.kind=full train.learning_rate=1e-4 train.schedule=constant train.steps=1000000 \
                        checkpoint.every_steps=2 checkpoint.keep=2 eval.every_steps=0";

/// From the clock, or from the variable SIROCCO_TEST_SEED to repeat what failed.
fn seed() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").subsec_nanos();
    std::env::var("SIROCCO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(clock))
}

/// Numbers that nobody chose, the same again for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// The step of a name such as `step-00000040` between two words.
fn step_of(name: &str, before: &str, after: &str) -> Option<u64> {
    name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

/// The newest step that was published.
fn published(run: &Path) -> u64 {
    let latest = std::fs::read_to_string(run.join("checkpoints/LATEST")).unwrap_or_default();
    step_of(latest.trim(), "step-", "").unwrap_or(0)
}

/// The newest step whose save has begun since `start` and is not published.
fn under_way(run: &Path, start: SystemTime) -> Option<u64> {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let of_this_life = entries.filter(|entry| entry.metadata().and_then(|it| it.modified()).is_ok_and(|made| made >= start));
    of_this_life.filter_map(|entry| step_of(entry.file_name().to_str()?, ".step-", ".partial")).max()
}

/// Whether any rank has begun to work since `start`.
fn any_log_since(run: &Path, ranks: usize, start: SystemTime) -> bool {
    let changed = |rank| std::fs::metadata(run.join(format!("logs/rank-{rank:05}.log"))).and_then(|log| log.modified());
    (0..ranks).any(|rank| changed(rank).is_ok_and(|changed| changed >= start))
}

/// Waits for one of three kinds of moments: while ranks start, between two steps, while a checkpoint is written.
fn wait_for_a_moment(place: &Workplace, start: SystemTime, random: &mut Random) {
    let run = place.path().join("run");
    let begun = published(&run);
    match random.below(6) {
        0 => drop(wait_for("first process", LIMIT, || rank_process(&run, 0))),
        1 | 2 => {
            let step = begun + 3 + random.below(10);
            drop(wait_for("step", LIMIT, || place.steps("run").last().filter(|last| last.step >= step).cloned()));
        }
        _ => drop(wait_for("save under way", LIMIT, || under_way(&run, start))),
    }
    std::thread::sleep(Duration::from_millis(random.below(150)));
}

/// Starts or resumes the run, kills one of its ranks and looks at what is left: `at_most` so many steps are lost. Returns whether a save was
/// under way.
fn kill_one(place: &Workplace, ranks: usize, settings: &str, at_most: u64, random: &mut Random) -> bool {
    let run = place.path().join("run");
    let (before, start) = (published(&run), SystemTime::now());
    let running = place.start("run", if before == 0 && !run.join("run.toml").is_file() { settings } else { "" });
    wait_for_a_moment(place, start, random);
    let rank = random.below(ranks as u64) as usize;
    // Where ranks start, this one may not have been yet.
    let process = wait_for("process of the rank", LIMIT, || rank_process(&run, rank));
    let during_save = under_way(&run, start).is_some();
    signal("KILL", &process);
    let killed = Instant::now();
    let finished = running.wait(LIMIT);
    let took = killed.elapsed();
    assert!(took < SURVIVORS_END, "rank {rank}: ended after {took:?}\n{}", finished.stderr);
    let finished = finished.expect_code(1);
    // Whoever is heard first names the dead rank: mpirun with the signal, or a survivor that has noticed and ended before mpirun
    // did.
    let by_survivor = finished.stderr.contains(&format!("rank {rank} (process {process} on "));
    assert!(by_survivor || finished.stderr.contains("was killed by signal 9"), "{}", finished.stderr);
    // mpirun has no number yet for a rank that dies while it still starts others; nothing of ours has run then.
    let named = by_survivor || finished.stderr.contains(&format!("error: rank {rank} of {ranks}"));
    assert!(named || !any_log_since(&run, ranks, start), "rank {rank} was killed\n{}", finished.stderr);
    for survivor in 0..ranks {
        assert!(rank_process(&run, survivor).is_none(), "rank {survivor} still runs\n{}", finished.stderr);
    }

    let after = published(&run);
    let done = place.steps("run").last().map_or(0, |last| last.step).max(before);
    assert!(after >= before, "what was published is gone: step {before}, now {after}");
    assert!(done - after.min(done) <= at_most, "{done} steps done, {after} published");
    if after > 0 {
        let export = place.path().join("export");
        place.export("run", "export", &["--merge"]);
        std::fs::remove_dir_all(export).expect("the export");
    }
    during_save
}

/// What is killed again and again.
struct Victim {
    place: Workplace,
    ranks: usize,
    settings: &'static str,
    /// Steps that one kill may cost.
    at_most: u64,
}

/// Kills the same run again and again, lets it go on a little, and compares it with one that nobody disturbed. Returns what it
/// did.
fn kill_again_and_again(seed: u64, victim: &Victim, moments: usize) -> String {
    let Victim { place, ranks, settings, at_most } = victim;
    let mut random = Random(seed | 1);
    let (run, settings) = (place.path().join("run"), format!("{SETTINGS} {settings}"));
    let during_saves = (0..moments).filter(|_| kill_one(place, *ranks, &settings, *at_most, &mut random)).count();
    let end = published(&run) + 5;
    place.train("run", &format!("--until {end}")).expect_code(75);
    place.train("undisturbed", &format!("{settings} --until {end}")).expect_code(75);
    assert_equal("killed and undisturbed", &place.steps("undisturbed"), &place.steps("run"));
    let export = ["--merge", "--dtype", "fp32"];
    assert!(
        place.export("run", "export", &export) == place.export("undisturbed", "export-undisturbed", &export),
        "the weights differ"
    );
    format!("{moments} kills, {during_saves} of them during a save, {end} steps")
}

#[test]
fn two_ranks_at_twenty_two_moments() {
    let seed = seed();
    println!("SIROCCO_TEST_SEED={seed}");
    let victim = Victim { place: Workplace::new(), ranks: 2, settings: "parallel.fsdp=2", at_most: INTERVAL };
    println!("{}", kill_again_and_again(seed, &victim, 22));
}

#[test]
fn four_ranks_at_eight_moments_with_staging() {
    let seed = seed();
    println!("SIROCCO_TEST_SEED={seed}");
    let settings = "train.micro_batch=2 parallel.fsdp=2 parallel.tp=2 checkpoint.staging=staging";
    let victim = Victim { place: Workplace::new(), ranks: 4, settings, at_most: INTERVAL };
    println!("{}", kill_again_and_again(seed, &victim, 8));
}

/// Saves that do not fit a step are written during several: these are lost, too, and never more than one interval of them.
#[test]
fn two_ranks_at_six_moments_with_saves_that_outlast_a_step() {
    let seed = seed();
    println!("SIROCCO_TEST_SEED={seed}");
    let victim = Victim { place: Workplace::wide(), ranks: 2, settings: "parallel.dp=2", at_most: 2 * INTERVAL };
    println!("{}", kill_again_and_again(seed, &victim, 6));
}

//! What happens when a rank disagrees, dies, is late or leaves: a named error on every other rank, soon, and no hang afterwards.

use std::{
    fs, process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rstest::rstest;
use signal_hook::{consts::SIGTERM, iterator::Signals};
use sirocco_comm::{CommError, Communicator, Mpi, Options, WhyDead};

use crate::job::{self, Ended, Report, run_with};

/// Lets the others live on when a rank is killed: the crate, not mpirun, is to notice.
pub(crate) const NO_HELP: [&str; 1] = ["--enable-recovery"];

pub(crate) fn rank_program(case: &str, report: &Report) {
    let timeout = Duration::from_secs(if matches!(case, "late" | "stopped") { 2 } else { 60 });
    let mpi = Arc::new(Mpi::start(Options { timeout }).unwrap());
    let (rank, last) = (mpi.rank(), mpi.rank() + 1 == mpi.size());
    mpi.barrier("ready").wait().unwrap();
    let started = Instant::now();
    let error = match case {
        "names" => mpi.all_reduce_f32(if last { "loss" } else { "gradients" }, vec![1.0; 100_000]).wait().unwrap_err(),
        "uneven" => {
            let lengths: Vec<usize> =
                (0..mpi.size()).map(|rank| if rank == 0 || rank == mpi.size() - 1 { 9 } else { 8 }).collect();
            let mut other = lengths.clone();
            other[0] -= usize::from(last);
            other[mpi.size() - 1] += usize::from(last);
            mpi.reduce_scatter_f32("gradients", vec![1.0; other.iter().sum()], &other).wait().unwrap_err()
        }
        "groups" => {
            // They differ in whom the group has; rank 0 presides over both.
            let everybody: Vec<usize> = (0..mpi.size()).collect();
            let members = if last { everybody.clone() } else { everybody.into_iter().filter(|&rank| rank != 1).collect() };
            match mpi.group("dp", if rank == 1 { &[0, 1] } else { &members }) {
                Ok(group) => group.all_reduce_f32("gradients", vec![1.0; 10]).wait().unwrap_err(),
                Err(error) => panic!("{error}"),
            }
        }
        "message" if last => {
            mpi.send_bytes("activations", 0, vec![1; 100_000]).wait().unwrap();
            mpi.barrier("step").wait().unwrap_err()
        }
        "message" if rank == 0 => mpi.receive_bytes("gradients", mpi.size() - 1).wait().unwrap_err(),
        "message" => mpi.barrier("step").wait().unwrap_err(),
        "lengths" => mpi.all_reduce_f32("gradients", vec![1.0; if last { 9 } else { 10 }]).wait().unwrap_err(),
        "operations" if last => mpi.barrier("step").wait().unwrap_err(),
        "operations" => mpi.all_reduce_f64("step", vec![1.0]).wait().unwrap_err(),
        "killed" => killed(&mpi, 0),
        "killed-first" => killed(&mpi, mpi.size() - 1),
        "killed-in-a-group" => killed_in_a_group(&mpi),
        "killed-midway" => killed_midway(&mpi),
        "killed-with-mpirun" => killed_with_mpirun(&mpi, report),
        "stopped" => stopped(&mpi),
        "late" if last => late(&mpi),
        "late" => patient(&mpi),
        "left" | "left-a-group" if last => {
            drop(mpi);
            report.write(rank, "left");
            process::exit(1);
        }
        "left-a-group" => left_a_group(&mpi),
        "left" => mpi.all_reduce_f32("gradients", vec![1.0]).wait().unwrap_err(),
        "abort" if last => mpi.abort(75),
        "abort" => mpi.all_reduce_f32("gradients", vec![1.0]).wait().unwrap_err(),
        other => panic!("no case {other}"),
    };
    finish(mpi, report, started, &error);
}

/// What every rank does after its error: nothing hangs any more, and the record still shows what happened.
pub(crate) fn finish(mpi: Arc<Mpi>, report: &Report, started: Instant, error: &CommError) -> ! {
    let (rank, noticed) = (mpi.rank(), started.elapsed());
    let history = mpi.history();
    assert_eq!(history[1].to_string().split(':').next(), Some("`ready` (collective 1), barrier, 0 bytes"));
    assert!(history[1].done.is_some() && !history[1].failed);
    let again = Instant::now();
    assert_eq!(mpi.barrier("later").wait().unwrap_err(), *error);
    let later = mpi.history().pop().unwrap();
    assert!(later.name == "later" && later.failed && later.entered.is_none() && later.done.is_some(), "{later}");
    drop(mpi);
    assert!(again.elapsed() < Duration::from_secs(1), "a later call and the end took {:?}", again.elapsed());
    report.write(rank, &format!("{:.1} s: {error}", noticed.as_secs_f64()));
    // As the crate asks: no MPI_Finalize after an error, but an end with a status. The wait lets the others end by themselves.
    thread::sleep(Duration::from_secs(2));
    process::exit(1);
}

/// The last rank has left; rank 1 waits for it in a group that rank 0 is not in, and the others do something else.
fn left_a_group(mpi: &Mpi) -> CommError {
    match mpi.rank() {
        1 => mpi.group("tp", &[1, mpi.size() - 1]).unwrap().all_reduce_f32("sum", vec![1.0]).wait().unwrap_err(),
        _ => mpi.receive_bytes("activations", 1).wait().unwrap_err(),
    }
}

/// The last rank kills itself; rank 2 waits for it in a group of two, rank 1 for rank 2, and rank 0 for rank 1.
fn killed_in_a_group(mpi: &Mpi) -> CommError {
    let pair = |members: [usize; 2]| mpi.group("pair", &members).unwrap();
    match mpi.rank() {
        3 => {
            thread::sleep(Duration::from_millis(300));
            kill_self();
        }
        2 => pair([2, 3]).all_reduce_f32("sum", vec![1.0; 100_000]).wait().unwrap_err(),
        1 => mpi.receive_bytes("activations", 2).wait().unwrap_err(),
        _ => pair([0, 1]).barrier("here").wait().unwrap_err(),
    }
}

/// The rank that is `from_last` before the last one kills itself while the others wait for it.
fn killed(mpi: &Mpi, from_last: usize) -> CommError {
    let victim = mpi.size() - 1 - from_last;
    if mpi.rank() == victim {
        thread::sleep(Duration::from_millis(300));
        kill_self();
    }
    let error = mpi.all_reduce_f32("gradients", vec![1.0; 100_000]).wait().unwrap_err();
    let dead = mpi.dead_peers();
    assert_eq!(dead.iter().map(|dead| dead.peer.rank).collect::<Vec<_>>(), [victim]);
    assert_ne!(dead[0].why, WhyDead::Replaced);
    error
}

/// The last rank kills itself while a large buffer is under way.
fn killed_midway(mpi: &Mpi) -> CommError {
    let pending = mpi.all_reduce_f32("gradients", vec![1.0; 60_000_000]);
    if mpi.rank() + 1 == mpi.size() {
        thread::sleep(Duration::from_millis(60));
        kill_self();
    }
    match pending.wait() {
        Err(error) => error,
        Ok(_) => mpi.barrier("next").wait().unwrap_err(),
    }
}

pub(crate) fn kill_self() -> ! {
    process::Command::new("kill").args(["-KILL", &process::id().to_string()]).status().unwrap();
    unreachable!("killed")
}

/// The last rank dies and mpirun does what it does by itself: SIGTERM to the others, which must still learn who died.
fn killed_with_mpirun(mpi: &Arc<Mpi>, report: &Report) -> CommError {
    let rank = mpi.rank();
    if rank + 1 == mpi.size() {
        // After the others' handlers are there.
        thread::sleep(Duration::from_millis(500));
        kill_self();
    }
    let mut signals = Signals::new([SIGTERM]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            signals.forever().next();
            report.write(
                rank,
                &format!("SIGTERM; dead: {:?}", mpi.dead_peers().iter().map(|dead| dead.peer.rank).collect::<Vec<_>>()),
            );
            // As `dead_peers` asks: the others are looking too.
            thread::sleep(Duration::from_millis(300));
            process::exit(1);
        });
        let error = mpi.all_reduce_f32("gradients", vec![1.0]).wait().unwrap_err();
        thread::sleep(Duration::from_secs(30));
        error
    })
}

/// The last rank stops (it is neither dead nor does it answer) while a large buffer is under way.
fn stopped(mpi: &Mpi) -> CommError {
    let pending = mpi.all_reduce_f32("gradients", vec![1.0; 60_000_000]);
    if mpi.rank() + 1 == mpi.size() {
        thread::sleep(Duration::from_millis(60));
        let stop_and_go = format!("kill -STOP {0}; sleep 4; kill -CONT {0}", process::id());
        process::Command::new("sh").args(["-c", &stop_and_go]).status().unwrap();
    }
    match pending.wait() {
        Err(error) => error,
        Ok(_) => mpi.barrier("next").wait().unwrap_err(),
    }
}

/// Waits in vain, and must do so without keeping a core busy.
fn patient(mpi: &Mpi) -> CommError {
    let before = ticks_used();
    let error = mpi.all_reduce_f32("gradients", vec![1.0; 100_000]).wait().unwrap_err();
    let used = ticks_used() - before;
    assert!(used < 30, "waiting for 2 s took {used} ticks of processor time");
    error
}

/// Processor time of this process in clock ticks (hundredths of a second).
fn ticks_used() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
    fields.take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Comes when the others have given up.
fn late(mpi: &Mpi) -> CommError {
    thread::sleep(Duration::from_millis(3500));
    mpi.all_reduce_f32("gradients", vec![1.0; 100_000]).wait().unwrap_err()
}

/// The seconds and the text that a rank reported.
pub(crate) fn reported(ended: &Ended, rank: usize) -> (f64, String) {
    let report = ended.report(rank);
    let (seconds, text) = report.split_once(" s: ").unwrap_or_else(|| panic!("rank {rank} has no report\n{}", ended.told()));
    (seconds.parse().unwrap(), text.to_owned())
}

#[rstest]
#[case("names", "all_reduce_f32 `gradients`", "all_reduce_f32 `loss`")]
#[case("lengths", "with 10 elements", "with 9 elements")]
#[case("uneven", "elements in parts of 9, ", "elements in parts of 8, ")]
#[case("operations", "all_reduce_f64 `step`", "barrier `step`")]
fn ranks_that_disagree_all_hear_of_both_sides(
    #[case] case: &str,
    #[case] first: &str,
    #[case] second: &str,
    #[values(2, 4)] ranks: usize,
) {
    let ended = run_with(case, ranks, &NO_HELP);
    for rank in 0..ranks {
        let (seconds, text) = reported(&ended, rank);
        assert!(seconds < 3.0, "{}", ended.told());
        assert!(text.contains(first) && text.contains(second), "{}", ended.told());
        assert!(text.contains(&format!("rank {} entered", ranks - 1)) && text.contains("collective 2"), "{}", ended.told());
    }
}

#[rstest]
#[case("killed", 2, 1)]
#[case("killed", 4, 3)]
#[case("killed-first", 3, 0)]
#[case("killed-in-a-group", 4, 3)]
#[case("killed-midway", 2, 1)]
#[case("killed-midway", 3, 2)]
fn a_killed_rank_is_named_by_the_others(#[case] case: &str, #[case] ranks: usize, #[case] victim: usize) {
    let ended = run_with(case, ranks, &NO_HELP);
    assert_eq!(ended.report(victim), "");
    for rank in (0..ranks).filter(|&rank| rank != victim) {
        let (seconds, text) = reported(&ended, rank);
        assert!(seconds < 10.0 && text.starts_with(&format!("rank {victim} (process ")), "{}", ended.told());
    }
}

#[test]
fn a_timeout_names_the_collective_and_the_missing_rank_even_to_that_rank() {
    let ended = run_with("late", 3, &NO_HELP);
    for rank in 0..3 {
        let (seconds, text) = reported(&ended, rank);
        assert!(text.contains("no progress in `gradients` (collective 2)"), "{}", ended.told());
        assert!(
            text.contains("waiting for rank 2: rank 2 has entered nothing since `ready` (collective 1) ended"),
            "{}",
            ended.told()
        );
        assert!(seconds < 6.0, "{}", ended.told());
    }
}

#[rstest]
fn a_rank_that_stops_is_named_by_the_others(#[values(2, 3)] ranks: usize) {
    let ended = run_with("stopped", ranks, &NO_HELP);
    for rank in 0..ranks - 1 {
        let (seconds, text) = reported(&ended, rank);
        assert!(
            text.contains("no progress") && text.ends_with(&format!("waiting for rank {0}: rank {0} does not answer", ranks - 1)),
            "{}",
            ended.told()
        );
        assert!(seconds < 8.0, "{}", ended.told());
    }
}

#[test]
fn when_mpirun_says_stop_the_dead_rank_is_known() {
    let ended = job::run("killed-with-mpirun", 3);
    for rank in 0..2 {
        assert_eq!(ended.report(rank), "SIGTERM; dead: [2]", "{}", ended.told());
    }
    assert!(ended.took < Duration::from_secs(10));
}

#[test]
fn a_rank_that_leaves_is_named_by_those_who_wait() {
    let ended = run_with("left", 3, &NO_HELP);
    assert_eq!(ended.report(2), "left", "{}", ended.told());
    for rank in 0..2 {
        assert!(reported(&ended, rank).1.starts_with("rank 2 left the group"), "{}", ended.told());
    }
}

#[test]
fn a_rank_that_leaves_is_named_in_a_group_without_rank_0_too() {
    let ended = run_with("left-a-group", 4, &NO_HELP);
    assert_eq!(ended.report(3), "left", "{}", ended.told());
    for rank in 0..3 {
        let (seconds, text) = reported(&ended, rank);
        assert_eq!(text, "rank 3 left the group while rank 1 was in `sum` of tp (collective 0)", "{}", ended.told());
        assert!(seconds < 10.0, "{}", ended.told());
    }
}

#[test]
fn ranks_that_mean_different_groups_hear_of_both() {
    let ended = run_with("groups", 4, &NO_HELP);
    for rank in 0..4 {
        let text = reported(&ended, rank).1;
        assert!(
            text.contains("rank 0 entered all_reduce_f32 `gradients` of dp (collective 0) with 10 elements"),
            "{}",
            ended.told()
        );
        let lists = ["dp has ranks 0, 2, 3 on rank 0", "dp has ranks 0, 1, 2, 3 on rank 3"];
        assert!(lists.iter().all(|list| text.contains(list)), "{}", ended.told());
    }
}

#[test]
fn a_message_of_another_name_is_told_to_both_ends_and_the_rest() {
    let ended = run_with("message", 3, &NO_HELP);
    let text = "the ranks disagree on what comes next: rank 0 entered receive_bytes `gradients` (message 0 from rank 2 to rank 0), but \
                rank 2 entered send_bytes `activations` (message 0 from rank 2 to rank 0) with 100000 bytes";
    for rank in 0..3 {
        assert_eq!(reported(&ended, rank).1, text, "{}", ended.told());
    }
}

#[test]
fn abort_ends_all_ranks_with_its_code() {
    let ended = job::run("abort", 3);
    assert_eq!(ended.output.status.code(), Some(75), "{}", ended.told());
    assert!(ended.took < Duration::from_secs(10));
    assert_eq!(ended.report(0), "");
}

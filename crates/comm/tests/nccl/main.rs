//! Device collectives under mpirun without a GPU: the CUDA driver and NCCL are stood in for by two small libraries (`fakes/`), so that the
//! order of calls, the handling of memory and events, and every way of failing are real.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what ranks run, and say, stands outside the test functions"
)]

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sirocco_comm::nccl::{Device, DeviceGroup, Element, Region};
use sirocco_comm::{CommError, Communicator, Mpi, Options};
use tempfile::TempDir;

/// Tells a rank that mpirun has started it.
const CASE: &str = "SIROCCO_NCCL_CASE";
/// How the fake libraries misbehave.
const FAKE: &str = "SIROCCO_FAKE";
const TIMEOUT: Duration = Duration::from_secs(2);

/// The fake libraries, or why there are none.
fn libraries() -> &'static Result<TempDir, String> {
    static LIBRARIES: OnceLock<Result<TempDir, String>> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nccl/fakes");
        for (source, name) in [("cuda.c", "libcuda.so.1"), ("nccl.c", "libnccl.so.2")] {
            let compiled = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-o"])
                .arg(directory.path().join(name))
                .arg(sources.join(source))
                .args(["-ldl", "-lrt"])
                .output()
                .map_err(|error| format!("cc: {error}"))?;
            assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        }
        Ok(directory)
    })
}

/// What `ranks` ranks said, and how long it took; nothing where there is no C compiler.
fn run(case: &str, fake: &str, ranks: usize) -> Option<(String, Duration)> {
    let (text, took, well) = start(case, fake, ranks, &[])?;
    assert!(well, "{text}");
    Some((text, took))
}

/// The same for ranks that lose each other, and so end without MPI_Finalize, which mpirun must not hold against the rest.
fn run_apart(case: &str, fake: &str, ranks: usize) -> Option<(String, Duration)> {
    start(case, fake, ranks, &["--enable-recovery"]).map(|(text, took, _)| (text, took))
}

fn start(case: &str, fake: &str, ranks: usize, arguments: &[&str]) -> Option<(String, Duration, bool)> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let libraries = match libraries() {
        Ok(directory) => directory.path(),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return None;
        }
    };
    let started = Instant::now();
    let output = Command::new("mpirun")
        .args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none"])
        .args(arguments)
        .arg(env::current_exe().unwrap())
        .args(["rank_program", "--exact", "--nocapture", "--test-threads=1"])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("LD_LIBRARY_PATH", libraries)
        .env(CASE, case)
        .env(FAKE, fake)
        .stdin(Stdio::null())
        .output()
        .expect("mpirun runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Some((text, started.elapsed(), output.status.success()))
}

/// Memory that the fake device shares with this process.
struct Memory(Vec<AtomicU32>);

impl Memory {
    fn new() -> Self {
        Memory((0..4096).map(|_| AtomicU32::new(0)).collect())
    }

    fn set(&self, at: usize, values: &[f32]) {
        values.iter().zip(&self.0[at..]).for_each(|(value, cell)| cell.store(value.to_bits(), Ordering::SeqCst));
    }

    fn get(&self, at: usize, elements: usize) -> Vec<f32> {
        self.0[at..at + elements].iter().map(|cell| f32::from_bits(cell.load(Ordering::SeqCst))).collect()
    }

    fn region(&self, at: usize, elements: usize) -> Region {
        Region { address: std::ptr::from_ref(&self.0[at]) as u64, elements, element: Element::F32 }
    }
}

fn join(host: &Arc<dyn Communicator>, device: &Arc<Device>) -> Result<DeviceGroup, CommError> {
    DeviceGroup::join("dp", host.as_ref(), device.clone(), Options { timeout: TIMEOUT })
}

/// Not a test of its own: what a rank does when mpirun started this program.
#[test]
fn rank_program() {
    let Ok(case) = env::var(CASE) else { return };
    let host: Arc<dyn Communicator> = Arc::new(Mpi::start(Options { timeout: 10 * TIMEOUT }).unwrap());
    let device = Device::open(0).unwrap();
    assert!(Device::open(1).is_err());
    match case.as_str() {
        "collectives" => rank_collectives(&host, &device),
        "refusals" => rank_refusals(&host, &device),
        "leaving" => rank_leaving(&host, &device),
        "absent" => rank_absent(&host, &device),
        "chain" => rank_chain(&host, &device),
        _ => rank_failure(&host, &device),
    }
}

fn rank_collectives(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let (memory, rank, size) = (Memory::new(), host.rank(), host.size());
    assert_eq!(sirocco_comm::nccl::version().unwrap(), "2.28.9");
    let group = join(host, device).unwrap();
    memory.set(0, &[1.0 + rank as f32, 10.0]);
    let flight = group.all_reduce("sum", memory.region(0, 2), "what is kept").unwrap();
    assert_eq!(flight.collective().to_string(), "`sum` of dp (collective 0)");
    assert_eq!(flight.finish().unwrap(), "what is kept");
    let own: Vec<f32> = (0..2 * size).map(|at| (10 * rank + at) as f32).collect();
    memory.set(10, &own);
    let pair = |from: (usize, usize), to: (usize, usize)| (memory.region(from.0, from.1), memory.region(to.0, to.1));
    // Two in one operation: the second takes the first number of each rank's part, and of the parts.
    let pairs = [pair((10, 2 * size), (50, 2)), pair((10, size), (150, 1))];
    group.reduce_scatter("scatter", &pairs, ()).unwrap().wait().unwrap();
    let pairs = [pair((50, 2), (60, 2 * size)), pair((150, 1), (160, size))];
    group.all_gather("gather", &pairs, ()).unwrap().wait().unwrap();
    let (next, before) = ((rank + 1) % size, (rank + size - 1) % size);
    let (sends, receives) = ([(next, memory.region(50, 2))], [(before, memory.region(90, 2))]);
    group.exchange("pass", &sends, &receives, ()).unwrap().wait().unwrap();
    drop(group.all_gather("dropped", &[pair((0, 0), (0, 0))], ()).unwrap());
    println!("rank {rank}: sum {:?} scatter {:?}", memory.get(0, 2), memory.get(50, 2));
    println!("rank {rank}: gather {:?} pass {:?}", memory.get(60, 2 * size), memory.get(90, 2));
    println!("rank {rank}: second {:?}", memory.get(160, size));
    // The watch counts what has ended soon after it has.
    let started = Instant::now();
    let ended = || host.history().into_iter().filter(|event| event.device && event.done.is_some() && !event.failed);
    while ended().count() < 5 && started.elapsed() < TIMEOUT {
        std::thread::yield_now();
    }
    // In the record of the job, beside what the host did.
    let traffic = host.traffic();
    println!("rank {rank}: sum {} bytes, gather {} bytes", traffic["dp/sum"].bytes, traffic["dp/gather"].bytes);
    assert_eq!(traffic["nccl/cards"].calls, 1);
    let lines: Vec<String> = ended().map(|event| event.to_string()).collect();
    assert!(
        lines.len() == 5 && lines[0].starts_with("`sum` of dp (collective 0), all_reduce_f32 between devices, 8 bytes: done "),
        "{lines:?}"
    );
    group.health().unwrap();
}

#[test]
fn collectives_give_what_they_promise_and_leave_nothing_behind() {
    for ranks in [1, 2] {
        let Some((said, _)) = run("collectives", "", ranks) else { return };
        let expected: &[&str] = match ranks {
            1 => &[
                "rank 0: sum [1.0, 10.0] scatter [0.0, 1.0]",
                "rank 0: gather [0.0, 1.0] pass [0.0, 1.0]",
                "rank 0: second [0.0]",
            ],
            _ => &[
                "rank 0: sum [3.0, 20.0] scatter [10.0, 12.0]",
                "rank 1: sum [3.0, 20.0] scatter [14.0, 16.0]",
                "rank 0: gather [10.0, 12.0, 14.0, 16.0] pass [14.0, 16.0]",
                "rank 1: gather [10.0, 12.0, 14.0, 16.0] pass [10.0, 12.0]",
                "rank 1: second [10.0, 12.0]",
                "rank 1: sum 8 bytes, gather 24 bytes",
            ],
        };
        assert!(expected.iter().all(|line| said.contains(line)), "{said}");
        assert_eq!(said.matches("fake nccl: destroy").count(), ranks, "{said}");
        assert_eq!(said.matches("fake cuda: 0 events left").count(), ranks, "{said}");
        assert!(!said.contains("abort"), "{said}");
    }
}

fn rank_refusals(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let memory = Memory::new();
    let refused = |name: &str, ask: &dyn Fn(&DeviceGroup) -> Option<CommError>| {
        let group = join(host, device).unwrap();
        println!("{name}: {}", ask(&group).unwrap());
        // The ranks no longer agree on what comes next.
        assert!(group.all_reduce("later", memory.region(0, 1), ()).is_err());
    };
    let (part, bytes) = (memory.region(0, 3), Region { element: Element::U8, ..memory.region(0, 3) });
    refused("lengths", &|group| group.all_gather("a", &[(part, memory.region(10, 5))], ()).err());
    refused("bytes", &|group| group.all_reduce("b", bytes, ()).err());
    refused("nowhere", &|group| group.all_reduce("c", Region { address: 4096, ..part }, ()).err());
    refused("beyond", &|group| group.all_reduce("d", Region { elements: 20_000, ..part }, ()).err());
    let (half, whole) = (memory.region(1, 3), memory.region(0, 3));
    refused("overlap", &|group| group.all_gather("f", &[(half, whole)], ()).err());
    refused("nobody", &|group| group.exchange("e", &[(7, part)], &[], ()).err());
}

#[test]
fn what_cannot_be_is_refused_before_the_device_sees_it() {
    let Some((said, _)) = run("refusals", "", 1) else { return };
    for expected in [
        "lengths: a device collective failed in `a` of dp (collective 0): 5 elements in all, expected 3 for each of 1 ranks",
        "bytes: a device collective failed in `b` of dp (collective 0): a sum of U8 elements, expected [F32]",
        "nowhere: cuPointerGetAttribute failed in `c` of dp (collective 0): DriverError(CUDA_ERROR_INVALID_VALUE",
        "beyond their allocation of 65536 bytes",
        "overlap: a device collective failed in `f` of dp (collective 0): a part at 0x",
        "nobody: a device collective failed in `e` of dp (collective 0): rank 7 in a group of 1",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

fn rank_failure(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let (memory, rank) = (Memory::new(), host.rank());
    let group = match join(host, device) {
        Ok(group) => group,
        Err(error) => return println!("rank {rank}: {error}"),
    };
    let failed = group.all_reduce("sum", memory.region(0, 2), ()).and_then(|flight| flight.finish()).unwrap_err();
    println!("rank {rank}: {failed}");
    assert_eq!(group.all_reduce("later", memory.region(0, 2), ()).map(|_| ()).unwrap_err(), failed);
    assert_eq!(group.health().unwrap_err(), failed);
}

#[test]
fn a_collective_that_hangs_is_aborted_and_named_in_time() {
    let Some((said, took)) = run_apart("failure", "hang", 2) else { return };
    for rank in 0..2 {
        let expected =
            format!("rank {rank}: NCCL failed in `sum` of dp (collective 0): not done 2.0 s after it began on the device");
        assert!(said.contains(&expected), "{said}");
    }
    let why = "every rank of the group has entered it, and NCCL does not tell which one does not get on";
    assert_eq!(said.matches(why).count(), 2, "{said}");
    assert_eq!(said.matches("fake nccl: abort").count(), 2, "{said}");
    assert!(took < TIMEOUT + Duration::from_secs(20), "{took:?}");
}

/// The last rank does not come to the collective before the others have given up.
fn rank_absent(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let (memory, rank) = (Memory::new(), host.rank());
    let group = join(host, device).unwrap();
    if rank + 1 == host.size() {
        std::thread::sleep(3 * TIMEOUT);
    }
    let failed = group.all_reduce("sum", memory.region(0, 2), ()).and_then(|flight| flight.finish()).unwrap_err();
    println!("rank {rank}: {failed}");
    let event = host.history().into_iter().find(|event| event.device).unwrap();
    assert!(event.failed, "{event}");
}

#[test]
fn a_rank_that_has_not_entered_a_collective_is_named_on_every_rank() {
    let Some((said, _)) = run_apart("absent", "hang", 3) else { return };
    for rank in 0..3 {
        let line =
            said.lines().find(|line| line.contains(&format!("rank {rank}: no progress"))).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("no progress in `sum` of dp (collective 0) 2."), "{said}");
        assert!(
            line.contains("waiting for rank 2: rank 2 has entered nothing since `nccl/joined` (collective 2) ended "),
            "{said}"
        );
    }
}

/// Rank 0 waits for rank 1 on the device, rank 1 for rank 2 on the host, and rank 2 hangs.
fn rank_chain(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let (memory, rank) = (Memory::new(), host.rank());
    let pair = |members: &[usize]| {
        DeviceGroup::join("tp", host.group("tp", members).unwrap().as_ref(), device.clone(), Options { timeout: TIMEOUT })
    };
    let failed = match rank {
        0 => pair(&[0, 1]).unwrap().all_reduce("sum", memory.region(0, 2), ()).and_then(|flight| flight.finish()).unwrap_err(),
        1 => {
            let _group = pair(&[0, 1]).unwrap();
            host.receive_bytes("plan", 2).wait().unwrap_err()
        }
        _ => {
            std::thread::sleep(3 * TIMEOUT);
            host.barrier("next").wait().unwrap_err()
        }
    };
    println!("rank {rank}: {failed}");
}

#[test]
fn who_hangs_is_found_across_devices_and_hosts() {
    let Some((said, _)) = run_apart("chain", "hang", 3) else { return };
    for rank in 0..3 {
        let expected = format!("rank {rank}: no progress in `plan` (message 0 from rank 2 to rank 1) ");
        let line = said.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(" s after rank 1 entered it, waiting for rank 2: rank 2 has entered nothing since "), "{said}");
    }
}

#[test]
fn an_asynchronous_error_ends_the_collective() {
    let Some((said, _)) = run("failure", "ill", 2) else { return };
    let expected = "failed in `sum` of dp (collective 0): remote process exited (code 6): fake detail";
    assert_eq!(said.matches(expected).count(), 2, "{said}");
}

#[test]
fn what_one_rank_lacks_is_told_to_all_before_any_waits_for_it() {
    for (fake, expected) in [
        ("no id", "joining failed in `nccl/join` of dp (collective 0): rank 0: fake text (code 2): fake detail"),
        ("unbound", "joining failed in `nccl/join` of dp (collective 0): rank 1: DriverError(CUDA_ERROR_INVALID_CONTEXT"),
    ] {
        let Some((said, took)) = run("failure", fake, 2) else { return };
        assert_eq!(said.matches(expected).count(), 2, "{said}");
        // Neither NCCL's patience nor the host's was used up.
        assert!(took < 9 * TIMEOUT, "{fake} {took:?}");
    }
}

/// Joins with a timeout that no test would wait for, and leaves a collective behind that hangs.
fn rank_leaving(host: &Arc<dyn Communicator>, device: &Arc<Device>) {
    let (memory, patient) = (Memory::new(), Options { timeout: Duration::from_secs(600) });
    let group = DeviceGroup::join("dp", host.as_ref(), device.clone(), patient).unwrap();
    drop(group.all_reduce("sum", memory.region(0, 2), ()).unwrap());
    let dropped = Instant::now();
    drop(group);
    println!("rank {}: left after {} s", host.rank(), dropped.elapsed().as_secs());
}

#[test]
fn a_group_that_is_left_with_work_under_way_aborts_it() {
    let Some((said, _)) = run("leaving", "hang", 2) else { return };
    assert_eq!((said.matches("fake nccl: abort").count(), said.matches("left after 5 s").count()), (2, 2), "{said}");
}

#[test]
fn two_ranks_with_one_device_are_told_so_before_they_wait_for_each_other() {
    let Some((said, _)) = run("failure", "same", 2) else { return };
    let expected = "ranks 0 and 1 have the same device 00000000000000000000000000000007, expected one each";
    assert_eq!(said.matches(expected).count(), 2, "{said}");
}

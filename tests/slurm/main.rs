//! The ranks of a run on a real Slurm cluster: two of its nodes compute what one machine does, and a power cut ends no more than it must.

mod accounts;
mod confined;
mod document;
mod hits;
mod nodes;
mod status;
mod submitting;
mod sweeps;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{LIMIT, Running, path, wait_for};
use sirocco_tests::slurm::{Cluster, SOON, is_possible, script};
use sirocco_tests::steps::assert_equal;
use sirocco_tests::workplace::Workplace;
use tempfile::TempDir;

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// Four ranks, whose sums go along both axes between the nodes.
const MESH: &str = "parallel.dp=2 parallel.tp=2";

/// A job script for two nodes with two ranks each, which are started as `sirocco train` starts them.
fn on_two_nodes(run: &Path, until: Option<u64>, options: &str) -> String {
    let (trainer, run) = (path("sirocco-train"), run.display());
    let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).max(1));
    let until = until.map_or_else(String::new, |step| format!(" --until {step}"));
    format!(
        "#!/bin/sh\n#SBATCH --nodes=2 --ntasks-per-node=2 --nodelist=n1,n2 {options}\n\
         exec srun --mpi=pmix --label {options} {} run --dir {run} --comm mpi --threads {threads}{until}\n",
        trainer.display()
    )
}

#[test]
fn four_nodes_have_names_addresses_and_memory_of_their_own() {
    let Some(cluster) = Cluster::start() else { return };
    NODES.iter().for_each(|node| assert_eq!(cluster.node_state(node), "idle"));
    let ask = "echo $(hostname) $(ip -4 -brief address show dev eth0 | awk '{print $3}') $(ls /dev/shm | wc -l); touch /dev/shm/$(hostname)";
    let mut said: Vec<String> = Vec::new();
    for _ in 0..2 {
        said.extend(cluster.say("srun", &["--nodes=4", "sh", "-c", ask]).lines().map(str::to_owned));
    }
    said.sort();
    let mut expected: Vec<String> =
        (1..=4).flat_map(|number| [0, 1].map(|files| format!("n{number} 10.77.0.{number}/24 {files}"))).collect();
    expected.sort();
    assert_eq!(said, expected, "host name, address, files in memory before and after one was made");
    assert!(cluster.say("srun", &["--mpi=list"]).contains("pmix"));
}

#[test]
fn clusters_keep_out_of_each_others_way() {
    let (Some(one), Some(other)) = (Cluster::start(), Cluster::start()) else { return };
    one.fail("n4");
    drop(one);
    assert_eq!(other.node_state("n4"), "idle");
    assert_eq!(other.say("srun", &["--nodelist=n4", "hostname"]), "n4\n");
}

#[test]
fn a_cluster_ends_with_whoever_started_it() {
    if !is_possible() {
        return;
    }
    let place = TempDir::new().expect("a temporary directory");
    let directory = place.path().join("cluster");
    let cluster = script(&directory);
    let started = format!("sleep 1000 | {} {} up --until-eof", cluster.get_program().display(), directory.display());
    let test = Running::start(Command::new("sh").args(["-c", &started]));
    let answers = || Running::start(script(&directory).args(["run", "sinfo"])).wait(LIMIT).code == Some(0);
    wait_for("cluster", LIMIT, || answers().then_some(()));
    // Killed with all that it has started and still knows of.
    drop(test);
    wait_for("end of the cluster", LIMIT, || (!answers()).then_some(()));
    let processes = std::fs::read_dir("/proc").expect("the processes").flatten();
    let command_lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    let left: Vec<_> = command_lines.filter(|line| line.contains(&*directory.to_string_lossy())).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_nodes_compute_what_one_machine_does() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    place.prepare("nodes", MESH);
    let job = cluster.submit(&on_two_nodes(&place.path().join("nodes"), None, ""), place.path());
    let here = place.trained("here", MESH);
    job.wait_until("COMPLETED", LIMIT);
    assert_equal("two nodes", &here, &place.steps("nodes"));
    assert!(
        place.export("here", "export-here", &["--adapter"]) == place.export("nodes", "export-nodes", &["--adapter"]),
        "adapters"
    );
}

/// The steps that are done by the time of the power cut, at least; a checkpoint of ten of them has been written.
const STEPS: usize = 16;

/// Seconds without progress after which ranks give up.
const TIMEOUT: u64 = 5;

#[test]
fn a_power_cut_leaves_a_checkpoint_and_ranks_that_say_whom_they_lost() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let settings = format!("{MESH} train.steps=1000000 train.schedule=constant parallel.timeout_s={TIMEOUT} eval.every_steps=0");
    let run = place.path().join("run");
    place.prepare("run", &settings);
    // Slurm would end the ranks that are left, and begin the job again; here they end by themselves.
    let job = cluster.submit(&on_two_nodes(&run, None, "--no-kill"), place.path());
    wait_for("sixteenth step", LIMIT, || (place.steps("run").len() >= STEPS).then_some(()));
    cluster.fail("n2");
    let cut = Instant::now();
    let lost = [2, 3].map(|rank| rank_process(&run, rank));
    assert_eq!(lost, [None, None], "nothing is left of a node without power");
    wait_for("end of the ranks that are left", LIMIT, || {
        [0, 1].iter().all(|rank| rank_process(&run, *rank).is_none()).then_some(())
    });
    let took = cut.elapsed();
    assert!(took < Duration::from_secs(TIMEOUT + 5), "ended {took:?} after the power cut\n{}", job.output());
    job.wait_until("FAILED", SOON);
    // Some gradients are summed over all four ranks and some over one of each node: who is waited for depends on which it was.
    let lost = ["2, 3 on n2: rank 2", "2 on n2: rank 2", "3 on n2: rank 3"]
        .map(|ranks| format!("entered it, waiting for rank {ranks} does not answer"));
    for rank in [0, 1] {
        // Whoever gives up first tells the other, which may say the same instead of its own.
        let output = job.output();
        let said =
            output.lines().find_map(|line| line.strip_prefix(&format!("{rank}: error: no progress in "))).unwrap_or_default();
        assert!(lost.iter().any(|lost| said.ends_with(lost)), "{output}");
    }
    cluster.wait_for_node("n2", "down", SOON);
    cluster.recover("n2");

    let until = place.steps("run").len() as u64 + 5;
    let job = cluster.submit(&on_two_nodes(&run, Some(until), ""), place.path());
    job.wait_until("FAILED", LIMIT);
    assert_eq!(job.field("ExitCode"), "75:0", "{}", job.output());
    let log = std::fs::read_to_string(run.join("logs/rank-00000.log")).expect("a log");
    let (_, resumed) = log.rsplit_once(" first=").expect("where it went on");
    let first: usize = resumed.split_whitespace().next().and_then(|step| step.parse().ok()).expect("a step");
    assert!(first >= STEPS / 5 * 5 - 5, "went on from step {first}");
    place.train("here", &format!("{settings} --until {until}")).expect_code(75);
    assert_equal("a run that went on", &place.steps("here"), &place.steps("run"));
}

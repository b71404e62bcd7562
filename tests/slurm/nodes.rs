//! The test of every node of an allocation, on nodes: all answer soon, and one that does not see the run directory says so.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sirocco_tests::program::{LIMIT, path};
use sirocco_tests::slurm::{Cluster, Job};
use sirocco_tests::workplace::Workplace;

use super::NODES;

/// Milliseconds in which four nodes have answered, and in which their links are measured; from the start of the step to its end.
const SOON: [u64; 2] = [3000, 5000];

/// A job on four nodes: one command before, then the test of each node and of the links, with the seconds that each of the two took.
fn tested<'a>(cluster: &'a Cluster, place: &Workplace, run: &Path, before: &str) -> Job<'a> {
    let (trainer, run) = (path("sirocco-train"), run.display());
    let trainer = trainer.display();
    let step = |options: &str, words: &str| {
        format!(
            "b=$(date +%s%N); srun {options} --nodes=4 --ntasks-per-node=1 {trainer} node --dir {run} {words} || exit 1\n\
             e=$(date +%s%N); echo took $(( (e - b) / 1000000 ))\n"
        )
    };
    let script = format!(
        "#!/bin/sh\n#SBATCH --nodes=4 --ntasks-per-node=1\nexport GOMP_SPINCOUNT=1000\n{before}\n{}{}",
        step("", "--stamp \"job 7\""),
        step("--mpi=pmix", "--link")
    );
    let job = cluster.submit(&script, place.path());
    job.wait_until("COMPLETED", LIMIT);
    job
}

fn lines(job: &Job<'_>) -> Vec<Value> {
    job.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The answers of the nodes, by name.
fn answers(job: &Job<'_>) -> BTreeMap<String, Value> {
    let answers = lines(job).into_iter().filter(|line| line["stamp"].is_boolean());
    answers.map(|answer| (answer["node"].as_str().unwrap_or_default().to_owned(), answer)).collect()
}

#[test]
fn four_nodes_answer_soon_and_so_do_their_links() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    place.prepare("run", "parallel.dp=4");
    let run = place.path().join("run");
    let stamp = format!("mkdir -p {0}/.nodes; echo job 7 > {0}/.nodes/stamp", run.display());
    let job = tested(&cluster, &place, &run, &stamp);
    let answers = answers(&job);
    assert!(answers.keys().eq(NODES), "{}", job.output());
    for (name, answer) in &answers {
        assert_eq!((&answer["stamp"], &answer["reasons"]), (&true.into(), &serde_json::json!({})), "{name}: {answer}");
        let products = answer["devices"][0]["products"].as_array().expect("products");
        assert!(products.len() == 2 && products.iter().all(|product| product["wrong_rows"] == 0), "{name}: {answer}");
    }
    let lines = lines(&job);
    let mut pairs: Vec<String> = lines
        .iter()
        .filter(|line| line["line"] == "pair" && line["bytes_per_s"].as_f64().is_some_and(|speed| speed > 0.0))
        .map(|pair| format!("{}{}", pair["nodes"][0].as_str().unwrap_or_default(), pair["nodes"][1].as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    assert_eq!(pairs, ["n1n2", "n1n3", "n1n4", "n2n3", "n2n4", "n3n4"], "{}", job.output());
    let output = job.output();
    let took: Vec<u64> = output.lines().filter_map(|line| line.strip_prefix("took ")?.parse().ok()).collect();
    assert!(took.len() == 2 && took.iter().zip(SOON).all(|(took, soon)| *took <= soon), "{took:?} ms\n{output}");
}

#[test]
fn nodes_that_do_not_see_the_run_directory_say_so() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    place.prepare("run", "parallel.dp=4");
    // The job script runs on the first node, whose memory the others do not see.
    let own = Path::new("/dev/shm/run");
    let copy = format!(
        "cp -r {} {1}; mkdir {1}/.nodes; echo job 7 > {1}/.nodes/stamp",
        place.path().join("run").display(),
        own.display()
    );
    let job = tested(&cluster, &place, own, &copy);
    let answers = answers(&job);
    let seen: Vec<bool> = NODES.iter().map(|node| answers[*node]["stamp"] == true).collect();
    assert_eq!(seen, [true, false, false, false], "{}", job.output());
    for answer in NODES[1..].iter().map(|node| &answers[*node]) {
        for field in ["stamp", "write_s", "space.run", "devices"] {
            let reason = answer["reasons"][field].as_str().unwrap_or_default();
            assert!(reason.contains("/dev/shm/run") && reason.contains("No such file"), "{field}: {answer}");
        }
    }
}

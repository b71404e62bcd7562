//! Verdicts over what four nodes of the test suite's Slurm have said, with one thing changed at a time.

use serde_json::{Value, json};

use super::*;

/// What `srun sirocco-train node` printed on n1; the others differed in name, clock and tenths of speed and memory.
const ANSWER: &str = r#"{"node":"n1","host":"n1","boot":1795316048.0,"clock":1795353543.506043,"seconds":0.444647967,"versions":{"kernel":"6.18.44","libc":"glibc 2.36","libtorch":"2.11.0","sirocco":"0.1.0 (SHA-256 a9e86a6865d8)"},"cores":2,"memory_bytes":25276518400,"memory_available_bytes":23797821440,"devices":[{"name":"cpu","kind":"AMD EPYC","products":[{"dtype":"fp32","gflops":230.1,"rows":1024,"wrong_rows":0},{"dtype":"bf16","gflops":971.0,"rows":1024,"wrong_rows":0}],"memory":null,"failed":null}],"space":{"run":{"path":"/scratch/run","free_bytes":14243725312},"tmp":{"path":"/tmp","free_bytes":14243725312}},"stamp":true,"write_s":0.004999296,"files":[{"path":"/scratch/model","error":null},{"path":"/scratch/run/tokens/train.tokens","error":null}],"reasons":{}}"#;

/// What it printed on a node that does not see the run directory.
const BLIND: &str = r#"{"node":"n1","host":"n1","boot":1795316048.0,"clock":1795353543.506043,"seconds":0.544647967,"versions":{"kernel":"6.18.44","libc":"glibc 2.36","libtorch":"2.11.0","sirocco":"0.1.0 (SHA-256 a9e86a6865d8)"},"cores":2,"memory_bytes":25276518400,"memory_available_bytes":24521474048,"devices":null,"space":{"run":{"path":"/dev/shm/run","free_bytes":null},"tmp":{"path":"/tmp","free_bytes":18340589568}},"stamp":false,"write_s":null,"files":[],"reasons":{"devices":"the settings of the run cannot be read: /dev/shm/run/run.toml: cannot read the run file: No such file or directory (os error 2)","space.run":"/dev/shm/run: No such file or directory (os error 2)","stamp":"/dev/shm/run/.nodes/stamp: No such file or directory (os error 2)","write_s":"/dev/shm/run/.nodes/n1-10.part: No such file or directory (os error 2)"}}"#;

const LINKS: &str = r#"{"line":"pair","nodes":["n1","n4"],"latency_s":0.0000420325,"bytes_per_s":1385289385.1745159,"reason":null}
{"line":"pair","nodes":["n1","n3"],"latency_s":0.000079133,"bytes_per_s":1861328432.033311,"reason":null}
{"line":"pair","nodes":["n1","n2"],"latency_s":0.00006688,"bytes_per_s":1894648953.365535,"reason":null}
{"line":"pair","nodes":["n2","n3"],"latency_s":0.0000155585,"bytes_per_s":1200933972.683076,"reason":null}
{"line":"pair","nodes":["n2","n4"],"latency_s":0.0000785675,"bytes_per_s":1455877959.6880417,"reason":null}
{"line":"pair","nodes":["n3","n4"],"latency_s":0.000079063,"bytes_per_s":1023514313.2324013,"reason":null}
{"line":"summary","nodes":["n1","n2","n3","n4"],"seconds":0.13861675,"pairs":6,"measured":6,"reason":null,"error":null,"missing":[]}"#;

const NAMES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// An answer in the name of a node.
fn of(node: &str, text: &str) -> Value {
    let mut answer: Value = serde_json::from_str(text).unwrap();
    (answer["node"], answer["host"]) = (json!(node), json!(node));
    answer
}

/// The verdict over nodes, of which the last one's answer is changed.
fn verdict(count: usize, needs: Needs, change: impl FnOnce(&mut Value)) -> Verdict {
    let nodes: Vec<String> = NAMES[..count].iter().map(|name| (*name).to_owned()).collect();
    let mut said: Vec<Value> = nodes.iter().map(|node| of(node, ANSWER)).collect();
    change(said.last_mut().unwrap());
    let printed: String = said.iter().map(|answer| format!("{answer}\n")).collect();
    judge(&asked(&nodes, needs), &answers(&printed), &[])
}

fn asked(nodes: &[String], needs: Needs) -> Asked<'_> {
    Asked { nodes, began: 1_795_353_542.5, ended: 1_795_353_543.6, needs }
}

/// Why the last of four nodes, and no other one, is unfit.
#[track_caller]
fn why(needs: Needs, change: impl FnOnce(&mut Value)) -> String {
    let verdict = verdict(4, needs, change);
    assert_eq!(verdict.unfit.iter().map(|unfit| unfit.node.as_str()).collect::<Vec<_>>(), ["n4"], "{verdict:?}");
    verdict.unfit[0].why.clone()
}

fn needs_nothing(change: impl FnOnce(&mut Value)) -> String {
    why(Needs::default(), change)
}

#[test]
fn sound_nodes_are_fit() {
    let needs = Needs { checkpoint_bytes: 1 << 30, ..Needs::default() };
    for count in 1..=4 {
        assert_eq!(verdict(count, needs, |_| ()), Verdict::default(), "{count} nodes");
    }
}

#[test]
fn a_node_that_says_nothing_is_unfit() {
    let nodes = NAMES.map(str::to_owned);
    let printed = format!("0: {ANSWER}\nwarning: {{ of a module }}\n{{\"cut off\n");
    let verdict = judge(&asked(&nodes[..2], Needs::default()), &answers(&printed), &[]);
    assert_eq!(verdict.unfit, [Unfit { node: "n2".to_owned(), why: "did not answer".to_owned() }]);
    // A host's name may have a domain, and Slurm's name for it may be another one.
    let mut answer = of("n1.cluster.eu", ANSWER);
    assert!(judge(&asked(&nodes[..1], Needs::default()), &answers(&answer.to_string()), &[]).unfit.is_empty());
    answer["node"] = json!("n2");
    assert!(judge(&asked(&nodes[1..2], Needs::default()), &answers(&answer.to_string()), &[]).unfit.is_empty());
}

#[test]
fn wrong_numbers_are_unfit_on_any_number_of_nodes() {
    let wrong = |answer: &mut Value| answer["devices"][0]["products"][1]["wrong_rows"] = json!(3);
    let said = "cpu computes wrong numbers: 3 of 1024 rows of a matrix product in bf16, expected 0";
    assert_eq!(needs_nothing(wrong), said);
    assert_eq!(verdict(1, Needs::default(), wrong).unfit[0].why, said);
}

#[test]
fn a_slow_node_is_unfit_where_two_others_show_it() {
    let slow = |answer: &mut Value| answer["devices"][0]["products"][0]["gflops"] = json!(115.0);
    let said = "is slow: 115 GFLOP/s in a fp32 matrix product, expected at least half of the 230 of the median of 4 nodes";
    assert_eq!(needs_nothing(slow), said);
    assert_eq!(verdict(3, Needs::default(), slow).unfit.len(), 1);
    assert_eq!(verdict(2, Needs::default(), slow), Verdict::default(), "of two, nobody knows which is odd");
    let not_slow = |answer: &mut Value| answer["devices"][0]["products"][0]["gflops"] = json!(116.0);
    assert_eq!(verdict(4, Needs::default(), not_slow), Verdict::default());
}

#[test]
fn less_memory_than_the_others_is_unfit() {
    assert_eq!(
        needs_nothing(|answer| answer["memory_bytes"] = json!(12_638_259_200u64)),
        "has 12.64 GB of memory: expected the 25.28 GB of the other nodes"
    );
    assert_eq!(
        needs_nothing(|answer| answer["memory_available_bytes"] = json!(5_000_000_000u64)),
        "has 5.00 GB of memory free: expected about 23.80 GB as on the other nodes; another program holds the rest"
    );
}

#[test]
fn gpus_that_are_missing_held_by_others_or_broken_are_unfit() {
    let gpu = |number: u64| {
        json!({"name": format!("cuda:{number}"), "kind": "NVIDIA A100", "products": [], "failed": null,
               "memory": {"bytes": 40_000_000_000u64, "free_bytes": 39_000_000_000u64, "tested_bytes": 36_000_000_000u64, "wrong_words": 0}})
    };
    let needs = Needs { gpus: 2, ..Needs::default() };
    let nodes = NAMES[..2].iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let judged = |change: &dyn Fn(&mut Value)| {
        let mut said = [of("n1", ANSWER), of("n2", ANSWER)];
        said.iter_mut().for_each(|answer| answer["devices"] = json!([gpu(0), gpu(1)]));
        change(&mut said[1]);
        let verdict = judge(&asked(&nodes, needs), &answers(&format!("{}\n{}", said[0], said[1])), &[]);
        assert!(verdict.unfit.iter().all(|unfit| unfit.node == "n2") && verdict.unfit.len() < 2, "{verdict:?}");
        verdict.unfit.first().map(|unfit| unfit.why.clone()).unwrap_or_default()
    };
    assert_eq!(judged(&|_| ()), "");
    assert_eq!(judged(&|answer| answer["devices"] = json!([gpu(0)])), "has 1 GPU that can be seen: expected 2");
    assert_eq!(
        judged(&|answer| answer["devices"][1]["memory"]["free_bytes"] = json!(20_000_000_000u64)),
        "cuda:1 has 20.00 GB of 40.00 GB of its memory free: expected 80 %; nvidia-smi says who holds it"
    );
    assert_eq!(
        judged(&|answer| answer["devices"][0]["memory"]["wrong_words"] = json!(5)),
        "cuda:0 has bad memory: 5 words of 36.00 GB came back wrong, expected 0"
    );
    let failed = |answer: &mut Value| answer["devices"][0]["failed"] = json!("CUDA error: uncorrectable ECC error");
    assert_eq!(judged(&failed), "cuda:0 cannot be used: CUDA error: uncorrectable ECC error");
    let none = |answer: &mut Value| {
        answer["devices"] = Value::Null;
        answer["reasons"]["devices"] = json!("dlopen: no CUDA driver");
    };
    assert_eq!(judged(&none), "could not be tested: dlopen: no CUDA driver");
}

#[test]
fn a_clock_is_compared_with_the_time_that_asking_took() {
    assert_eq!(
        needs_nothing(|answer| answer["clock"] = json!(1_795_353_600.0)),
        "its clock is 56.4 s ahead of that of the first node: expected at most 2 s; synchronise it with NTP"
    );
    assert_eq!(
        needs_nothing(|answer| answer["clock"] = json!(1_795_353_540.0)),
        "its clock is 2.5 s behind that of the first node: expected at most 2 s; synchronise it with NTP"
    );
    for clock in [1_795_353_540.6, 1_795_353_545.5] {
        assert_eq!(verdict(4, Needs::default(), |answer| answer["clock"] = json!(clock)), Verdict::default());
    }
}

#[test]
fn another_version_than_most_is_unfit_and_a_draw_is_a_note() {
    let other = |answer: &mut Value| answer["versions"]["libc"] = json!("glibc 2.41");
    assert_eq!(needs_nothing(other), "has another libc than most nodes: found glibc 2.41, expected glibc 2.36");
    let draw = verdict(2, Needs::default(), other);
    assert!(draw.unfit.is_empty());
    assert_eq!(draw.notes, ["the nodes have different versions of libc, none of them most: glibc 2.36, glibc 2.41"]);
    let without = |answer: &mut Value| answer["versions"]["sirocco"] = Value::Null;
    assert!(needs_nothing(without).starts_with("has another sirocco than most nodes: found none, expected 0.1.0 (SHA-256 "));
    let kernel = |answer: &mut Value| answer["versions"]["kernel"] = json!("6.18.45");
    assert_eq!(verdict(4, Needs::default(), kernel), Verdict::default(), "nodes are brought up to date one by one");
}

#[test]
fn a_disk_without_room_for_a_checkpoint_is_unfit() {
    let needs = Needs { checkpoint_bytes: 10 << 30, staged_bytes: 1 << 30, ..Needs::default() };
    assert_eq!(
        why(needs, |answer| answer["space"]["run"]["free_bytes"] = json!(1_000_000_000u64)),
        "/scratch/run has 1.00 GB free: expected 10.74 GB for one checkpoint"
    );
    assert_eq!(
        why(needs, |answer| answer["space"]["staging"] = json!({"path": "/nvme", "free_bytes": 1000})),
        "/nvme has 1.0 kB free: expected 1.07 GB for one checkpoint"
    );
}

#[test]
fn a_node_that_does_not_see_the_run_directory_is_told_once_what_to_do() {
    assert_eq!(
        needs_nothing(|answer| *answer = of("n4", BLIND)),
        "does not see the run directory of this job (/dev/shm/run/.nodes/stamp: No such file or directory (os error 2)): put it on a \
         file system that all nodes share"
    );
}

#[test]
fn files_that_cannot_be_read_or_written_are_unfit() {
    let closed = |answer: &mut Value| answer["files"][1]["error"] = json!("Permission denied (os error 13)");
    assert_eq!(needs_nothing(closed), "cannot read /scratch/run/tokens/train.tokens: Permission denied (os error 13)");
    let model = |answer: &mut Value| answer["files"][0]["error"] = json!("/scratch/model/config.json: No such file");
    assert_eq!(needs_nothing(model), "cannot read /scratch/model/config.json: No such file");
    let unwritable = |answer: &mut Value| {
        answer["write_s"] = Value::Null;
        answer["reasons"]["write_s"] = json!("it took longer than 5 s");
    };
    assert_eq!(needs_nothing(unwritable), "cannot write in the run directory: it took longer than 5 s");
}

/// What the links say of four nodes, with the speed of some pairs changed.
fn by_links(change: impl Fn(&[&str; 2]) -> f64) -> Vec<Unfit> {
    let mut lines = links(LINKS);
    assert_eq!(lines.len(), 7);
    for line in &mut lines {
        if let LinkLine::Pair(pair) = line {
            let nodes = [pair.nodes[0].as_str(), pair.nodes[1].as_str()];
            pair.bytes_per_s = pair.bytes_per_s.map(|speed| speed * change(&nodes));
        }
    }
    unfit_by(&lines)
}

fn unfit_by(lines: &[LinkLine]) -> Vec<Unfit> {
    let nodes = NAMES.map(str::to_owned);
    let printed: String = nodes.iter().map(|node| format!("{}\n", of(node, ANSWER))).collect();
    judge(&asked(&nodes, Needs::default()), &answers(&printed), lines).unfit
}

#[test]
fn most_links_of_a_node_slow_is_unfit_and_one_is_not() {
    assert_eq!(by_links(|_| 1.0), []);
    assert_eq!(by_links(|nodes| if *nodes == ["n1", "n2"] { 0.01 } else { 1.0 }), [], "which of the two is it?");
    let unfit = by_links(|nodes| if nodes.contains(&"n3") { 0.1 } else { 1.0 });
    assert_eq!(unfit.len(), 1, "{unfit:?}");
    assert_eq!(
        (unfit[0].node.as_str(), unfit[0].why.as_str()),
        (
            "n3",
            "has slow links: 3 of 3 measured, the best of them 186 MB/s; expected at least a third of the 1385 MB/s of the median"
        )
    );
}

#[test]
fn of_three_nodes_the_one_with_slow_links_is_found_and_of_two_none() {
    let pair = |one: &str, other: &str, bytes_per_s: f64| {
        let nodes = [one, other].map(str::to_owned);
        LinkLine::Pair(sirocco_config::LinkReport { nodes, bytes_per_s: Some(bytes_per_s), ..Default::default() })
    };
    let unfit = unfit_by(&[pair("n1", "n2", 9e9), pair("n1", "n3", 1e8), pair("n2", "n3", 1e8)]);
    assert_eq!(unfit.iter().map(|unfit| unfit.node.as_str()).collect::<Vec<_>>(), ["n3"]);
    assert_eq!(unfit_by(&[pair("n1", "n2", 1e6)]), []);
    assert_eq!(unfit_by(&[pair("n1", "n1", 1e6)]), [], "two ranks of one node");
}

#[test]
fn a_node_that_is_silent_on_the_network_is_unfit() {
    let printed = r#"{"line":"summary","nodes":["n1","n2","n3","n4"],"seconds":10.1,"pairs":6,"measured":0,"reason":"the test was not finished","error":"no progress in `ready`","missing":["n2"]}"#;
    let unfit = unfit_by(&links(printed));
    assert_eq!(unfit, [Unfit { node: "n2".to_owned(), why: "does not answer other nodes: no progress in `ready`".to_owned() }]);
    let nobody = printed.replace(r#"["n2"]}"#, "[]}");
    let nodes = NAMES.map(str::to_owned);
    let said: String = nodes.iter().map(|node| format!("{}\n", of(node, ANSWER))).collect();
    let verdict = judge(&asked(&nodes, Needs::default()), &answers(&said), &links(&nobody));
    assert!(verdict.unfit.is_empty());
    assert_eq!(verdict.notes, ["the links between nodes could not be measured: no progress in `ready`"]);
}

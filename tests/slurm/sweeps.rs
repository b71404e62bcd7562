//! A sweep as one thing: the status of all its runs, and the end of every one, also of those that still wait for nodes.

use serde_json::Value;
use sirocco_tests::program::{LIMIT, wait_for};
use sirocco_tests::slurm::Cluster;
use sirocco_tests::workplace::Workplace;

use crate::submitting::{SITE, ended, events, sirocco, told};

#[test]
fn a_sweep_is_shown_and_cancelled_at_once() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let sets: String = SITE.split_whitespace().map(|setting| format!(" --set {setting}")).collect();
    let more = "--set train.steps=1000000 --set train.schedule=constant --set eval.every_steps=0";
    // Two of the three fit on the four nodes.
    let words = format!("submit run.toml --dir sweep{sets} {more} --sweep seed=1,2,3");
    sirocco(&cluster, &place, &words).expect_code(0);
    // What a run is, and whether it has done a step: from then on its ranks listen to signals.
    let states = || {
        let said = sirocco(&cluster, &place, "status sweep --json").expect_code(0).stdout;
        let said: Value = serde_json::from_str(said.trim()).expect("JSON");
        let state = |run: &Value| (run["state"].as_str().unwrap_or_default().to_owned(), run["step"].as_u64() > Some(0));
        said["runs"].as_array().expect("runs").iter().map(state).collect::<Vec<_>>()
    };
    let [queued, running] = [("queued".to_owned(), false), ("running".to_owned(), true)];
    wait_for("two runs that train and one that waits", LIMIT, || {
        let mut states = states();
        states.sort();
        (states == [queued.clone(), running.clone(), running.clone()]).then_some(())
    });
    let said = sirocco(&cluster, &place, "status sweep").expect_code(0).stdout;
    assert!(said.starts_with("sweep: 3 runs: ") && said.contains("seed=3") && said.contains("queued ("), "{said}");
    let said = sirocco(&cluster, &place, "cancel sweep").expect_code(0).stdout;
    assert!(said.contains("sweep: 3 runs, 3 cancelled\n") && said.contains(" was removed before it ran\n"), "{said}");
    assert_eq!(said.matches(" stops at its next step, with a checkpoint\n").count(), 2, "{said}");
    let runs: Vec<_> = (0..3).map(|number| place.path().join(format!("sweep/{number:04}"))).collect();
    for run in runs.iter().filter(|run| events(run).iter().any(|event| event["event"] == "ranks")) {
        assert_eq!(ended(run, LIMIT)["outcome"], "stopped", "{}", told(run));
    }
    // What waited did not take the nodes of what was stopped.
    let trained = runs.iter().filter(|run| events(run).iter().any(|event| event["event"] == "started")).count();
    assert_eq!(trained, 2);
    wait_for("the end of every job", LIMIT, || cluster.say("squeue", &["--noheader"]).is_empty().then_some(()));
    assert!(states().iter().all(|(state, _)| state == "cancelled"), "{:?}", states());
}

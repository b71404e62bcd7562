//! Jobs whose ranks are kept from the network: measured on each node before the first step, or refused before anything waits in a queue.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sirocco_tests::program::LIMIT;
use sirocco_tests::slurm::Cluster;
use sirocco_tests::workplace::Workplace;

use super::submitting::{SITE, ended, sirocco, submit, told};

/// All may be done, but for what stays in its country, and trains only where level 1 was measured.
const RULES: &str = r#"@id("all")
permit(principal, action, resource);
@id("residency")
@advice("ask whoever answers for the data")
forbid(principal, action, resource)
unless { resource.residency.anywhere || resource.residency.countries.contains(context.site.country) };
@id("confinement")
@advice("use nodes where level 1 is reached")
forbid(principal, action in [Action::"train", Action::"resume"], resource) unless { context.confinement.measured >= 1 };
"#;

/// Rules whose data belongs to Luxembourg, where the cluster is in `country`.
fn rules(place: &Workplace, country: &str) {
    let set = place.path().join("rules");
    fs::create_dir_all(&set).expect("the set");
    fs::write(set.join("policy.cedar"), RULES).expect("the rules");
    let data = |name: &str| {
        let path = place.path().join(format!("{name}.jsonl"));
        format!("[data.{name}]\npath = {:?}\nresidency = [\"LU\"]\n", fs::canonicalize(path).expect("the data"))
    };
    let model = fs::canonicalize(place.path().join("model")).expect("the model");
    let model = format!("[model.tiny]\npath = {model:?}\nresidency = \"anywhere\"\n");
    let site = format!("[site.slurm]\ncountry = \"{country}\"\n");
    fs::write(set.join("facts.toml"), [data("train"), data("valid"), model, site].concat()).expect("the facts");
    fs::write(set.join("cases.toml"), "").expect("the cases");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The entries of a run's ledger with this verb, in their order.
fn entries(run: &Path, verb: &str) -> Vec<Value> {
    let texts = files(&run.join("ledger")).into_iter().filter_map(|file| fs::read(file).ok());
    let text: String = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    let starts: Vec<usize> = text.match_indices("{\"").map(|(at, _)| at).collect();
    let parsed =
        starts.into_iter().filter_map(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok());
    parsed.filter(|entry| entry["verb"] == verb).collect()
}

#[test]
fn nodes_are_measured_before_the_first_step_and_what_cannot_be_had_is_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let site = format!("{SITE} policy.set=rules");
    let typed = |directory: &str, settings: &str| {
        let sets: String = format!("{site} {settings}").split_whitespace().map(|set| format!(" --set {set}")).collect();
        sirocco(&cluster, &place, &format!("submit run.toml --dir {directory}{sets}"))
    };
    rules(&place, "IT");
    typed("abroad", "").expect_code(3).expect_words(&["rule residency"]);
    rules(&place, "LU");
    let refused = typed("beyond", "policy.confinement=2").expect_code(5);
    refused.expect_words(&["[policy] confinement = 2 is demanded, and level 1 (seccomp) is the highest", "a job of 2 nodes"]);
    assert_eq!(cluster.say("squeue", &["--noheader", "--states=all"]), "", "nothing was submitted");
    assert!(!place.path().join("abroad").exists() && !place.path().join("beyond").exists());

    submit(&cluster, &place, &format!("{site} policy.confinement=1"));
    let run = place.path().join("run");
    let last = ended(&run, LIMIT);
    assert_eq!(last["outcome"], "done", "{}", told(&run));
    for rank in 0..4 {
        let log = fs::read_to_string(run.join(format!("logs/rank-{rank:05}.log"))).expect("a log");
        assert!(log.contains("confinement=\"seccomp\""), "{log}");
    }
    let measured = entries(&run, "node.confined");
    let hosts: Vec<&Value> = measured.iter().map(|entry| &entry["facts"]["host"]).collect();
    // The data was read where the run was submitted, before anything was submitted.
    assert_eq!(hosts, ["ctl", "n1", "n2"], "{measured:?}");
    for entry in &measured[1..] {
        let report: Value = serde_json::from_str(entry["facts"]["report"].as_str().expect("a report")).expect("JSON");
        let attempts = report["attempts"].as_array().expect("attempts");
        assert!(entry["facts"]["level"] == 1 && attempts.len() >= 20, "{entry}");
        assert_eq!(report["applied"]["gaps"].as_array().is_some_and(|gaps| gaps.contains(&"peers".into())), true, "{report}");
        let raw = attempts.iter().find(|attempt| attempt["name"] == "raw socket").expect("an attempt");
        assert_eq!(raw["got_through"], false, "{raw}");
    }
}

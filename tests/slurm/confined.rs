//! Jobs whose ranks are kept from the network: measured on each node before the first step, or refused before anything waits in a queue.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sirocco_tests::program::{LIMIT, path, wait_for};
use sirocco_tests::slurm::{Cluster, SOON};
use sirocco_tests::workplace::Workplace;

use super::submitting::{SITE, ended, events, sirocco, submit, told};

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

/// What was measured, by host: the ledger keeps an entry in more than one file.
fn measured(run: &Path) -> BTreeMap<String, Value> {
    let texts = files(&run.join("ledger")).into_iter().filter_map(|file| fs::read(file).ok());
    let text: String = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    let starts: Vec<usize> = text.match_indices("{\"").map(|(at, _)| at).collect();
    let parsed =
        starts.into_iter().filter_map(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok());
    let measured = parsed.filter(|entry| entry["verb"] == "node.confined");
    measured.map(|entry| (entry["facts"]["host"].as_str().unwrap_or_default().to_owned(), entry)).collect()
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
    let nodes = measured(&run);
    // The data was read where the run was submitted, before anything was submitted.
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["ctl", "n1", "n2"]);
    for entry in ["n1", "n2"].map(|node| &nodes[node]) {
        let report: Value = serde_json::from_str(entry["facts"]["report"].as_str().expect("a report")).expect("JSON");
        let attempts = report["attempts"].as_array().expect("attempts");
        assert!(entry["facts"]["level"] == 1 && attempts.len() >= 20, "{entry}");
        assert!(report["applied"]["gaps"].as_array().is_some_and(|gaps| gaps.contains(&"peers".into())), "{report}");
        let raw = attempts.iter().find(|attempt| attempt["name"] == "raw socket").expect("an attempt");
        assert_eq!(raw["got_through"], false, "{raw}");
    }
    sirocco(&cluster, &place, "evidence run --to evidence").expect_code(0);
    for node in ["n1", "n2"] {
        assert!(place.path().join(format!("evidence/confinement/{node}.json")).is_file(), "{node}");
    }

    // A node that cannot be measured: it has no directory for the canary. What this program is there, only that node sees.
    let (program, own) = (path("sirocco"), place.path().join("own-sirocco"));
    fs::copy(&program, &own).expect("a copy");
    let other = place.path().join("other-sirocco");
    fs::write(&other, format!("#!/bin/sh\nTMPDIR=/nowhere exec {} \"$@\"\n", own.display())).expect("a script");
    fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).expect("a program");
    let [other, program] = [other, program].map(|path| path.display().to_string());
    cluster.say("srun", &["--nodelist=n2", "mount", "--bind", &other, &program]);
    typed("broken", "policy.confinement=1 site.restarts=3").expect_code(0);
    let run = place.path().join("broken");
    let last = ended(&run, LIMIT);
    let why = last["why"].as_str().unwrap_or_default();
    assert!(why.contains("no rank was started: n2: ") && !why.contains("n1: "), "{}", told(&run));
    assert!(events(&run).iter().all(|event| event["event"] != "ranks"), "{}", told(&run));
    let job = last["job"].as_str().expect("a job");
    wait_for("the end of the job", SOON, || {
        cluster.say("scontrol", &["--oneliner", "show", "job", job]).contains("ExitCode=5:0").then_some(())
    });
    cluster.say("srun", &["--nodelist=n2", "umount", &program]);

    // One node is as one machine: its ranks have a network of their own, where the kernel gives them one.
    if nodes["ctl"]["facts"]["level"] != 2 {
        return;
    }
    typed("one", "site.nodes=1 parallel.tp=1 policy.confinement=2").expect_code(0);
    let run = place.path().join("one");
    assert_eq!(ended(&run, LIMIT)["outcome"], "done", "{}", told(&run));
    for rank in 0..2 {
        let log = fs::read_to_string(run.join(format!("logs/rank-{rank:05}.log"))).expect("a log");
        assert!(log.contains("confinement=\"network_namespace\""), "{log}");
    }
    assert!(measured(&run).iter().any(|(host, entry)| host != "ctl" && entry["facts"]["level"] == 2));
}

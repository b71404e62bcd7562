//! Every command of docs/slurm.md, typed in its order on a real cluster.

use std::collections::BTreeMap;

use sirocco_tests::material::RUN_FILE;
use sirocco_tests::program::LIMIT;
use sirocco_tests::repository::root;
use sirocco_tests::slurm::Cluster;
use sirocco_tests::workplace::Workplace;

use crate::submitting::{ended, sirocco, told};

/// The commands of the page: the lines of fenced blocks without a language, without the remarks at their ends.
fn commands() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/slurm.md")).expect("docs/slurm.md");
    let (mut found, mut language) = (Vec::new(), None);
    for line in page.lines() {
        match (line.strip_prefix("```"), language) {
            (Some(name), None) => language = Some(name),
            (Some(_), Some(_)) => language = None,
            (None, Some("")) if line.starts_with("sirocco ") => {
                found.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
            }
            _ => {}
        }
    }
    found
}

/// What stands on the page for what a reader has: a site with an account, a name for the run.
fn here(command: &str) -> String {
    command.replace("meluxina", "slurm").replace("runs/NAME", "runs/tiny")
}

#[test]
fn every_command_of_the_page_works() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Workplace::new();
    let run = place.path().join("runs/tiny");
    let mut typed = BTreeMap::new();
    let commands = commands();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in &commands {
        let words = here(command.strip_prefix("sirocco ").expect("a command"));
        // A run that is over has nothing to cancel and nothing to go on with, until it is made longer.
        let words = if words == "submit runs/tiny" { "submit runs/tiny --set train.steps=20".to_owned() } else { words };
        if ["report runs/tiny", "export runs/tiny --to my-adapter --adapter"].contains(&words.as_str()) {
            ended(&run, LIMIT);
        }
        let finished = sirocco(&cluster, &place, &words);
        assert_eq!(finished.code, Some(0), "sirocco {words}\n{}\n{}\n{}", finished.stdout, finished.stderr, told(&run));
        if words.starts_with("init ") {
            // What the reader writes into it.
            let site = "[site]\nprofile = \"slurm\"\ntime = \"06:00:00\"\nnodes = 2\n";
            let text = RUN_FILE.replace("dp = 1", "dp = 4") + site;
            std::fs::write(place.path().join("my-run/run.toml"), text).expect("a run file");
        }
        *typed.entry(words.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
        if words == "cancel runs/tiny" {
            ended(&run, LIMIT);
        }
    }
    for command in ["doctor", "site", "init", "check", "submit", "status", "watch", "logs", "cancel", "report", "export"] {
        assert!(typed.contains_key(command), "{command} is not on the page: {typed:?}");
    }
    assert!(place.path().join("my-adapter/adapter_model.safetensors").is_file());
}

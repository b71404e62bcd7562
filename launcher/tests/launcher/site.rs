//! `sirocco site`: every page of ours as a snapshot, profiles found and refused, and checks against a Slurm of shell.

use std::fs;

use crate::bench::{Bench, Finished};

/// What a cluster of MeluXina's kind says, in the words of Slurm 22.05.
const SINFO: &str = r#"
case "$*" in
  --version) echo "slurm 23.11.4" ;;
  *) echo "gpu|200|128|490000|gpu:a100:4(S:0-3)|2-00:00:00"
     echo "cpu|573|64+|515000|(null)|infinite"
     echo "fpga|20|128|515000|(null)|infinite" ;;
esac"#;
const SCONTROL: &str = r#"
case "$*" in
  ping) echo "Slurmctld(primary) at ctl is UP" ;;
  "show config") echo "AcctGatherEnergyType = acct_gather_energy/ipmi" ;;
esac"#;
const SACCTMGR: &str = r#"
echo "default|2-00:00:00|node=50"
echo "short|12:00:00|""#;
const SRUN: &str = r#"
[ "$*" = --mpi=list ] && printf 'MPI plugin types are...\n\tpmix\n\tnone\nspecific pmix plugin versions available: pmix_v4\n'"#;

/// A bench with those commands in `slurm/`, the only folder on PATH beside that of the shell.
fn with_slurm(commands: &[(&str, &str)]) -> Bench {
    let bench = Bench::new();
    let script = |body: &str| format!("#!/bin/sh\n{body}\nexit 0\n");
    fs::create_dir(bench.path("slurm")).unwrap();
    for name in ["sinfo", "scontrol", "sacctmgr", "srun", "sbatch", "squeue", "scancel"] {
        let body = commands.iter().find(|(command, _)| *command == name).map_or("", |(_, body)| body);
        bench.write_program(&format!("../slurm/{name}"), &script(body));
    }
    bench
}

const CLUSTER: [(&str, &str); 4] = [("sinfo", SINFO), ("scontrol", SCONTROL), ("sacctmgr", SACCTMGR), ("srun", SRUN)];

fn run(bench: &Bench, arguments: &[&str]) -> Finished {
    let mut command = bench.command(arguments);
    command.env("PATH", bench.path("slurm")).env_remove("SLURMD_NODENAME").env_remove("MODULEPATH");
    Finished::new(&command.output().unwrap(), &bench.path(""))
}

/// The state and the words of the line about a fact.
fn line<'a>(finished: &'a Finished, fact: &str) -> &'a str {
    let line = finished.out.lines().find_map(|line| line.strip_prefix(&format!("{fact:30} ")));
    line.unwrap_or_else(|| panic!("no line about {fact}: {finished:?}"))
}

#[test]
fn every_profile_is_a_page() {
    let bench = Bench::new();
    for name in ["jupiter", "leonardo", "local", "lumi", "marenostrum5", "meluxina", "slurm"] {
        let finished = bench.run(&["site", "show", name]);
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{name}");
        insta::assert_snapshot!(name, finished.out);
        let site = bench.run(&["site", "show", name, "--json"]).json();
        assert_eq!((site["name"].as_str(), site["from"].as_str()), (Some(name), Some("built in")));
        assert_eq!(site["refused"]["cuda"].is_string(), name == "lumi", "{site}");
    }
}

#[test]
fn the_list_names_every_site() {
    let bench = Bench::new();
    insta::assert_snapshot!("list", bench.run(&["site", "list"]).out);
    let sites = bench.run(&["site", "list", "--json"]).json();
    assert_eq!(sites["sites"].as_array().unwrap().len(), 7);
}

#[test]
fn a_file_is_a_site_and_goes_before_ours() {
    let bench = Bench::new();
    let text = include_str!("../../../configs/sites/slurm.toml");
    bench.write("configs/sites/mine.toml", &text.replace("\"slurm\"\ntitle", "\"mine\"\ntitle"));
    bench.write(
        "configs/sites/lumi.toml",
        &text.replace("\"slurm\"\ntitle = \"Any cluster with Slurm\"", "\"lumi\"\ntitle = \"Mine\""),
    );
    let sites = bench.run(&["site", "list"]);
    assert!(sites.out.contains("mine          Any cluster with Slurm"), "{sites:?}");
    assert!(bench.run(&["site", "show", "lumi"]).out.starts_with("lumi: Mine [1]\n"));
    assert_eq!(bench.run(&["site", "show", "configs/sites/mine.toml", "--json"]).json()["from"], "configs/sites/mine.toml");
    // A profile that is wrong is named after the others.
    bench.write("configs/sites/bad.toml", "[site]\nname = 'bad'\ntitel = 'Bad'\n");
    let sites = bench.run(&["site", "list"]);
    assert_eq!(sites.code, Some(2), "{sites:?}");
    assert!(
        sites.out.contains("meluxina") && sites.err.contains("bad.toml:3: unknown [site] titel; did you mean title?"),
        "{sites:?}"
    );
}

#[test]
fn a_site_that_is_not_there() {
    let bench = Bench::new();
    let finished = bench.run(&["site", "show", "meluxnia"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.err.contains("slurm; did you mean meluxina?"), "{finished:?}");
    let finished = bench.run(&["site", "show", "./nothing.toml", "--json"]);
    assert_eq!((finished.code, &finished.json()["error"]["exit_code"]), (Some(2), &2.into()), "{finished:?}");
    bench.write("other.toml", include_str!("../../../configs/sites/local.toml"));
    let finished = bench.run(&["site", "show", "other.toml"]);
    assert!(
        finished.err.contains("other.toml: [site] name = \"local\": expected \"other\", as the file is called"),
        "{finished:?}"
    );
}

#[test]
fn a_profile_is_compared_with_what_slurm_says() {
    let bench = with_slurm(&CLUSTER);
    let finished = run(&bench, &["site", "check", "meluxina"]);
    for (fact, words) in [
        ("slurm commands", "ok         all"),
        ("slurm version", "ok         23.11.4"),
        ("slurm controller", "ok         Slurmctld(primary) at ctl is UP"),
        ("partition gpu", "ok         there"),
        ("partition gpu: nodes", "ok         200"),
        ("partition gpu: memory", "ok         513 GB"),
        ("partition gpu: GPUs", "ok         4"),
        ("partition gpu: longest job", "not known  2-00:00:00"),
        ("partition cpu: cores", "differs    expected 128, found 64"),
        ("partition fpga", "not known  20 nodes of 128 CPUs, 540 GB, 0 GPUs; no limit"),
        ("qos default", "ok         2-00:00:00, 50 nodes"),
        ("qos short", "differs    expected 06:00:00, found 12:00:00"),
        ("qos long", "missing    expected 6-00:00:00, found none"),
        ("mpi", "ok         srun"),
        ("interface", "not known  expected ib0 up; this is not a compute node"),
        ("energy", "ok         acct_gather_energy/ipmi"),
        (
            "internet from compute nodes",
            "not known  expected open: the site confines nothing; not tried: this command sends nothing",
        ),
    ] {
        assert_eq!(line(&finished, fact), words, "{finished:?}");
    }
    let native = std::env::consts::ARCH == "x86_64";
    assert_eq!(finished.code, Some(if native { 0 } else { 5 }), "{finished:?}");
}

#[test]
fn facts_of_compute_nodes_count_on_a_compute_node() {
    let bench = with_slurm(&CLUSTER);
    let mut command = bench.command(&["site", "check", "meluxina", "--json"]);
    command.env("PATH", bench.path("slurm")).env("SLURMD_NODENAME", "mel2001").env("MODULEPATH", bench.path("modules"));
    let finished = Finished::new(&command.output().unwrap(), &bench.path(""));
    assert_eq!(finished.code, Some(5), "{finished:?}");
    let object: serde_json::Value = serde_json::from_str(finished.out.lines().next().unwrap()).unwrap();
    assert_eq!(object["holds"], false);
    assert!(object["missing"].as_array().unwrap().contains(&"interface".into()), "no machine of ours has an ib0: {object}");
    let module = object["lines"].as_array().unwrap().iter().find(|line| line["fact"] == "module").unwrap();
    assert_eq!((&module["state"], &module["needed"]), (&"missing".into(), &false.into()));
}

#[test]
fn without_slurm_it_says_so_and_goes_on() {
    let bench = Bench::new();
    fs::create_dir(bench.path("slurm")).unwrap();
    let finished = run(&bench, &["site", "check", "meluxina"]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    assert!(line(&finished, "slurm commands").starts_with("missing    expected sbatch, srun"), "{finished:?}");
    assert!(line(&finished, "partition gpu").ends_with("there is no Slurm here to ask"), "{finished:?}");
    assert!(line(&finished, "hosts").ends_with(std::env::consts::ARCH), "{finished:?}");
    assert!(finished.err.contains("error: a run for meluxina cannot work from here: slurm commands"), "{finished:?}");
    // Without a name the machine itself is looked at.
    assert!(run(&bench, &["site", "check"]).out.starts_with("This machine (built in)\n"));
}

#[test]
fn a_controller_that_is_down_is_asked_once() {
    let down = "echo \"$*\" >> asked\necho 'slurm_load_partitions: Unable to contact slurm controller' >&2\nexit 1";
    let bench = with_slurm(&[("sinfo", "[ \"$1\" = --version ] && echo slurm 23.11.4"), ("scontrol", down)]);
    let finished = run(&bench, &["site", "check", "slurm"]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    let words = line(&finished, "slurm controller");
    assert!(
        words.starts_with("differs    expected an answer, found scontrol ping: slurm_load_partitions: Unable"),
        "{finished:?}"
    );
    assert_eq!(bench.read("asked").lines().filter(|line| *line != "--version").count(), 1);
}

#[test]
fn a_partition_or_a_plugin_that_is_not_there_is_exit_code_5() {
    let other = "case \"$*\" in --version) echo slurm 23.11.4;; *) echo 'main|4|2|1000|(null)|infinite';; esac";
    let bench = with_slurm(&[("sinfo", other), ("scontrol", SCONTROL), ("srun", "echo none")]);
    let finished = run(&bench, &["site", "check", "meluxina"]);
    assert_eq!(line(&finished, "partition gpu"), "missing    expected there, found none");
    assert!(finished.code == Some(5) && finished.err.contains("partition gpu"), "{finished:?}");
    let finished = run(&bench, &["site", "check", "slurm"]);
    assert_eq!(line(&finished, "mpi"), "differs    expected srun --mpi=pmix, found srun --mpi=none");
    assert_eq!(line(&finished, "partition main"), "not known  4 nodes of 2 CPUs, 1 GB, 0 GPUs; no limit");
    assert_eq!(finished.code, Some(5), "{finished:?}");
}

//! Job scripts of every site, as snapshots, and what is refused before Slurm is asked.

use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};

fn bench() -> Bench {
    let bench = Bench::with_trainer("");
    workplace(&bench.path(""));
    bench
}

fn dry_run(bench: &Bench, settings: &[&str]) -> Finished {
    let sets = settings.iter().flat_map(|setting| ["--set", setting]);
    let words: Vec<&str> = ["submit", "run.toml", "--dry-run"].into_iter().chain(sets).collect();
    bench.run(&words)
}

/// The number in the name of a job comes from the directory, which is another one in every test.
fn without_number(script: &str) -> String {
    let plain = |line: &str| match line.strip_prefix("#SBATCH --job-name=tiny.") {
        Some(number) => {
            assert!(number.len() == 6 && number.chars().all(|digit| digit.is_ascii_hexdigit()), "{line}");
            "#SBATCH --job-name=tiny.NUMBER\n".to_owned()
        }
        None => format!("{line}\n"),
    };
    script.lines().map(plain).collect()
}

#[test]
fn the_script_of_every_site_can_be_read() {
    let bench = bench();
    for (site, settings) in [
        ("slurm", &["site.nodes=2", "parallel.dp=4"][..]),
        (
            "meluxina",
            &[
                "model.device=cuda",
                "site.account=p200000",
                "site.qos=default",
                "site.time=24:00:00",
                "site.nodes=2",
                "parallel.dp=4",
                "parallel.tp=2",
            ],
        ),
        ("lumi", &["site.account=project_465000000", "model.device=cpu", "site.time=30", "parallel.dp=4"]),
        (
            "leonardo",
            &[
                "model.device=cuda",
                "site.account=EUHPC_A00",
                "site.time=1-00:00:00",
                "site.nodes=2",
                "site.spare_nodes=1",
                "parallel.fsdp=4",
                "parallel.dp=2",
                "train.global_batch=8",
            ],
        ),
        ("marenostrum5", &["model.device=cuda", "site.account=ehpc000", "site.qos=acc_ehpc", "site.time=10:00", "parallel.dp=4"]),
    ] {
        let profile = format!("site.profile={site}");
        let more = ["train.global_batch=8"];
        let all: Vec<&str> = [profile.as_str()].into_iter().chain(more).chain(settings.iter().copied()).collect();
        let finished = dry_run(&bench, &all);
        assert_eq!(finished.code, Some(0), "{site}: {finished:?}");
        insta::assert_snapshot!(format!("script-{site}"), without_number(&finished.out));
    }
    assert!(!bench.path("runs").exists(), "nothing is made");
}

#[test]
fn a_sweep_is_an_array_of_jobs() {
    let bench = bench();
    let words = [
        "submit",
        "run.toml",
        "--dry-run",
        "--set",
        "site.profile=slurm",
        "--sweep",
        "train.learning_rate=1e-4,2e-4",
        "--sweep",
        "method.rank=8,16",
    ];
    insta::assert_snapshot!("script-sweep", without_number(&bench.run(&words).out));
    let refused = bench.run(&[&words[..6], &["method.rank"]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--sweep method.rank: expected SECTION.KEY=VALUE,VALUE"), "{refused:?}");
}

#[test]
fn a_dry_run_as_an_object_has_the_script_and_its_options() {
    let bench = bench();
    let words = ["submit", "run.toml", "--dry-run", "--set", "site.profile=slurm", "--set", "site.keep_environment=[]"];
    let with = |more: &[&str]| {
        let mut command = bench.command(&[&words[..], more].concat());
        Finished::new(&command.env("HF_TOKEN", "secret").output().unwrap(), &bench.path(""))
    };
    let (text, found) = (with(&[]).out, with(&["--json"]).json());
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name", "run_dir", "job_name", "script", "text", "options", "runs", "dropped_environment"]);
    assert_eq!(found["text"], text);
    let options: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
    assert!(!options.is_empty() && found["options"] == serde_json::json!(options), "{found}");
    assert_eq!((&found["name"], &found["run_dir"]), (&"tiny".into(), &"runs/tiny".into()));
    assert!(found["script"].as_str().unwrap().ends_with("runs/tiny/job.sh") && found["runs"] == serde_json::json!([]), "{found}");
    assert_eq!(found["dropped_environment"], serde_json::json!(["HF_TOKEN"]));
    assert_eq!(options[0], format!("--job-name={}", found["job_name"].as_str().unwrap()));
    let sweep = with(&["--json", "--sweep", "method.rank=8,16"]).json();
    assert!(sweep["script"].as_str().unwrap().ends_with("runs/tiny/sweep.sh"), "{sweep}");
    assert_eq!(sweep["runs"], serde_json::json!(["runs/tiny/0000", "runs/tiny/0001"]));
    assert!(!bench.path("runs").exists(), "nothing is made");
}

#[test]
fn what_cannot_work_on_a_site_is_refused_with_the_reason() {
    let bench = bench();
    let refusals = [
        dry_run(&bench, &[]),
        dry_run(&bench, &["site.profile=meluxna"]),
        dry_run(&bench, &["site.profile=meluxina"]),
        dry_run(&bench, &["site.profile=lumi", "site.account=p", "model.device=cuda"]),
        dry_run(&bench, &["site.profile=leonardo", "site.account=p", "model.device=auto"]),
        dry_run(&bench, &["site.profile=jupiter", "site.account=p"]),
        dry_run(&bench, &["site.profile=meluxina", "site.account=p", "site.qos=short", "site.time=1-00:00:00"]),
        dry_run(&bench, &["site.profile=slurm", "site.nodes=3", "parallel.dp=4"]),
    ];
    let texts: Vec<String> = refusals.iter().map(Finished::text).collect();
    insta::assert_snapshot!("refused-by-site", texts.join("\n"));
}

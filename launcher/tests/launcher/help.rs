//! The help of every command, as a snapshot: the surface changes only on purpose.

use std::path::Path;

use crate::bench::Bench;

#[test]
fn help_of_every_command() {
    let bench = Bench::new();
    let commands: &[&[&str]] = &[
        &[],
        &["init"],
        &["model"],
        &["model", "inspect"],
        &["model", "convert"],
        &["model", "verify"],
        &["tokenize"],
        &["data"],
        &["data", "check"],
        &["data", "prepare"],
        &["data", "report"],
        &["check"],
        &["plan"],
        &["train"],
        &["submit"],
        &["cancel"],
        &["status"],
        &["watch"],
        &["logs"],
        &["report"],
        &["site"],
        &["site", "list"],
        &["site", "show"],
        &["site", "check"],
        &["doctor"],
        &["policy"],
        &["policy", "check"],
        &["policy", "explain"],
        &["policy", "test"],
        &["policy", "init"],
        &["policy", "sign"],
        &["policy", "approve"],
        &["keys"],
        &["keys", "new"],
        &["keys", "show"],
        &["ledger"],
        &["ledger", "verify"],
        &["ledger", "show"],
        &["ledger", "prove"],
        &["evidence"],
        &["bundle"],
        &["bundle", "pack"],
        &["bundle", "open"],
        &["bundle", "check"],
    ];
    for command in commands {
        let finished = bench.run(&[*command, &["--help"]].concat());
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{command:?}");
        assert!(finished.out.contains("Example") || command.is_empty(), "{command:?} has no example:\n{}", finished.out);
        let name = if command.is_empty() { "sirocco".to_owned() } else { command.join("-") };
        insta::assert_snapshot!(name, finished.out);
    }
}

#[test]
fn paths_in_examples_are_there_after_a_clone_or_after_the_demonstration() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let demonstration = std::fs::read_to_string(repository.join("scripts/demo.sh")).unwrap();
    let bench = Bench::new();
    let commands: &[&[&str]] = &[
        &["model"],
        &["model", "inspect"],
        &["model", "convert"],
        &["model", "verify"],
        &["tokenize"],
        &["data"],
        &["data", "check"],
        &["data", "prepare"],
        &["data", "report"],
        &["check"],
        &["train"],
        &["status"],
        &["watch"],
        &["logs"],
        &["report"],
    ];
    let mut seen = 0;
    for command in commands {
        let help = bench.run(&[*command, &["--help"]].concat()).out;
        let (_, examples) = help.split_once("Example").unwrap();
        for path in examples.split_whitespace().filter(|word| word.contains('/') && !word.starts_with("/scratch/")) {
            seen += 1;
            // `runs/NAME` is where a run file without --dir goes.
            let known = path == "runs/NAME" || demonstration.contains(path) || repository.join(path).exists();
            assert!(known, "{command:?} names {path}");
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn eval_export_and_serve_become_the_other_programs() {
    let bench = Bench::new();
    bench.write_program("sirocco-train", "#!/bin/sh\necho \"train: $*\"\nexit 4\n");
    bench.write_program("sirocco-serve", "#!/bin/sh\necho \"serve: $*\"\n");
    let eval = bench.run(&["eval", "models/m", "--data", "f.jsonl", "--json"]);
    assert_eq!((eval.code, eval.out.as_str()), (Some(4), "train: eval models/m --data f.jsonl --json\n"));
    assert_eq!(bench.run(&["export", "--help"]).out, "train: export --help\n");
    assert_eq!(bench.run(&["serve", "m", "--adapter", "a=b"]).out, "serve: m --adapter a=b\n");
}

#[test]
fn a_command_line_that_is_wrong_is_exit_code_2() {
    let bench = Bench::new();
    for wrong in [&["trian"][..], &["train"], &["train", "run.toml", "--ranks", "0"], &["tokenize", "--tokenizer", "m"], &[]] {
        assert_eq!(bench.run(wrong).code, Some(2), "{wrong:?}");
    }
    let finished = bench.run(&["train", "--json"]);
    assert_eq!(finished.json()["error"]["exit_code"], 2);
}

#[test]
fn help_comes_at_once() {
    let bench = Bench::new();
    let least = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            bench.run(&["--help"]);
            start.elapsed()
        })
        .min();
    // 2 ms where nothing else runs; the bound leaves room for a loaded machine.
    assert!(least.is_some_and(|least| least.as_millis() < 20), "{least:?}");
}

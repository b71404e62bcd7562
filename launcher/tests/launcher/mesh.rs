//! Meshes from the command line to the ranks: what is shown, what a model refuses, and another mesh on resuming.

use sirocco_tests::material::workplace;

use crate::bench::Bench;

/// A bench with a model (3 layers, 4 heads, 2 key/value heads), data and `run.toml`.
fn bench(script: &str) -> Bench {
    let bench = Bench::with_trainer(script);
    workplace(&bench.path(""));
    bench
}

#[test]
fn check_shows_the_mesh_and_repeats_what_was_typed() {
    let bench = bench("");
    let finished = bench.run(&[
        "check",
        "run.toml",
        "--ranks",
        "8",
        "--set",
        "parallel.fsdp=2",
        "--set",
        "parallel.tp=2",
        "--set",
        "data.valid=[\"valid.jsonl\"]",
    ]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("\nmesh       dp 2 × fsdp 2 × tp 2 = 8 ranks\n"), "{finished:?}");
    let last =
        "ok: sirocco train run.toml --ranks 8 --set parallel.fsdp=2 --set parallel.tp=2 --set 'data.valid=[\"valid.jsonl\"]'\n";
    assert!(finished.out.ends_with(last), "{finished:?}");
    let json = bench.run(&["check", "run.toml", "--json", "--ranks", "6", "--set", "parallel.pp=3"]).json();
    assert_eq!(
        (&json["ranks"], &json["run"]["parallel"]["dp"], &json["run"]["parallel"]["pp"]),
        (&6.into(), &2.into(), &3.into())
    );
}

#[test]
fn a_mesh_that_does_not_divide_the_model_is_refused() {
    let bench = bench("");
    insta::assert_snapshot!("heads", bench.run(&["check", "run.toml", "--set", "parallel.tp=8"]).text());
    insta::assert_snapshot!("layers", bench.run(&["train", "run.toml", "--set", "parallel.pp=4"]).text());
    assert!(!bench.path("runs").exists());
    // Four ranks share two key/value heads.
    assert_eq!(bench.run(&["check", "run.toml", "--set", "parallel.tp=4"]).code, Some(0));
    let text = bench.read("run.toml").replace("dp = 1", "dp = 1\ntp = 3");
    bench.write("run.toml", &text);
    let finished = bench.run(&["check", "run.toml"]);
    assert!(finished.err.starts_with("error: run.toml:25: [parallel] tp = 3: expected a divisor"), "{finished:?}");
}

#[test]
fn a_run_is_resumed_on_another_mesh() {
    let bench = bench(
        "echo \"$rank of $size\" >>\"$dir/seen-$rank\"\nif [ $rank = 0 ]; then n=$(($(ls \"$dir/checkpoints\" 2>/dev/null | grep -c step) + 1)); step $n 2.5; checkpoint $n; fi",
    );
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(0));
    assert_eq!(bench.read("runs/tiny/seen-0"), "0 of 1\n");
    let mesh = |arguments: &[&str]| {
        let finished = bench.run(&[&["train", "runs/tiny", "--json"], arguments].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let run = bench.read("runs/tiny/run.toml");
        let axis = |name: &str| {
            let line = run.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        (["pp", "dp", "fsdp", "tp"].map(axis), finished.json()["ranks"].as_u64().unwrap(), finished.err)
    };
    let (axes, ranks, said) = mesh(&["--set", "parallel.fsdp=2", "--set", "parallel.tp=2"]);
    assert_eq!((axes, ranks), ([1, 1, 2, 2], 4));
    assert!(said.contains("runs/tiny: 1 of 10 steps done, fsdp 2 × tp 2 = 4 ranks of "), "{said}");
    assert_eq!(bench.read("runs/tiny/seen-3"), "3 of 4\n");
    let (axes, ranks, _) = mesh(&["--set", "parallel.pp=3", "--set", "parallel.fsdp=1", "--ranks", "6"]);
    assert_eq!((axes, ranks), ([3, 1, 1, 2], 6));
    let refused = bench.run(&["train", "runs/tiny", "--ranks", "4"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--ranks: 4 ranks: expected a multiple of pp × fsdp × tp = 3 × 1 × 2 = 6"), "{refused:?}");
    let (axes, ranks, _) = mesh(&["--set", "parallel.pp=1", "--set", "parallel.tp=1", "--ranks", "2"]);
    assert_eq!((axes, ranks), ([1, 2, 1, 1], 2));
}

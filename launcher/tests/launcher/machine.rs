//! What the machine lacks is found before a run directory is made: by `sirocco check` and by `sirocco train`, in the same words.

use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};

/// A bench whose trainer finds this of CUDA.
fn bench(found: &str) -> Bench {
    let bench =
        Bench::with_trainer(&format!("[ \"$job\" = doctor ] && {{ echo '{found}'; exit 0; }}\nstep 1 2.5; checkpoint 10"));
    workplace(&bench.path(""));
    bench
}

const CUDA: [&str; 2] = ["--set", "model.device=cuda"];

/// Both commands with the same options.
fn check_and_train(bench: &Bench, options: &[&str]) -> [Finished; 2] {
    ["check", "train"].map(|command| bench.run(&[&[command, "run.toml"], options].concat()))
}

#[test]
fn a_machine_without_a_gpu() {
    let bench = bench(r#"{"cuda":false,"cuda_devices":0,"cuda_error":"libtorch_cuda.so is not there"}"#);
    for finished in check_and_train(&bench, &CUDA) {
        assert_eq!(finished.code, Some(5), "{finished:?}");
        let said = "error: --set model.device: [model] device = \"cuda\": no GPU of this machine can be used: libtorch_cuda.so is not there\n";
        assert!(finished.err.contains(said), "{finished:?}");
        assert!(finished.err.contains("model.device = \"cpu\" needs no GPU"), "{finished:?}");
    }
    assert!(!bench.path("runs").exists(), "a refusal leaves nothing behind");
    // What the advice says leads on.
    assert_eq!(bench.run(&["train", "run.toml", "--set", "model.device=cpu"]).code, Some(0));
    // A run that began where there is a GPU goes on where there is none.
    let text = bench.read("runs/tiny/run.toml").replace("device = \"cpu\"", "device = \"cuda\"");
    bench.write("runs/tiny/run.toml", &text);
    let finished = bench.run(&["train", "runs/tiny"]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    assert_eq!(bench.run(&["train", "runs/tiny", "--set", "model.device=cpu"]).code, Some(0));
}

#[test]
fn fewer_gpus_than_ranks() {
    let bench = bench(r#"{"cuda":true,"cuda_devices":2,"gpu":"a GPU","cuda_error":null}"#);
    for finished in check_and_train(&bench, &[&CUDA[..], &["--ranks", "4"]].concat()) {
        assert_eq!(finished.code, Some(5), "{finished:?}");
        assert!(finished.err.contains("4 ranks, and this machine has 2 devices: expected one for each rank"), "{finished:?}");
    }
    assert!(!bench.path("runs").exists());
    assert_eq!(bench.run(&[&["check", "run.toml", "--ranks", "2"], &CUDA[..]].concat()).code, Some(0));
    // Ranks of a job that has several nodes find devices there.
    let mut command = bench.command(&[&["check", "run.toml", "--ranks", "4"], &CUDA[..]].concat());
    assert_eq!(command.env("SLURM_NNODES", "2").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_trainer_that_does_not_start() {
    let bench = Bench::with_trainer("echo 'libtorch.so: cannot open shared object file' >&2; exit 127");
    workplace(&bench.path(""));
    for finished in check_and_train(&bench, &CUDA) {
        assert_eq!(finished.code, Some(5), "{finished:?}");
        assert!(finished.err.contains("libtorch.so: cannot open shared object file"), "{finished:?}");
    }
    assert!(!bench.path("runs").exists());
}

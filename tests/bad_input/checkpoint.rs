//! Checkpoints that are not what they were when they were written, and directories that cannot take one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{edit, place, refused, train};
use sirocco_tests::program::{Finished, LIMIT, Running, own_keys, path, run};
use tempfile::TempDir;

const STEP: &str = "run/checkpoints/step-00000005";

/// A workplace with a run of two ranks that was stopped at its first checkpoint, and its directory.
fn saved() -> (TempDir, PathBuf) {
    let place = place();
    train(place.path(), &["--dir", "run", "--set", "parallel.fsdp=2", "--until", "5"]).expect_code(75);
    let checkpoint = place.path().join(STEP);
    (place, checkpoint)
}

/// Resuming is refused with the words, on the mesh that saved and on another one, and so is an export.
#[track_caller]
fn unusable(place: &TempDir, words: &[&str]) {
    for more in [&[][..], &["--set", "parallel.fsdp=1"]] {
        refused(run("sirocco", &[&["train", "run"], more].concat(), place.path()), 4, words);
    }
    let exported = run("sirocco", &["export", "run", "--to", "export", "--merge"], place.path());
    refused(exported, 4, words);
    assert!(!place.path().join("export").exists());
}

/// Changes the manifest and its digest, as only another version would.
fn rewrite_manifest(checkpoint: &Path, change: impl Fn(&str) -> String) {
    let path = checkpoint.join("manifest.json");
    let text = fs::read_to_string(&path).expect("the manifest");
    let changed = change(&text);
    assert_ne!(text, changed);
    fs::write(&path, changed).expect("the manifest");
    let digest = Command::new("sha256sum").arg("manifest.json").current_dir(checkpoint).output().expect("sha256sum");
    fs::write(checkpoint.join("manifest.sha256"), digest.stdout).expect("its digest");
}

/// The shard of rank 1.
fn shard(checkpoint: &Path) -> PathBuf {
    let entries = fs::read_dir(checkpoint).expect("the checkpoint").flatten().map(|entry| entry.path());
    let mut shards: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "safetensors")).collect();
    shards.sort();
    assert_eq!(shards.len(), 2);
    shards.remove(1)
}

#[test]
fn a_manifest_from_the_future() {
    let (place, checkpoint) = saved();
    rewrite_manifest(&checkpoint, |text| text.replacen("\"version\": 2", "\"version\": 3", 1));
    unusable(&place, &["step-00000005", "manifest.json", "version 3", "not supported", "version 1 or 2"]);
}

#[test]
fn a_manifest_that_was_altered() {
    let (place, checkpoint) = saved();
    let text = fs::read_to_string(checkpoint.join("manifest.json")).expect("the manifest");
    fs::write(checkpoint.join("manifest.json"), text.replacen("\"step\": 5", "\"step\": 6", 1)).expect("the manifest");
    unusable(&place, &["step-00000005", "manifest.json", "sha256", "altered"]);
}

#[test]
fn a_missing_shard() {
    let (place, checkpoint) = saved();
    let shard = shard(&checkpoint);
    fs::remove_file(&shard).expect("the shard");
    unusable(&place, &["step-00000005", &shard.file_name().expect("a name").to_string_lossy(), "No such file"]);
}

#[test]
fn a_shard_that_was_altered() {
    let (place, checkpoint) = saved();
    let shard = shard(&checkpoint);
    let mut bytes = fs::read(&shard).expect("the shard");
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).expect("the shard");
    unusable(&place, &["step-00000005", &shard.file_name().expect("a name").to_string_lossy(), "sha256", "altered"]);
}

/// Carries out the command at the end of a `help:` line, with the programs that were built.
fn do_as_advised(place: &TempDir, finished: &Finished, begins: &str) -> Finished {
    let help = finished.stderr.lines().find_map(|line| line.strip_prefix("help: ")).expect("advice");
    let at = help.find(begins).unwrap_or_else(|| panic!("{help:?} holds no {begins:?}"));
    let programs = path("sirocco").parent().expect("the programs' directory").display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("PATH={programs}:$PATH; {}", &help[at..])]).current_dir(place.path());
    own_keys(&mut command, place.path());
    Running::start(command.env("OMP_NUM_THREADS", "1")).wait(LIMIT)
}

#[test]
fn an_older_checkpoint_is_gone_on_from_where_the_newest_is_bad() {
    let (place, _) = saved();
    run("sirocco", &["train", "run"], place.path()).expect_code(0);
    let shard = shard(&place.path().join("run/checkpoints/step-00000010"));
    let mut bytes = fs::read(&shard).expect("the shard");
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).expect("the shard");
    let words = ["step-00000010", "newest good checkpoint is that of step 5"];
    for more in [&[][..], &["--set", "parallel.fsdp=1"]] {
        let finished = run("sirocco", &[&["train", "run", "--set", "train.steps=12"], more].concat(), place.path());
        assert_eq!(finished.stderr.matches("cannot be used").count(), 1, "said once: {}", finished.stderr);
        assert!(!finished.stderr.contains("resumes from the newest checkpoint"), "{}", finished.stderr);
        refused(finished, 4, &words);
    }
    refused(run("sirocco", &["check", "run"], place.path()), 4, &words);
    let export = ["export", "run", "--to", "export", "--adapter"];
    let exported = run("sirocco", &export, place.path());
    refused(exported, 4, &[&words[..], &["help: --step 5 exports"]].concat());
    run("sirocco", &[&export[..], &["--step", "5"]].concat(), place.path()).expect_code(0);
    // What the help says to do works, as it stands.
    let finished = run("sirocco", &["train", "run"], place.path());
    assert_eq!(finished.stderr.matches("cannot be used").count(), 1, "said once: {}", finished.stderr);
    do_as_advised(&place, &finished, "echo step-00000005 > ").expect_code(0).expect_words(&["5 of 12 steps done"]);
}

#[test]
fn a_run_of_which_no_checkpoint_is_whole_is_done_again_elsewhere() {
    let (place, checkpoint) = saved();
    fs::remove_file(shard(&checkpoint)).expect("the shard");
    let finished = run("sirocco", &["train", "run"], place.path());
    let again = do_as_advised(&place, &finished, "sirocco train ");
    refused(finished, 4, &["there is no good one beside it", "no checkpoint of this run is whole"]);
    again.expect_code(0);
    assert!(place.path().join("run-again/checkpoints/step-00000010").is_dir());
}

#[test]
fn a_run_without_latest_goes_on_from_its_newest_checkpoint() {
    let (place, checkpoint) = saved();
    let latest = place.path().join("run/checkpoints/LATEST");
    fs::remove_file(&latest).expect("LATEST");
    let checked = run("sirocco", &["check", "run", "--set", "parallel.fsdp=1", "--set", "parallel.tp=2"], place.path());
    let checked = checked.expect_code(0).expect_words(&["run/checkpoints/LATEST is missing", "newest checkpoint, step 5"]);
    assert!(checked.stdout.contains("checkpoint step 5, whole\nmesh       tp 2 = 2 ranks\n"), "{}", checked.stdout);
    assert!(!latest.exists(), "a check writes nothing");
    let finished = run("sirocco", &["train", "run"], place.path()).expect_code(0);
    finished.expect_words(&["run/checkpoints/LATEST is missing", "step 5", "5 of 10 steps done"]);
    assert_eq!(fs::read_to_string(&latest).expect("LATEST"), "step-00000010\n");
    let checked = run("sirocco", &["check", "run"], place.path()).expect_code(0);
    assert!(checked.stdout.contains("run        10 of 10 steps of 4 sequences done, in run\n"), "{}", checked.stdout);
    assert!(checked.stdout.ends_with("\nok: nothing is left to do\n"), "{}", checked.stdout);
    // Of two that are there the newest is meant, and it is not passed over where it is damaged.
    fs::remove_file(&latest).expect("LATEST");
    fs::remove_file(shard(&place.path().join("run/checkpoints/step-00000010"))).expect("the shard");
    refused(run("sirocco", &["train", "run", "--set", "train.steps=12"], place.path()), 4, &["step-00000010", "that of step 5"]);
    assert!(checkpoint.is_dir());
}

#[test]
fn a_checkpoint_of_another_model() {
    let (place, _) = saved();
    let weights = place.path().join("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("the weights");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("the weights");
    let words = ["checkpoint of step 5", "on base weights with SHA-256", "help: put the base model back"];
    for command in ["check", "train"] {
        refused(run("sirocco", &[command, "run"], place.path()), 4, &words);
    }
}

#[test]
fn a_checkpoint_of_other_settings() {
    let (place, _) = saved();
    edit(&place, "run/run.toml", "learning_rate = 0.01", "learning_rate = 0.02");
    refused(run("sirocco", &["train", "run"], place.path()), 2, &["checkpoint of step 5", "other settings", "[parallel]"]);
}

#[test]
fn checkpoints_that_cannot_be_written() {
    for mesh in ["parallel.dp=1", "parallel.dp=2"] {
        let place = place();
        train(place.path(), &["--dir", "run", "--set", mesh, "--until", "1"]).expect_code(75);
        fs::remove_dir_all(place.path().join("run/checkpoints")).expect("the checkpoints");
        fs::write(place.path().join("run/checkpoints"), "in the way").expect("a file");
        let finished = run("sirocco", &["train", "run"], place.path());
        assert!(finished.code.is_some_and(|code| [1, 4].contains(&code)), "{finished:?}");
        refused(finished, 1, &["run/checkpoints", "help: "]);
    }
}

#[test]
fn a_staging_directory_that_cannot_be_made() {
    for mesh in ["parallel.dp=1", "parallel.dp=2"] {
        let place = place();
        fs::write(place.path().join("file"), "in the way").expect("a file");
        let settings = ["--dir", "run", "--set", mesh, "--set", "checkpoint.staging=file/staging"];
        refused(train(place.path(), &settings), 1, &["file/staging", "help: "]);
        // Another place for it, and the run goes on.
        run("sirocco", &["train", "run", "--set", "checkpoint.staging=staging"], place.path()).expect_code(0);
        let left = fs::read_dir(place.path().join("staging")).expect("the staging directory").count();
        assert_eq!(left, 0, "files stay on the node");
    }
}

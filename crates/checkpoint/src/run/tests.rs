//! Checkpoints are complete or absent: round trips, damage, full disks, leftovers.

use std::fs;
use std::path::Path;
use std::process::Command;

use safetensors::Dtype;

use super::*;
use crate::model_writer::FileDigest;
use crate::pace::Pace;
use crate::piece::Piece;

pub(super) fn state(step: u64) -> RunState {
    RunState {
        step,
        cursor: Cursor { seed: 1, epoch: 0, sample: step * 8 },
        mesh: Mesh { pp: 1, dp: 2, fsdp: 1, tp: 1 },
        config_digest: "c".into(),
        model_digest: "m".into(),
        data_digest: "d".into(),
    }
}

fn shard(writer: &CheckpointWriter, rank: usize, values: usize) -> Result<ShardRecord> {
    let data = vec![rank as u8 + 1; values * 4];
    let fragment = |name: &str, dtype, shape: &[usize], data| {
        let (name, piece) = (format!("{name}.{rank}"), Piece::whole(shape));
        Fragment { name, dtype, piece, data }
    };
    let half = fragment("half", Dtype::BF16, &[3], &data[..6]);
    writer.write_shard(rank, &[half, fragment("weight", Dtype::F32, &[values], &data)], &Pace::full())
}

pub(super) fn save(all: &Checkpoints, step: u64, values: usize) -> Result<PathBuf> {
    let first = all.begin(step)?;
    let second = all.join(step)?;
    let shards = vec![shard(&second, 1, values)?, shard(&first, 0, values)?];
    all.publish(first, shards, state(step))
}

pub(super) fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_loaded_from_whichever_shard() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    assert_eq!(all.latest().unwrap(), None);
    assert!(all.load_latest().unwrap().is_none());
    save(&all, 40, 10).unwrap();
    assert_eq!(listing(all.path()), ["LATEST", "step-00000040"]);
    let files = listing(&all.step_path(40));
    assert_eq!(files, ["manifest.json", "manifest.sha256", "rank-00000.safetensors", "rank-00001.safetensors"]);
    let loaded = all.load_latest().unwrap().unwrap();
    assert_eq!(loaded.state(), &state(40));
    let mut names: Vec<_> = loaded.names().collect();
    names.sort_unstable();
    assert_eq!(names, ["half.0", "half.1", "weight.0", "weight.1"]);
    assert_eq!(loaded.tensor("weight.1").unwrap().data, [2; 40]);
    assert_eq!(loaded.tensor("half.0").unwrap().shape, [3]);
    assert!(matches!(loaded.tensor("weight.2"), Err(CheckpointError::MissingTensor { .. })));
}

#[test]
fn what_is_added_before_publication_is_published_and_without_it_nothing_is() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let written = |writer: &CheckpointWriter| vec![shard(writer, 0, 10).unwrap()];
    let first = all.begin(40).unwrap();
    let shards = written(&first);
    let seal = |dir: &Path, known: &[FileDigest]| {
        assert!(known.iter().eq(shards.iter().map(|shard| &shard.file)));
        assert!(dir.join("manifest.json").exists() && dir.join("manifest.sha256").exists() && !all.step_path(40).exists());
        Ok(fs::write(dir.join("model.sig"), "signed")?)
    };
    all.publish_sealed(first, shards.clone(), state(40), seal).unwrap();
    let loaded = all.load_latest().unwrap().unwrap();
    assert!(loaded.files().eq(shards.iter().map(|shard| &shard.file)));
    assert_eq!(fs::read(loaded.path().join("model.sig")).unwrap(), b"signed");

    let second = all.begin(60).unwrap();
    let shards = written(&second);
    let error = all.publish_sealed(second, shards, state(60), |_, _| Err("no key".into())).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Unsealed { .. }) && error.to_string().ends_with("is not published: no key"),
        "{error}"
    );
    assert_eq!(listing(all.path()), ["LATEST", "step-00000040"]);
    assert_eq!(all.latest().unwrap(), Some(40));
}

#[test]
fn damage_is_named_and_the_older_good_one_too() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 6] = [
        ("rank-00001.safetensors: size", |d| {
            let file = fs::OpenOptions::new().write(true).open(d.join("rank-00001.safetensors")).unwrap();
            file.set_len(100).unwrap();
        }),
        ("rank-00000.safetensors: sha256", |d| {
            let path = d.join("rank-00000.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("manifest.json: sha256", |d| {
            let text = fs::read_to_string(d.join("manifest.json")).unwrap();
            fs::write(d.join("manifest.json"), text.replace("\"sample\": 320", "\"sample\": 321")).unwrap();
        }),
        ("manifest.sha256", |d| fs::remove_file(d.join("manifest.sha256")).unwrap()),
        ("rank-00001.safetensors", |d| fs::remove_file(d.join("rank-00001.safetensors")).unwrap()),
        ("no such directory", |d| fs::remove_dir_all(d).unwrap()),
    ];
    for (message, damage) in cases {
        let run = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(run.path());
        save(&all, 20, 10).unwrap();
        save(&all, 40, 10).unwrap();
        damage(&all.step_path(40));
        let error = all.load_latest().unwrap_err();
        assert!(matches!(error, CheckpointError::BadLatest { good: Some(20), .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains("step 20"), "{error}");
        all.load(20).unwrap();
    }
}

#[test]
fn a_latest_that_lies_is_refused() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    for text in ["../../x", "step-20", "step-00000020x", ""] {
        fs::write(all.path().join(LATEST), text).unwrap();
        let error = all.latest().unwrap_err();
        assert!(matches!(error, CheckpointError::BadLatest { good: Some(20), .. }), "{error}");
        assert!(error.to_string().contains("step-00000040"), "{text:?}");
    }
}

#[test]
fn where_latest_is_missing_the_newest_checkpoint_is_gone_on_from() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    assert!(!all.lacks_latest().unwrap(), "nothing was saved, so nothing lacks");
    save(&all, 20, 4).unwrap();
    save(&all, 40, 4).unwrap();
    assert!(!all.lacks_latest().unwrap());
    fs::remove_file(all.path().join(LATEST)).unwrap();
    assert!(all.lacks_latest().unwrap());
    assert_eq!((all.latest().unwrap(), all.load_latest().unwrap().unwrap().state().step), (Some(40), 40));
    // It is not passed over where it is damaged: that would lose steps silently.
    fs::remove_file(all.step_path(40).join("rank-00001.safetensors")).unwrap();
    assert!(matches!(all.open_latest().unwrap_err(), CheckpointError::BadLatest { good: Some(20), .. }));
    save(&all, 60, 4).unwrap();
    assert!(!all.lacks_latest().unwrap());
}

#[test]
fn an_abandoned_save_leaves_the_last_one_and_is_cleaned_up() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    let writer = all.begin(40).unwrap();
    shard(&writer, 0, 4).unwrap();
    // As after kill -9: the owner never runs its Drop.
    std::mem::forget(writer);
    assert_eq!(all.load_latest().unwrap().unwrap().state().step, 20);
    assert!(listing(all.path()).contains(&".step-00000040.partial".to_string()));
    drop(all.begin(60).unwrap());
    assert_eq!(listing(all.path()), ["LATEST", "step-00000020"]);
    assert!(all.join(60).unwrap_err().to_string().contains("shared file system"));
}

#[test]
fn inconsistent_shards_are_not_published() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let writer = all.begin(20).unwrap();
    let record = shard(&writer, 0, 4).unwrap();
    let mut absent = record.clone();
    absent.rank = 1;
    absent.file.name = "rank-00001.safetensors".into();
    let error = all.publish(writer, vec![record, absent], state(20)).unwrap_err().to_string();
    assert!(error.contains("half.0: found elements 0..3 of 3 in the shards of ranks 0 and 1"), "{error}");
    assert!(listing(all.path()).is_empty());
    let writer = all.begin(20).unwrap();
    assert!(matches!(all.publish(writer, vec![], state(40)), Err(CheckpointError::Misuse { .. })));
    let writer = all.begin(20).unwrap();
    assert!(all.publish(writer, vec![], state(20)).unwrap_err().to_string().contains("shards: found none"));
}

#[test]
fn pruning_keeps_the_newest_and_a_step_can_be_saved_again() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    for step in [20, 40, 60, 80] {
        save(&all, step, 4).unwrap();
    }
    assert_eq!(all.prune(2).unwrap(), [20, 40]);
    assert_eq!(all.steps().unwrap(), [60, 80]);
    // Going on from 60 gives step 80 up and saves it anew.
    save(&all, 60, 4).unwrap();
    assert_eq!(all.prune(1).unwrap(), [0u64; 0]);
    save(&all, 80, 5).unwrap();
    assert_eq!(all.load_latest().unwrap().unwrap().spec("weight.0").unwrap().shape, [5]);
    assert_eq!(all.prune(0).unwrap(), [60]);
    assert_eq!(listing(all.path()), ["LATEST", "step-00000080"]);
}

/// Mounts a file system of 1 MiB at `at`, where the system allows it.
pub(crate) fn mount_small(at: &Path) -> bool {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
    let mounted = mounted.is_ok_and(|done| done.status.success());
    if !mounted {
        println!("skipped: mounting a small tmpfs needs root");
    }
    mounted
}

pub(crate) fn unmount(at: &Path) {
    assert!(Command::new("umount").arg("-l").arg(at).status().unwrap().success());
}

#[test]
fn a_full_disk_is_a_typed_error_and_the_last_checkpoint_stays_loadable() {
    let mount = tempfile::tempdir().unwrap();
    if !mount_small(mount.path()) {
        return;
    }
    let all = Checkpoints::new(mount.path());
    let good = save(&all, 20, 1000);
    let full = save(&all, 40, 200_000);
    let (left, loaded) = (listing(all.path()), all.load_latest());
    unmount(mount.path());
    good.unwrap();
    let error = full.unwrap_err();
    assert!(matches!(error, CheckpointError::DiskFull { .. }), "{error}");
    assert_eq!(left, ["LATEST", "step-00000020"]);
    assert_eq!(loaded.unwrap().unwrap().state().step, 20);
}

#[test]
fn a_full_disk_for_staging_is_named_and_leaves_nothing() {
    let (run, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if !mount_small(mount.path()) {
        return;
    }
    let all = Checkpoints::new(run.path()).with_staging(mount.path().to_path_buf());
    let full = save(&all, 40, 400_000);
    let left = listing(mount.path());
    unmount(mount.path());
    let error = full.unwrap_err();
    assert!(matches!(&error, CheckpointError::DiskFull { path, .. } if path.starts_with(mount.path())), "{error}");
    assert_eq!(left, [""; 0]);
    assert_eq!(listing(all.path()), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let run = tempfile::tempdir().unwrap();
    let occupied = run.path().join("checkpoints");
    fs::write(&occupied, "a file").unwrap();
    let error = Checkpoints::new(run.path()).begin(20).unwrap_err();
    assert_eq!(error.class(), crate::ErrorClass::Running, "{error}");
    assert!(error.to_string().contains(&occupied.display().to_string()), "{error}");
    let (run, stage) = (tempfile::tempdir().unwrap(), run.path().join("checkpoints/stage"));
    let all = Checkpoints::new(run.path()).with_staging(stage.clone());
    for error in [all.begin(20).unwrap_err(), {
        std::mem::forget(Checkpoints::new(run.path()).begin(20));
        all.join(20).unwrap_err()
    }] {
        assert!(error.to_string().contains(&stage.display().to_string()), "{error}");
    }
}

#[test]
fn staging_delivers_and_cleans_up_after_this_run_only() {
    let (run, stage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = Checkpoints::new(run.path()).with_staging(stage.path().join("new"));
    save(&all, 20, 10).unwrap();
    assert_eq!(listing(&stage.path().join("new")), [""; 0]);
    assert_eq!(all.load_latest().unwrap().unwrap().tensor("weight.1").unwrap().data, [2; 40]);
    let key = staged::Stage::prepare(stage.path(), all.path(), 20).unwrap().file("rank-00000.safetensors");
    let strangers = stage.path().join("sirocco-0000000000000000-step-00000020-rank-00000.safetensors");
    fs::write(&key, "left by a job that was killed").unwrap();
    fs::write(&strangers, "another run's").unwrap();
    let all = Checkpoints::new(run.path()).with_staging(stage.path().to_path_buf());
    let writer = all.begin(20).unwrap();
    assert!(key.exists(), "of the same step: perhaps another rank's");
    drop(writer);
    save(&all, 40, 10).unwrap();
    assert!(!key.exists());
    assert!(strangers.exists());
}

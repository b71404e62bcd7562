//! What earlier jobs and other people leave beside checkpoints: cleaned up, given back or left alone, and never in the way.

use std::fs;

use super::tests::{listing, mount_small, save, unmount};
use super::*;

#[test]
fn a_checkpoint_that_made_room_for_one_that_never_came_is_found_and_gets_its_name_back() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    // As after kill -9 between the two renames of a file system that cannot exchange names.
    let writer = all.begin(20).unwrap();
    std::mem::forget(writer);
    fs::rename(all.step_path(20), all.path().join(".step-00000020.replaced")).unwrap();
    assert_eq!(all.load_latest().unwrap().unwrap().state().step, 20);
    drop(all.begin(40).unwrap());
    assert_eq!(listing(all.path()), ["LATEST", "step-00000020"]);
    assert_eq!(all.load_latest().unwrap().unwrap().state().step, 20);
    // One that was replaced is not needed.
    fs::create_dir(all.path().join(".step-00000020.replaced")).unwrap();
    drop(all.begin(40).unwrap());
    assert_eq!(listing(all.path()), ["LATEST", "step-00000020"]);
}

#[test]
fn what_others_put_there_is_left_alone() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    fs::write(all.path().join(".step-notes"), "mine").unwrap();
    fs::create_dir(all.path().join(".step-00000020.kept")).unwrap();
    save(&all, 40, 4).unwrap();
    assert_eq!(listing(all.path()), [".step-00000020.kept", ".step-notes", "LATEST", "step-00000020", "step-00000040"]);
}

#[test]
fn a_leftover_that_cannot_be_removed_does_not_stop_a_save() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    let busy = all.path().join(".step-00000010.removing");
    fs::create_dir(&busy).unwrap();
    if !mount_small(&busy) {
        return;
    }
    let saved = save(&all, 40, 4);
    unmount(&busy);
    saved.unwrap();
    assert_eq!(all.load_latest().unwrap().unwrap().state().step, 40);
}

#[test]
fn a_latest_that_cannot_be_read_is_no_new_beginning() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, 20, 4).unwrap();
    let latest = all.path().join(LATEST);
    fs::remove_file(&latest).unwrap();
    std::os::unix::fs::symlink(LATEST, &latest).unwrap();
    assert!(matches!(all.latest(), Err(CheckpointError::Io { action: "open", .. })));
}

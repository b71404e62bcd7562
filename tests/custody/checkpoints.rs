//! Nothing but what was signed, and is named by the ledger, is gone on from.

use std::fs;

use sirocco_tests::program::run;

use super::{copy, flip, ledger, ranks, refused, saved, step};

#[test]
fn a_checkpoint_with_one_other_byte_is_not_gone_on_from_and_not_exported() {
    let place = saved();
    let kept = place.path().join("kept");
    let names: Vec<String> = fs::read_dir(step(&place, 10))
        .expect("the checkpoint")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in &names {
        let file = step(&place, 10).join(name);
        fs::copy(&file, &kept).expect("a copy");
        flip(&file);
        let words: &[&str] = &["step-00000010"];
        refused(ranks(&place, "run", 1), 4, words);
        refused(run("sirocco", &["check", "run"], place.path()), 4, words);
        for form in ["--adapter", "--merge"] {
            refused(run("sirocco-train", &["export", "run", "--to", "out", form], place.path()), 4, words);
            assert!(!place.path().join("out").exists(), "{name}");
        }
        fs::copy(&kept, &file).expect("the file as it was");
    }
    let entries = ledger(&place, "run").matches("\"verb\":\"artefact.refused\"").count();
    assert_eq!(entries, 3 * names.len(), "each was written down, whatever was wrong with it");
    ranks(&place, "run", 1).expect_code(0);
}

#[test]
fn an_older_checkpoint_in_the_place_of_the_newest_is_refused() {
    let place = saved();
    let latest = place.file("run", "checkpoints/LATEST");
    // LATEST leads back, and the newest is whole.
    fs::write(&latest, "step-00000005\n").expect("LATEST");
    let words = &["goes on from step 5", "step 10, which was published last", "echo step-00000010 > "];
    refused(ranks(&place, "run", 1), 4, words);
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--adapter"], place.path()), 4, words);
    // Unless nobody came to naming it: killed between the checkpoint's name and LATEST.
    fs::write(place.file("run", "checkpoints/.naming"), "step-00000010").expect("what a killed process leaves");
    ranks(&place, "run", 1).expect_code(0);
    assert_eq!(fs::read_to_string(&latest).expect("LATEST"), "step-00000010\n");
    assert!(!place.file("run", "checkpoints/.naming").exists());
    fs::write(&latest, "step-00000005\n").expect("LATEST");
    // One that was asked for by its step is exported.
    run("sirocco-train", &["export", "run", "--to", "five", "--adapter", "--step", "5"], place.path()).expect_code(0);
    // An earlier one of the same step, with its own good signature.
    place.copy("run", "before");
    fs::remove_dir_all(step(&place, 10)).expect("the newest");
    ranks(&place, "run", 1).expect_code(0).expect_words(&[]);
    fs::remove_dir_all(step(&place, 10)).expect("the new one");
    let old = place.file("before", "checkpoints/step-00000010");
    copy(&old, &step(&place, 10));
    refused(ranks(&place, "run", 1), 4, &["step-00000010", "another checkpoint than the one that the run's ledger names"]);
    refused(
        run("sirocco-train", &["export", "run", "--to", "out", "--adapter", "--step", "10"], place.path()),
        4,
        &["another checkpoint"],
    );
    // Without its ledger it is nobody's.
    fs::remove_dir_all(place.file("run", "ledger")).expect("the ledger");
    refused(ranks(&place, "run", 1), 4, &["names no checkpoint of this step"]);
}

#[test]
fn a_checkpoint_without_a_signature_is_refused() {
    let place = saved();
    for name in ["origin.json", "provenance.intoto.jsonl", "model.sig"] {
        fs::remove_file(step(&place, 10).join(name)).expect("a file of the signature");
    }
    let words = &["step-00000010 has no signature", "echo step-00000005 > "];
    refused(ranks(&place, "run", 1), 4, words);
    refused(run("sirocco-train", &["export", "run", "--to", "out", "--merge"], place.path()), 4, words);
}

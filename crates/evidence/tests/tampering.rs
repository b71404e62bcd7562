//! Changes by somebody who has no key: every one is found, and where one file is at fault it is named.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use sirocco_evidence::{Demand, Files, verify};
use support::{Run, check, copy, failed, findings, written};

/// Numbers that are the same in every run of the tests (xorshift64, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn an_untouched_bundle_passes_wherever_it_lies() {
    let run = Run::whole();
    let folder = tempfile::tempdir().unwrap();
    let (one, other, tar) = (folder.path().join("one"), folder.path().join("other"), folder.path().join("one.tar"));
    run.all().write(&one, &run.keys.release).unwrap();
    run.all().write(&tar, &run.keys.release).unwrap();
    copy(&one, &other);
    for name in ["evidence.json", "model.sig"] {
        fs::set_permissions(other.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let packed = folder.path().join("packed.tar");
    let gnu = Command::new("tar").arg("-cf").arg(&packed).arg("other").current_dir(folder.path()).status().unwrap();
    assert!(gnu.success());
    // Another program's headers are covered by no signature.
    assert!(Files::read(&packed).unwrap_err().to_string().contains("checked unpacked"));
    for path in [&one, &other, &tar] {
        let report = check(&Files::read(path).unwrap(), &run.trusted());
        assert!(report.ok, "{}: {:#?}", path.display(), findings(&report));
    }
    assert!(run.all().write(&one, &run.keys.release).is_err(), "nothing is overwritten");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_byte_of_any_file_is_missed() {
    let run = Run::whole();
    let (good, trusted) = (written(&run, &run.all()), run.trusted());
    let mut tried = 0;
    for (name, bytes) in &good.files {
        let length = bytes.len();
        let places =
            [0, 1, length / 4, length / 3, length / 2, length * 3 / 4, length.saturating_sub(2), length.saturating_sub(1)];
        for (place, bit) in places.into_iter().zip([0, 1, 2, 3, 4, 5, 6, 0]) {
            let mut bad = good.clone();
            bad.files.get_mut(name).unwrap()[place] ^= 1 << bit;
            named(&bad, &trusted, &[name], &format!("{name}, byte {place}, bit {bit}"));
            tried += 1;
        }
    }
    assert!(tried >= 150, "{tried}");
}

/// The check of the signature finds these files and no others.
fn named(bad: &Files, trusted: &sirocco_evidence::Trusted, files: &[&str], what: &str) {
    let report = check(bad, trusted);
    assert!(!report.ok, "not found: {what}");
    let mut found: Vec<&str> = report.checks[0].findings.iter().map(|finding| finding.file.as_str()).collect();
    let mut expected = files.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    // Without its signature nothing can be said of the files.
    let expected = if expected.contains(&"model.sig") { vec!["model.sig"] } else { expected };
    assert_eq!(found, expected, "{what}: {:#?}", findings(&report));
}

#[test]
fn five_hundred_changes_are_found_and_named() {
    let run = Run::whole();
    let (good, trusted) = (written(&run, &run.all()), run.trusted());
    let names: Vec<&String> = good.files.keys().collect();
    let mut numbers = Numbers(0x5151_2026);
    let mut count = 0;
    while count < 500 {
        let (one, other) = (names[numbers.below(names.len())], names[numbers.below(names.len())]);
        let (bytes, beside) = (&good.files[one], &good.files[other]);
        let (place, kind) = (numbers.below(bytes.len()), numbers.below(8));
        let mut bad = good.clone();
        let mut put = |name: &str, bytes: Vec<u8>| drop(bad.files.insert(name.to_owned(), bytes));
        let mut changed = bytes.clone();
        let wrong: Vec<&str> = match kind {
            0 | 1 => {
                changed[place] ^= 1 << numbers.below(8);
                put(one, changed);
                vec![one]
            }
            2 => {
                changed.truncate(place);
                put(one, changed);
                vec![one]
            }
            3 => {
                changed.insert(place, b'0');
                put(one, changed);
                vec![one]
            }
            4 => {
                bad.files.remove(one);
                vec![one]
            }
            5 if bytes != beside => {
                put(one, beside.clone());
                put(other, bytes.clone());
                vec![one, other]
            }
            6 if bytes != beside => {
                put(one, beside.clone());
                vec![one]
            }
            7 => {
                put("ledger/tile/extra", changed);
                vec!["ledger/tile/extra"]
            }
            _ => continue,
        };
        named(&bad, &trusted, &wrong, &format!("kind {kind} of {one}, {other}, byte {place}"));
        count += 1;
    }
}

#[test]
fn a_changed_tar_is_refused_or_found() {
    let run = Run::whole();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar");
    run.all().write(&path, &run.keys.release).unwrap();
    let (good, trusted) = (fs::read(&path).unwrap(), run.trusted());
    let refused = |bad: &[u8]| Files::of_tar(&path, bad).map_or(true, |files| !check(&files, &trusted).ok);
    assert!(!refused(&good));
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        let place = numbers.below(good.len());
        let mut bad = good.clone();
        bad[place] ^= 1 << numbers.below(8);
        assert!(refused(&bad), "byte {place}");
    }
    // Every byte of the first header, in ways that leave numbers as they are.
    for place in 0..512 {
        for byte in [b' ', 0, b'0'].into_iter().filter(|byte| *byte != good[place]) {
            let mut bad = good.clone();
            bad[place] = byte;
            assert!(refused(&bad), "byte {place} as {byte}");
        }
    }
    assert!(refused(&[good.as_slice(), &[0; 512]].concat()), "one block more");
}

#[test]
fn links_and_other_things_in_a_bundle_are_found() {
    let run = Run::whole();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b");
    run.all().write(&path, &run.keys.release).unwrap();
    fs::rename(path.join("evidence.json"), folder.path().join("evidence.json")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("evidence.json"), path.join("evidence.json")).unwrap();
    let report = check(&Files::read(&path).unwrap(), &run.trusted());
    assert!(findings(&report).iter().any(|line| line.contains("evidence.json: is a symbolic link")), "{:#?}", findings(&report));
}

#[test]
fn what_is_added_without_a_change_of_any_file_is_found() {
    let run = Run::whole();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b");
    run.all().write(&path, &run.keys.release).unwrap();
    fs::create_dir_all(path.join("approvals/person:anyone")).unwrap();
    let found = findings(&check(&Files::read(&path).unwrap(), &run.trusted()));
    assert!(found.iter().any(|line| line.contains("approvals/person:anyone/: is an empty directory")), "{found:#?}");
    fs::remove_dir_all(path.join("approvals/person:anyone")).unwrap();
    let _ = fs::remove_dir(path.join("approvals"));
    let sealed = fs::read(path.join("model.sig")).unwrap();
    for (at, byte) in [(sealed.len(), b'\n'), (0, b' '), (1, b' ')] {
        let mut bytes = sealed.clone();
        bytes.insert(at, byte);
        fs::write(path.join("model.sig"), bytes).unwrap();
        let found = findings(&check(&Files::read(&path).unwrap(), &run.trusted()));
        assert!(found.iter().any(|line| line.contains("model.sig") && line.contains("other bytes around it")), "{found:#?}");
    }
    fs::write(path.join("model.sig"), sealed).unwrap();
    let report = check(&Files::read(&path).unwrap(), &run.trusted());
    assert!(report.ok, "{:#?}", findings(&report));
}

#[test]
fn another_trust_is_no_trust() {
    let (run, stranger) = (Run::whole(), Run::new());
    let report = check(&written(&run, &run.all()), &stranger.trusted());
    assert_eq!(failed(&report), ["signature", "ledger", "proofs", "artefacts"], "{:#?}", findings(&report));
}

#[test]
fn changed_weights_are_named() {
    let run = Run::whole();
    let (files, trusted) = (written(&run, &run.all()), run.trusted());
    let with = |artefacts: &[&str]| {
        let artefacts = artefacts.iter().map(|name| run.path(name)).collect();
        verify(&files, &Demand { trusted: &trusted, earlier: Vec::new(), artefacts })
    };
    for given in [&["demo-adapter"][..], &["."], &["checkpoints"], &["checkpoints/step-00000004", "demo-adapter"]] {
        let report = with(given);
        assert!(report.ok, "{given:?}: {:#?}", findings(&report));
    }
    fs::create_dir(run.path("checkpoints/unsigned")).unwrap();
    let looked_at = with(&["checkpoints"]).checks.pop().unwrap().looked_at;
    let unsigned = run.path("checkpoints/unsigned").display().to_string();
    assert!(looked_at.contains(&format!("not of this run, and not compared: {unsigned}")), "{looked_at}");
    let weights = run.path("demo-adapter/weights.safetensors");
    // A copy under another name is known by its signature.
    fs::create_dir_all(run.path("deployed/model")).unwrap();
    for entry in fs::read_dir(run.path("demo-adapter")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), run.path("deployed/model").join(entry.file_name())).unwrap();
    }
    assert!(with(&["deployed"]).ok && with(&["deployed/model"]).ok, "{:#?}", findings(&with(&["deployed"])));
    fs::write(run.path("deployed/model/weights.safetensors"), "others").unwrap();
    for given in ["deployed", "deployed/model"] {
        let found = findings(&with(&[given]));
        assert!(found.len() == 1 && found[0].contains("deployed/model/weights.safetensors: was changed"), "{found:#?}");
    }
    let mut bytes = fs::read(&weights).unwrap();
    bytes[4321] ^= 4;
    fs::write(&weights, bytes).unwrap();
    fs::write(run.path("demo-adapter/more.py"), "").unwrap();
    let found = findings(&with(&["demo-adapter"]));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("demo-adapter/weights.safetensors: was changed") && found[1].contains("more.py: was added"),
        "{found:#?}"
    );
    assert!(with(&["checkpoints"]).ok, "the others are as they were");
    let nowhere = findings(&with(&["ledger"]));
    assert!(nowhere[0].contains("none of the signed directories is there"), "{nowhere:#?}");
    let half = findings(&with(&["checkpoints", "ledger"]));
    assert!(half.len() == 1 && half[0].contains("ledger: none of the signed"), "{half:#?}");
}

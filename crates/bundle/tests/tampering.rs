//! Changes by somebody who has no key, and bundles of somebody who has one and means harm: every one is refused, and the file is named.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use sirocco_bundle::{BundleError, Record};
use sirocco_files::tar::{header, padding};
use sirocco_signing::manifest::{Manifest, Options, Resource};
use sirocco_signing::oms;
use sirocco_signing::trust::Trust;
use support::{Site, files, open, sender};

/// A bundle in memory, tried after each change.
struct Case {
    site: Site,
    trust: Trust,
    good: Vec<u8>,
    /// Where the members begin, with their names.
    members: Vec<(usize, String)>,
}

impl Case {
    fn new() -> Case {
        let (site, tar) = sender();
        let trust = site.trusted_for("\"import\"");
        let good = std::fs::read(&tar).unwrap();
        let bundle = open(&tar, &trust).unwrap();
        let signature = usize::from_str_radix(std::str::from_utf8(&good[124..135]).unwrap(), 8).unwrap();
        let size = |at: usize| usize::from_str_radix(std::str::from_utf8(&good[at + 124..at + 135]).unwrap(), 8).unwrap();
        let whole = |bytes: usize| 512 + bytes + padding(bytes as u64);
        let mut at = whole(signature);
        let mut members = vec![(0, "model.sig".to_owned()), (at, "bundle.json".to_owned())];
        at += whole(size(at));
        for file in bundle.record().files() {
            members.push((at, file.name.clone()));
            at += whole(usize::try_from(file.bytes).unwrap());
        }
        members.push((at, "the end".to_owned()));
        assert_eq!(at + 1024, good.len());
        Case { site, trust, good, members }
    }

    fn refusal(&self, bytes: &[u8]) -> Option<String> {
        let path = self.site.path("changed.tar");
        std::fs::write(&path, bytes).unwrap();
        open(&path, &self.trust).err().map(|error| error.to_string())
    }

    fn member(&self, at: usize) -> &str {
        &self.members.iter().rfind(|(begin, _)| *begin <= at).unwrap().1
    }
}

#[test]
fn a_flipped_bit_in_any_byte_is_refused_by_the_name_of_its_file() {
    let case = Case::new();
    assert_eq!(case.refusal(&case.good), None);
    for at in 0..case.good.len() {
        let mut bad = case.good.clone();
        bad[at] ^= 1 << (at % 8);
        let error = case.refusal(&bad).unwrap_or_else(|| panic!("byte {at} of {}", case.member(at)));
        assert!(error.contains(case.member(at)), "byte {at} of {}: {error}", case.member(at));
    }
}

#[test]
fn bytes_around_what_is_signed_are_refused() {
    let case = Case::new();
    let next = case.members[1].0;
    let size = usize::from_str_radix(std::str::from_utf8(&case.good[124..135]).unwrap(), 8).unwrap();
    let signature = &case.good[512..512 + size];
    let with = |signature: &[u8]| {
        let bytes = signature.len() as u64;
        let head = [&header("model.sig", bytes).unwrap()[..], signature, &vec![0; padding(bytes)]].concat();
        case.refusal(&[&head, &case.good[next..]].concat())
    };
    assert_eq!(with(signature), None);
    for bad in [[signature, b"\n"].concat(), [b" ", signature].concat(), [&signature[..1], b" ", &signature[1..]].concat()] {
        assert!(with(&bad).unwrap().contains("other bytes around it"));
    }
}

#[test]
fn a_bundle_that_was_cut_anywhere_is_refused() {
    let case = Case::new();
    for end in 0..case.good.len() {
        let error = case.refusal(&case.good[..end]).unwrap_or_else(|| panic!("{end}"));
        assert!(error.contains("the end of the bundle"), "{end}: {error}");
    }
    for more in [&b"\0"[..], b"x", &[0; 512]] {
        assert!(case.refusal(&[&case.good, more].concat()).unwrap().contains("more than was signed"));
    }
}

#[test]
fn files_that_were_taken_away_doubled_or_exchanged_are_refused() {
    let case = Case::new();
    let cut = |member: usize| &case.good[case.members[member].0..case.members[member + 1].0];
    let all = || (0..case.members.len() - 1).map(cut);
    let end = &case.good[case.good.len() - 1024..];
    for member in 0..case.members.len() - 1 {
        let name = &case.members[member].1;
        let without: Vec<&[u8]> = all().enumerate().filter(|(number, _)| *number != member).map(|(_, bytes)| bytes).collect();
        assert!(case.refusal(&[without.concat(), end.to_vec()].concat()).unwrap().contains(name), "{name} away");
        let twice: Vec<&[u8]> =
            all().enumerate().flat_map(|(number, bytes)| vec![bytes; 1 + usize::from(number == member)]).collect();
        assert!(case.refusal(&[twice.concat(), end.to_vec()].concat()).is_some(), "{name} twice");
        let mut order: Vec<&[u8]> = all().collect();
        order.swap(member, (member + 1) % (case.members.len() - 1));
        assert!(case.refusal(&[order.concat(), end.to_vec()].concat()).is_some(), "{name} later");
    }
}

#[test]
fn a_key_without_the_role_and_a_strange_key_are_refused() {
    let (site, tar) = sender();
    for roles in ["\"policy\"", "\"checkpoint\"", ""] {
        let error = open(&tar, &site.trusted_for(roles)).unwrap_err().to_string();
        assert!(error.contains("role"), "{error}");
    }
    let error = open(&tar, &Site::new("").trusted_for("\"release\", \"import\"")).unwrap_err().to_string();
    assert!(error.contains("model.sig"), "{error}");
}

/// A bundle that somebody signed whose key is trusted, with a record and members of their own choice.
fn forged(case: &Case, change: impl FnOnce(&mut Record, &mut Vec<([u8; 512], Vec<u8>)>)) -> PathBuf {
    let tar = case.site.path("out.tar");
    let mut record = open(&tar, &case.trust).unwrap().record().clone();
    let mut members: Vec<([u8; 512], Vec<u8>)> = Vec::new();
    for (file, (begin, _)) in record.files().zip(&case.members[2..]) {
        let bytes = case.good[begin + 512..begin + 512 + usize::try_from(file.bytes).unwrap()].to_vec();
        members.push((header(&file.name, file.bytes).unwrap(), bytes));
    }
    change(&mut record, &mut members);
    let text = serde_json::to_vec(&record).unwrap();
    let mut lines: BTreeMap<String, _> = record.files().map(|file| (file.name.clone(), file.sha256)).collect();
    lines.insert("bundle.json".to_owned(), sirocco_files::BareDigest::of(&text));
    let resource = |(file, digest)| Resource { file, range: None, digest };
    let options = Options { ignore: vec!["model.sig".to_owned(), "facts.toml".to_owned()], ..Options::default() };
    let manifest = Manifest::new("bundle".to_owned(), options, lines.into_iter().map(resource).collect()).unwrap();
    let signature = oms::signature(&tar, &manifest, &case.site.keys.release).unwrap().into_bytes();
    let head =
        [("model.sig", signature), ("bundle.json", text)].map(|(name, bytes)| (header(name, bytes.len() as u64).unwrap(), bytes));
    let mut out = Vec::new();
    for (header, bytes) in head.into_iter().chain(members) {
        out.extend(header);
        out.extend(&bytes);
        out.resize(out.len() + padding(bytes.len() as u64), 0);
    }
    out.resize(out.len() + 1024, 0);
    let path = case.site.path("forged.tar");
    std::fs::write(&path, out).unwrap();
    path
}

#[test]
fn a_trusted_key_does_not_make_a_bundle_write_elsewhere() {
    let case = Case::new();
    assert!(open(&forged(&case, |_, _| ()), &case.trust).is_ok());
    type Change = fn(&mut Record, &mut Vec<([u8; 512], Vec<u8>)>);
    let changes: [(&str, Change); 11] = [
        ("a path with a control character or a backslash", |record, _| rename(record, "parts/empty.txt", "parts/..\\empty.txt")),
        ("differ in more than upper and lower case", |record, _| rename(record, "parts/empty.txt", "parts/DEMO-adapter")),
        ("expected parts/NAME", |record, _| rename(record, "parts/empty.txt", "parts/e/mpty.txt")),
        ("another header of", |_, members| members[1].0 = link()),
        ("at least one part", |record, _| record.parts.clear()),
        ("version 2", |record, _| record.v = 2),
        ("without control characters", |record, _| record.site = "s\n[data.mild]\nresidency = \"anywhere\"".to_owned()),
        ("without control characters", |record, _| {
            record.parts[2].labels = serde_json::from_str("{\"purposes\":[\"\\u001b[2J\"]}").unwrap();
        }),
        ("as bundle.json says", |record, _| record.parts[0].artefact = "adapter:other".parse().unwrap()),
        ("something that can be sent", |record, _| record.parts[2].artefact = "endpoint:other".parse().unwrap()),
        ("16 EiB", |record, _| record.parts[3].files.iter_mut().for_each(|file| file.bytes = u64::MAX)),
    ];
    for (words, change) in changes {
        let error = open(&forged(&case, change), &case.trust).unwrap_err();
        assert!(matches!(error, BundleError::Malformed { .. }) && error.to_string().contains(words), "{words}: {error}");
    }
    // A size that no disk has is known before a byte of it is looked for.
    let huge = forged(&case, |record, members| {
        let last = record.parts.len() - 1;
        let file = record.parts[last].files.last_mut().unwrap();
        file.bytes = 1 << 60;
        members.last_mut().unwrap().0 = header(&file.name, file.bytes).unwrap();
    });
    let error = open(&huge, &case.trust).unwrap_err().to_string();
    assert!(error.contains("the end of the bundle") && error.contains("bytes more"), "{error}");
}

fn rename(record: &mut Record, from: &str, to: &str) {
    for part in &mut record.parts {
        if part.place == from {
            part.place = to.to_owned();
            part.files[0].name = to.to_owned();
        }
    }
}

/// The header of a link, with the checksum of one.
fn link() -> [u8; 512] {
    let mut link = header("parts/demo-adapter/origin.json", 0).unwrap();
    link[156] = b'2';
    // What the type has more, the mode has less: the checksum stays.
    link[106] -= 2;
    link
}

#[test]
fn a_bundle_that_changes_after_it_was_verified_leaves_nothing() {
    let case = Case::new();
    let there = Site::new("");
    let path = case.site.path("out.tar");
    let bundle = open(&path, &case.trust).unwrap();
    let to = there.path("in");
    let admitted = there.incoming(&bundle, &to);
    let before = files(there.folder.path());
    let (last, name) = &case.members[case.members.len() - 2];
    let mut bad = case.good.clone();
    bad[last + 512] ^= 1;
    // The same file, as its reader has it open.
    std::fs::write(&path, bad).unwrap();
    let error = bundle.unpack(&to, &admitted, &there.custody, &mut sirocco_bundle::silent).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    assert!(!to.exists() && files(there.folder.path()) == before);
    let mut beats = 0;
    std::fs::write(&path, &case.good).unwrap();
    let stopped = bundle.unpack(&to, &admitted, &there.custody, &mut |_, _| {
        beats += 1;
        if beats > 3 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(BundleError::Stopped)) && !to.exists());
    assert_eq!(files(there.folder.path()), before);
    assert!(bundle.unpack(&to, &admitted, &there.custody, &mut sirocco_bundle::silent).is_ok());
}

#[test]
fn any_bytes_are_refused() {
    let case = Case::new();
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let changes = prop::collection::vec((0..case.good.len(), any::<u8>()), 1..20);
    runner
        .run(&(changes, 0..case.good.len(), 0_usize..2000), |(changes, from, more)| {
            let mut bytes = case.good.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let copied = bytes[from..].iter().copied().take(more).collect::<Vec<_>>();
            bytes.extend(copied);
            prop_assert!(bytes == case.good || case.refusal(&bytes).is_some());
            prop_assert!(case.refusal(&bytes[from..]).is_some() || (from == 0 && bytes == case.good));
            Ok(())
        })
        .unwrap();
}

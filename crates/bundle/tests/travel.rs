//! From one site to another and nowhere else: what was packed is there again, under the same labels.

mod support;

use std::path::PathBuf;
use std::process::Command;

use sirocco_bundle::{BundleError, Cover, Part, pack, silent};
use sirocco_custody::{Lineage, today};
use sirocco_files::BareDigest;
use sirocco_policy::{Facts, Guarded as _, Source};
use sirocco_signing::oms;
use support::{Site, files, open, sender};

#[test]
fn what_was_packed_is_there_again() {
    let (site, tar) = sender();
    let (there, trust) = (Site::new(""), site.trusted_for("\"import\""));
    let bundle = open(&tar, &trust).unwrap();
    let names: Vec<String> = bundle.record().parts.iter().map(|part| part.artefact.to_string()).collect();
    let empty = format!("data:{}", site.path("empty.txt").display());
    assert_eq!(names, ["adapter:demo", empty.as_str(), "data:letters", "model:tiny"]);
    let signers: Vec<_> = bundle.record().parts.iter().map(|part| bundle.signer_of(part)).collect();
    assert_eq!((bundle.signer(), signers), ("sender", vec![Some("sender"), None, None, None]));

    let to = there.path("in");
    there.unpack(&bundle, &to).unwrap();
    for (name, at) in
        [("letters.jsonl", "letters.jsonl"), ("tiny", "tiny"), ("demo-adapter", "demo-adapter"), ("empty.txt", "empty.txt")]
    {
        let same = Command::new("diff").arg("-r").arg(site.path(name)).arg(to.join("parts").join(at)).status().unwrap();
        assert!(same.success(), "{name}");
    }
    // The signature holds for the directory, too, whoever verifies it.
    assert_eq!(oms::verify(&to, &trust).unwrap().signer.name, "sender");
    assert!(files(&there.path("in")).contains(&"facts.toml".to_owned()));
    let text = std::fs::read_to_string(to.join("facts.toml")).unwrap();
    let facts = Facts::parse(&[Source::new("facts.toml", text.clone())]).unwrap();
    let letters = facts.described(&"data:letters".parse().unwrap()).unwrap().clone();
    assert_eq!(letters.sha256, Some(BareDigest::of(b"{}\n")));
    assert_eq!(letters.labels.residency.unwrap().to_string(), "LU");
    assert!(facts.described(&"model:tiny".parse().unwrap()).is_some() && !text.contains("adapter"), "{text}");
    assert!(matches!(bundle.incoming(&there.custody, &to), Err(BundleError::Exists { .. })), "nothing is replaced");
}

#[test]
fn labels_travel_to_the_question_whether_it_may_come_in() {
    let (site, tar) = sender();
    let letters = BareDigest::of(b"{}\n");
    let there = Site::new(&format!("[data.known]\nsha256 = \"{letters}\"\nresidency = [\"BE\"]\n"));
    let bundle = open(&tar, &site.trusted_for("\"release\"")).unwrap();
    let incoming = bundle.incoming(&there.custody, &there.path("in")).unwrap();
    let [adapter, _, letters, model] = &incoming[..] else { panic!("{incoming:?}") };
    // The bytes are known here under another name.
    assert_eq!(letters.artefact().to_string(), "data:known");
    let place = there.folder.path().canonicalize().unwrap().join("in/parts/tiny");
    assert_eq!(model.artefact().to_string(), format!("model:{}", place.display()));
    for (part, from, residency) in
        [(adapter, "adapter:demo", "LU"), (letters, "data:letters", "LU"), (model, "model:tiny", "anywhere")]
    {
        let from = from.parse().unwrap();
        let lineage = part.lineage();
        assert!(lineage.made[part.artefact()].contains(&from) && lineage.verified.contains(&from), "{lineage:?}");
        assert_eq!(lineage.recorded[&from].residency.as_ref().unwrap().to_string(), residency);
        let question = sirocco_custody::Question::new(sirocco_policy::Action::Import, part.artefact().clone(), lineage.clone());
        let labels = there.custody.ask(question).unwrap().labels;
        // What this site says of the letters' bytes counts as well, also for what was made from them.
        let expected = if residency == "LU" { "nowhere" } else { residency };
        assert_eq!(labels.residency.unwrap().to_string(), expected, "{from}");
    }
}

#[test]
fn the_same_artefacts_give_the_same_bytes_and_any_tar_reads_them() {
    let (site, tar) = sender();
    let paths = [site.path("empty.txt"), site.path("demo-adapter"), site.path("tiny"), site.path("letters.jsonl")];
    let packed = site.pack(&paths, &site.path("again.tar")).unwrap();
    let [one, other] = [tar.clone(), site.path("again.tar")].map(|path| std::fs::read(path).unwrap());
    assert_eq!((one.len() as u64, other.len()), (packed.bytes, one.len()));
    let signature = open(&tar, &site.trusted_for("\"release\"")).unwrap();
    assert_eq!(signature.digest(), packed.digest);
    let begin = one.windows(11).position(|window| window == b"bundle.json").unwrap();
    assert_eq!(one[begin..], other[begin..]);
    let listed = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names[..2], ["model.sig", "bundle.json"]);
    assert!(names[2..].is_sorted() && names.contains(&"parts/tiny/deep/model.safetensors"), "{names:?}");
}

#[test]
fn nothing_is_unpacked_that_was_not_admitted_for_this_bundle_and_this_place() {
    let (site, tar) = sender();
    let (there, trust) = (Site::new(""), site.trusted_for("\"import\""));
    site.pack(&[site.path("letters.jsonl")], &site.path("other.tar")).unwrap();
    let [bundle, other] = [&tar, &site.path("other.tar")].map(|path| open(path, &trust).unwrap());
    let before = files(there.folder.path());
    let to = there.path("in");
    let mut admitted = there.incoming(&bundle, &to);
    let refused = |admitted: &[_], to: PathBuf| match bundle.unpack(&to, admitted, &there.custody, &mut silent) {
        Err(BundleError::OtherParts { found, expected: 4, .. }) => found,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(refused(&admitted, there.path("elsewhere")), 0);
    assert_eq!(refused(&there.incoming(&other, &to), to.clone()), 0);
    drop(admitted.pop());
    assert_eq!(refused(&admitted, to.clone()), 3);
    assert_eq!(files(there.folder.path()), before);
}

#[test]
fn what_cannot_be_packed_is_named_and_nothing_is_left() {
    let (site, _) = sender();
    let trust = site.keys.trust(None).unwrap();
    let before = files(site.folder.path());
    let of =
        |path: &str| Part::of(&site.path(path), &site.custody, Some(&trust), &mut silent).err().map(|error| error.to_string());
    assert!(of("nowhere").unwrap().contains("nowhere"));
    assert_eq!(of("demo-adapter"), None);
    assert!(Part::of(&site.path("demo-adapter"), &site.custody, None, &mut silent).unwrap_err().to_string().contains("no key"));
    let stranger = Site::new("").trusted_for("\"release\"");
    assert!(Part::of(&site.path("demo-adapter"), &site.custody, Some(&stranger), &mut silent).is_err());
    // Between the question and the packing a byte changes.
    let admitted = site.admitted(&[site.path("tiny"), site.path("letters.jsonl")]);
    std::fs::write(site.path("letters.jsonl"), "{\n\n").unwrap();
    let cover = (&site.custody, Cover::default(), today());
    let late = pack(&admitted, cover, &site.path("late.tar"), &site.keys.release, &mut silent).unwrap_err();
    assert!(matches!(&late, BundleError::ChangedMeanwhile { path, .. } if path.ends_with("letters.jsonl")), "{late}");
    std::fs::write(site.path("demo-adapter/weights.safetensors"), [8; 700]).unwrap();
    assert!(of("demo-adapter").unwrap().contains("weights.safetensors"));
    assert_eq!(files(site.folder.path()), before);
    assert!(matches!(site.pack(&[site.path("tiny")], &site.path("out.tar")), Err(BundleError::Exists { .. })));
}

#[test]
fn a_directory_with_a_signature_alone_is_compared_and_has_the_labels_of_facts() {
    let site = Site::new("[data.evidence]\npath = \"evidence\"\nclassification = \"internal\"\n");
    site.write("evidence/evidence.json", b"{}");
    oms::sign(&site.path("evidence"), &site.keys.release, sirocco_signing::manifest::Options::default()).unwrap();
    let trust = site.keys.trust(None).unwrap();
    let part = Part::of(&site.path("evidence"), &site.custody, Some(&trust), &mut silent).unwrap();
    assert_eq!((part.artefact().to_string(), part.bytes() > 2), ("data:evidence".to_owned(), true));
    let covered = oms::verify(&site.path("evidence"), &trust).unwrap().digest;
    assert_eq!(part.digest(), covered);
    std::fs::write(site.path("evidence/evidence.json"), "[]").unwrap();
    let error = Part::of(&site.path("evidence"), &site.custody, Some(&trust), &mut silent).unwrap_err().to_string();
    assert!(error.contains("evidence.json"), "{error}");
    assert!(Lineage::default().made.is_empty());
}

//! The demonstration's corpus: its specification on an excerpt with the three faulty rows of the real file, which is kept here,
//! and on the whole of it where that has been fetched.

use sirocco_corpus::{Script, Spec, check, sha256_file};
use std::path::Path;

#[test]
fn the_faults_of_the_darija_sentences_are_found_and_cost_their_own_lines() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut spec = Spec::open(&here.join("../../datasets/doda.toml")).unwrap();
    let excerpt = here.join("tests/doda/sentences.csv");
    spec.sources.truncate(1);
    spec.held_out = 0.0; // too few rows to hold any out
    spec.sources[0].sha256 = Some(sha256_file(&excerpt).unwrap());
    spec.sources[0].path = excerpt;
    spec.sources[0].licence.file = here.join("tests/doda/LICENSE");
    for multiline in [false, true] {
        spec.sources[0].multiline = multiline;
        let report = check(&spec, &mut |_| {}).unwrap();
        let sentences = &report.sources[0];
        let bad: Vec<(u64, &str)> = sentences.skipped.places.iter().map(|place| (place.line, place.reason.as_str())).collect();
        let [after, width, open] = &bad[..] else { panic!("{bad:?}") };
        assert!(after.0 == 11 && after.1.starts_with("text after a closing quotation mark (column 50)"), "{after:?}");
        assert!(width.0 == 20 && width.1.starts_with("the row has 1 fields; expected 2"), "{width:?}");
        assert!(open.0 == 28, "{open:?}");
        assert_eq!((sentences.records, sentences.duplicates, sentences.kept), (30, 0, 27));
        assert_eq!(report.train.conversations, 27);
    }
}

#[test]
fn the_whole_darija_corpus_has_the_numbers_of_its_specification() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let spec = Spec::open(&root.join("datasets/doda.toml")).unwrap().rooted(&root);
    if !spec.sources[0].path.exists() {
        return; // `make demo` fetches it; the excerpt above is always there
    }
    let report = check(&spec, &mut |_| {}).unwrap();
    let [sentences, words] = &report.sources[..] else { panic!("expected two sources") };
    let bad: Vec<u64> = sentences.skipped.places.iter().map(|place| place.line).collect();
    assert_eq!(bad, [5038, 5058, 6559]); // text after a quote, a missing comma, a quote that is never closed
    assert_eq!((sentences.records, sentences.duplicates, sentences.kept), (10_001, 48, 9950));
    assert_eq!((report.train.conversations, report.valid.conversations), (10_731, 218));
    assert_eq!((words.records, words.duplicates, words.kept, words.skipped.count), (1000, 1, 999, 0));
    assert_eq!(words.answer_scripts[&Script::Arabic], 999);
}

//! The demonstration's corpus: its specification is always read; the numbers are checked where the sources have been fetched.

use sirocco_corpus::{Script, Spec, check};
use std::path::Path;

#[test]
fn the_darija_specification_keeps_its_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let spec = Spec::open(&root.join("datasets/doda.toml")).unwrap().rooted(&root);
    if !spec.sources[0].path.exists() {
        return; // `make demo` fetches it
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

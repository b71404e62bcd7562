//! Data files to a token cache and back, and everything that must stop it.
#![expect(clippy::unwrap_used, clippy::single_range_in_vec_init, reason = "helpers of tests; one target span is common")]

use proptest::prelude::*;
use sirocco_corpus::OnBad;
use sirocco_tokens::{Document, Format, Order, TokenCache, TokenCacheInputs, Tokenizer, assemble, pack};
use std::fs;
use std::path::{Path, PathBuf};

fn tokenizer() -> Tokenizer {
    Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/chatml")).unwrap()
}

fn line(question: &str, answer: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"{question}"}},{{"role":"assistant","content":"{answer}"}}]}}"#) + "\n"
}

struct Case {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
    tokenizer: Tokenizer,
    format: Format,
    sequence_length: usize,
    on_bad: OnBad,
}

impl Case {
    fn new(contents: &[(&str, &str)]) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let files = contents.iter().map(|(name, content)| {
            fs::write(dir.path().join(name), content).unwrap();
            dir.path().join(name)
        });
        let files = files.collect();
        Case { dir, files, tokenizer: tokenizer(), format: Format::Chat, sequence_length: 128, on_bad: OnBad::Fail }
    }

    fn inputs(&self) -> TokenCacheInputs<'_> {
        let Case { files, tokenizer, format, sequence_length, on_bad, .. } = self;
        TokenCacheInputs { tokenizer, files, format: *format, sequence_length: *sequence_length, on_bad: *on_bad }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("tokens/train.tokens")
    }

    fn build(&self) -> Result<TokenCache, String> {
        let build = TokenCache::build(&self.path(), &self.inputs(), &mut |_| {});
        build.map_err(|error| error.to_string().replace(&format!("{}/", self.dir.path().display()), ""))
    }

    fn open(&self) -> Result<TokenCache, String> {
        TokenCache::open(&self.path()).map_err(|error| error.to_string())
    }
}

fn documents(cache: &TokenCache) -> Vec<Document> {
    (0..cache.len()).map(|document| cache.document(document).unwrap()).collect()
}

#[test]
fn documents_come_back_with_their_sources_and_counts() {
    let (a, b) = (line("salam", "labas") + &line("7na", "nta"), line("x", "ع 👍"));
    let case = Case::new(&[("a.jsonl", &a), ("b.jsonl", &b)]);
    let cache = case.build().unwrap();
    let found = documents(&cache);
    assert_eq!((cache.len(), cache.source(1), cache.source(2), cache.source(3)), (3, Some(0), Some(1), None));
    assert_eq!(cache.lengths(), found.iter().map(|document| document.ids.len()).collect::<Vec<_>>());
    let counts = |document: &Document| Some((document.ids.len(), document.target_count()));
    assert!((0..3).all(|document| cache.counts(document) == counts(&found[document])) && cache.counts(3).is_none());
    let header = cache.header();
    assert_eq!(header.tokens, cache.lengths().iter().sum::<usize>() as u64);
    assert_eq!((header.sources[0].documents, header.sources[1].documents), (2, 1));
    let targets: u64 = header.sources.iter().map(|source| source.target_tokens).sum();
    assert_eq!(targets, found.iter().map(|document| document.target_count() as u64).sum::<u64>());
    assert_eq!(documents(&case.open().unwrap()), found);
    assert!(cache.document(3).unwrap_err().to_string().contains("the number of a document is 3; expected less than 3"));
    assert_eq!(fs::read_dir(case.dir.path().join("tokens")).unwrap().count(), 1);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let lines: String = (0..3000).map(|i| line(&format!("q {i}"), &format!("a {i}"))).collect();
    let case = Case::new(&[("a.jsonl", &lines)]);
    case.build().unwrap();
    let first = fs::read(case.path()).unwrap();
    let again = case.build().unwrap();
    assert!(fs::read(case.path()).unwrap() == first);
    assert_eq!(again.digest(), sirocco_corpus::sha256_hex(&first[..first.len() - 32]));
    assert_eq!(case.open().unwrap().digest(), again.digest());
}

#[test]
fn bad_records_are_an_error_or_counted_and_named() {
    let long = line("q", &"labas ".repeat(200));
    let lines = line("a", "b") + "{}\n" + &long + &line("c", "d") + &line("e", " ");
    let mut case = Case::new(&[("a.jsonl", &lines)]);
    assert_eq!(case.build().unwrap_err(), "a.jsonl:2: the field `messages` is missing; found no field");
    assert!(!case.path().exists());
    case.on_bad = OnBad::Skip;
    let cache = case.build().unwrap();
    let source = &cache.header().sources[0];
    assert_eq!((source.records, source.documents, source.skipped.count), (5, 2, 3));
    assert_eq!(source.skipped.places.iter().map(|place| place.line).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!(source.skipped.by_kind["longer than the sequence length"], 1);
}

#[test]
fn the_first_bad_record_of_the_file_is_the_error() {
    let case = Case::new(&[("a.jsonl", &(line("a", "b") + &line("q", &"labas ".repeat(200)) + "{\n"))]);
    let words = case.build().unwrap_err();
    assert!(words.starts_with("a.jsonl:2: the conversation has "), "{words}");
    assert!(words.ends_with(" tokens; expected at most 128 (sequence_length)"), "{words}");
}

#[test]
fn a_file_without_target_tokens_is_an_error() {
    let mut case = Case::new(&[("a.jsonl", &line("a", "b")), ("b.jsonl", "{}\n[]\n")]);
    case.on_bad = OnBad::Skip;
    let words = case.build().unwrap_err();
    assert_eq!(words, "b.jsonl: found no target tokens (2 records, 2 of them bad); expected at least one");
    let empty = Case::new(&[("e.jsonl", "")]);
    assert_eq!(empty.build().unwrap_err(), "e.jsonl: found no target tokens (0 records, 0 of them bad); expected at least one");
    assert!(!empty.path().exists());
}

#[test]
fn a_long_text_is_cut_and_every_token_but_the_first_of_a_piece_is_learnt() {
    let text = "labas 3lik sa7bi ".repeat(40);
    let mut case = Case::new(&[("a.txt", &text)]);
    (case.format, case.sequence_length) = (Format::Text, 32);
    let found = documents(&case.build().unwrap());
    let ids: Vec<u32> = found.iter().flat_map(|document| document.ids.clone()).collect();
    let mut expected = case.tokenizer.encode(text.trim_end_matches('\n')).unwrap();
    expected.extend(case.tokenizer.eos_id());
    assert_eq!(ids, expected);
    assert!(found.iter().all(|d| d.ids.len() <= 32 && d.target_count() == d.ids.len() - 1 && d.target_count() > 0));
}

#[test]
fn a_cache_made_from_something_else_is_found() {
    let case = Case::new(&[("a.jsonl", &line("a", "b"))]);
    let cache = case.build().unwrap();
    cache.check_inputs(&case.inputs()).unwrap();
    let shorter = TokenCacheInputs { sequence_length: 64, ..case.inputs() };
    assert!(cache.check_inputs(&shorter).unwrap_err().to_string().ends_with("sequence_length is 128; expected 64"));
    let text = TokenCacheInputs { format: Format::Text, ..case.inputs() };
    assert!(cache.check_inputs(&text).unwrap_err().to_string().ends_with("the format is chat; expected text"));
    let other = Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/inst")).unwrap();
    let other = TokenCacheInputs { tokenizer: &other, ..case.inputs() };
    assert!(cache.check_inputs(&other).unwrap_err().to_string().contains("the tokenizer's digest is"));
    fs::write(&case.files[0], line("a", "c")).unwrap();
    assert!(cache.check_inputs(&case.inputs()).unwrap_err().to_string().contains("the SHA-256 of "));
}

#[test]
fn an_altered_or_cut_cache_is_refused_at_every_byte() {
    let case = Case::new(&[("a.jsonl", &line("a", "b"))]);
    case.build().unwrap();
    let whole = fs::read(case.path()).unwrap();
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(case.path(), &altered).unwrap();
        assert!(case.open().unwrap_err().contains("cut short or altered"), "byte {at}");
    }
    for length in [0, 11, 51, 60, whole.len() - 1] {
        fs::write(case.path(), &whole[..length]).unwrap();
        case.open().unwrap_err();
    }
}

/// A cache whose digest is right and whose content lies must be an error, never a panic.
fn forge(case: &Case, edit: impl FnOnce(&mut Vec<u8>)) -> Result<TokenCache, String> {
    use std::io::Write;
    let mut bytes = fs::read(case.path()).unwrap();
    bytes.truncate(bytes.len() - 32);
    edit(&mut bytes);
    let digest = sirocco_corpus::sha256_hex(&bytes);
    let raw = (0..32).map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap());
    bytes.extend(raw);
    fs::File::create(case.path()).unwrap().write_all(&bytes).unwrap();
    case.open()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_forged_cache_never_panics(place in 0usize..10_000, byte: u8) {
        let case = Case::new(&[("a.jsonl", &line("a", "b"))]);
        case.build().unwrap();
        if let Ok(cache) = forge(&case, |bytes| { let at = place % bytes.len(); bytes[at] = byte; }) {
            documents(&cache);
        }
    }

    #[test]
    fn from_documents_to_batches_nothing_is_lost(lengths in proptest::collection::vec(1usize..33, 1..60), seed: u64, ranks in 1usize..5) {
        let make = |n: &usize| Document { ids: (0..*n as u32).collect(), targets: vec![1..*n as u32] };
        let documents: Vec<Document> = lengths.iter().map(make).collect();
        let sequences = pack(&lengths, 32, seed).unwrap();
        let order = Order { seed, sequences: sequences.len(), global_batch: sequences.len() };
        let batch = order.step(0);
        let mut targets = 0;
        for rank in 0..ranks {
            for sequence in Order::share(&batch, rank, ranks) {
                let members: Vec<&Document> = sequences[sequence].iter().map(|d| &documents[*d]).collect();
                targets += assemble(&members).target_count();
            }
        }
        prop_assert_eq!(targets, lengths.iter().sum::<usize>() - lengths.len());
    }
}

//! A corpus from its specification to its files, and everything that must stop it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use sirocco_corpus::{Report, Spec, check, prepare, read_chat};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

const SPEC: &str = r#"
name = "tiny"
output = "out"
held_out = 0.2
on_bad = "skip"
[[source]]
name = "pairs"
path = "pairs.csv"
format = "csv"
columns = ["english", "darija"]
prompt = "Translate to Darija: {english}"
answer = "{darija}"
split_by = "english"
[source.licence]
name = "MIT"
file = "LICENSE"
attribution = "This software includes data sourced from Somewhere."
link = "https://example.org/data"
[[source]]
name = "chats"
path = "chats.jsonl"
format = "chat"
licence = { name = "CC0-1.0", file = "LICENSE" }
"#;

fn table() -> String {
    let mut text = String::from("english,darija\n\"open,7na\nalone\nempty,\n");
    for i in 0..100 {
        text.push_str(&format!("Sentence {i}!,jomla {i}\n \"sentence {i}\",jomla t {i}\n"));
    }
    text.push_str("Sentence 3!, jomla 3\n");
    text
}

fn setup(dir: &Path, spec: &str) -> Spec {
    let chat = |q: &str| format!(r#"{{"messages":[{{"role":"user","content":"{q}"}},{{"role":"assistant","content":"سلام"}}]}}"#);
    fs::write(dir.join("pairs.csv"), table()).unwrap();
    fs::write(dir.join("chats.jsonl"), format!("{}\n{{}}\n{}\n", chat("sentence 3"), chat("Salam"))).unwrap();
    fs::write(dir.join("LICENSE"), "Keep this notice.\n").unwrap();
    Spec::parse(Path::new("tiny.toml"), spec).unwrap().rooted(dir)
}

fn run(spec: &Spec) -> Report {
    prepare(spec, &mut |_| {}).unwrap()
}

fn fails(spec: &Spec) -> String {
    prepare(spec, &mut |_| {}).unwrap_err().to_string()
}

#[test]
fn everything_is_counted_and_no_question_is_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let spec = setup(dir.path(), SPEC);
    let report = run(&spec);
    let pairs = &report.sources[0];
    assert_eq!((pairs.records, pairs.kept, pairs.duplicates, pairs.skipped.count), (204, 200, 1, 3));
    let lines: Vec<u64> = pairs.skipped.places.iter().map(|place| place.line).collect();
    assert_eq!(lines, [2, 3, 4]);
    assert_eq!((report.sources[1].kept, report.sources[1].skipped.places[0].line), (2, 2));
    assert_eq!(report.train.conversations + report.valid.conversations, 202);
    let mut sides: HashMap<String, HashSet<&str>> = HashMap::new();
    for side in ["train", "valid"] {
        for record in read_chat(&spec.output.join(format!("{side}.jsonl"))).unwrap() {
            let question = record.unwrap().value.messages[0].content.replace("Translate to Darija: ", "");
            let key = question.to_lowercase().replace(['!', '"', ' '], "");
            sides.entry(key).or_default().insert(side);
        }
    }
    assert!(sides.values().all(|on| on.len() == 1));
    assert_eq!(sides.len(), 101);
    assert_eq!(report.questions_with_several_answers, 100);
}

#[test]
fn the_same_specification_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let spec = setup(dir.path(), SPEC);
    let first = run(&spec);
    let read = |name: &str| fs::read(spec.output.join(name)).unwrap();
    let before: Vec<_> = ["train.jsonl", "report.json", "report.md", "NOTICE.md"].map(read).into();
    assert_eq!(run(&spec), first);
    assert_eq!(Vec::from(["train.jsonl", "report.json", "report.md", "NOTICE.md"].map(read)), before);
    let notice = String::from_utf8(before[3].clone()).unwrap();
    assert!(notice.contains("This software includes data sourced from Somewhere. <https://example.org/data>"));
    assert!(notice.contains("Keep this notice."));
    assert!(fs::read_to_string(spec.output.join("report.md")).unwrap().contains("pairs.csv:3: the row has 1 fields; expected 2"));
}

#[test]
fn check_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec = setup(dir.path(), SPEC);
    let mut seen = Vec::new();
    let report = check(&spec, &mut |progress| seen.push(progress)).unwrap();
    assert!(report.files.is_empty() && !spec.output.exists());
    assert_eq!((seen.last().unwrap().source.as_str(), seen.last().unwrap().records), ("chats", 3));
}

#[test]
fn fail_names_the_first_bad_line() {
    let dir = tempfile::tempdir().unwrap();
    let spec = setup(dir.path(), &SPEC.replace("skip", "fail"));
    let words = fails(&spec);
    assert!(
        words.ends_with("pairs.csv:2: a quoted field is not closed on its line (column 1); expected a closing quotation mark")
    );
    assert!(!spec.output.exists());
}

#[test]
fn an_altered_or_missing_source_or_licence_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pin = format!("sha256 = \"{}\"\nformat = \"csv\"", "0".repeat(64));
    let spec = setup(dir.path(), &SPEC.replace("format = \"csv\"", &pin));
    assert!(fails(&spec).contains(&format!("expected {}", "0".repeat(64))));
    let spec = setup(dir.path(), &SPEC.replace("file = \"LICENSE\"", "file = \"GONE\""));
    assert!(fails(&spec).contains("GONE: cannot read the licence"));
    let spec = setup(dir.path(), &SPEC.replace("chats.jsonl", "gone.jsonl"));
    assert!(fails(&spec).contains("gone.jsonl: cannot open"));
}

#[test]
fn somebody_elses_output_and_an_empty_side_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = setup(dir.path(), SPEC);
    fs::create_dir(&spec.output).unwrap();
    fs::write(spec.output.join("train.jsonl"), "mine").unwrap();
    assert!(fails(&spec).contains("holds train.jsonl without a report.json"));
    fs::write(spec.output.join("report.json"), r#"{"name":"other"}"#).unwrap();
    assert!(
        fails(&spec).contains("holds the corpus `other`; expected an empty directory or an earlier result of the corpus `tiny`")
    );
    assert_eq!(fs::read_to_string(spec.output.join("train.jsonl")).unwrap(), "mine");
    let spec = setup(dir.path(), &SPEC.replace("0.2", "0.0000001"));
    fs::remove_dir_all(&spec.output).unwrap();
    assert_eq!(fails(&spec), "tiny.toml: no conversation is left for validation; found 202 in all");
}

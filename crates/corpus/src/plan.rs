//! Reads the sources of a corpus, drops duplicates, splits, and counts all of it. Writes nothing.

use crate::chat::read_chat;
use crate::digest::sha256_file;
use crate::error::CorpusError;
use crate::fault::Fault;
use crate::message::{Conversation, Message};
use crate::prepare::Progress;
use crate::report::{Report, SourceReport, SplitReport};
use crate::sieve::{Located, Record, Sieve};
use crate::spec::{Source, SourceFormat, Spec};
use crate::split::{held_out, normal};
use crate::stats::{Lengths, Script, count_oddities};
use crate::table::{TableOptions, read_table};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// A corpus that has been read but not written.
pub(crate) struct Plan {
    pub(crate) train: Vec<Conversation>,
    pub(crate) valid: Vec<Conversation>,
    pub(crate) report: Report,
}

/// A conversation and the question that decides its side of the split.
struct Sample {
    conversation: Conversation,
    question: String,
}

type Samples = Box<dyn Iterator<Item = Record<Sample>>>;

/// How many records pass between two reports of progress.
const PROGRESS_EVERY: u64 = 5000;

pub(crate) fn plan(spec: &Spec, progress: &mut dyn FnMut(Progress)) -> Result<Plan, CorpusError> {
    let mut gathering = Gathering::default();
    let sources = spec.sources.iter().map(|source| gathering.read(spec, source, progress)).collect::<Result<Vec<_>, _>>()?;
    let kept = (gathering.train.len() + gathering.valid.len()) as u64;
    let nothing = |side| CorpusError::NothingLeft { spec: spec.file.clone(), side, found: kept };
    if gathering.train.is_empty() {
        return Err(nothing("training"));
    }
    if gathering.valid.is_empty() && spec.held_out > 0.0 {
        return Err(nothing("validation"));
    }
    let report = Report {
        name: spec.name.clone(),
        held_out: spec.held_out,
        train: split_report(&gathering.train),
        valid: split_report(&gathering.valid),
        questions_with_several_answers: gathering.questions.values().filter(|count| **count > 1).count() as u64,
        sources,
        files: Vec::new(),
    };
    Ok(Plan { train: gathering.train, valid: gathering.valid, report })
}

/// What is known over all sources.
#[derive(Default)]
struct Gathering {
    seen: HashSet<[u8; 32]>,
    questions: HashMap<String, u64>,
    train: Vec<Conversation>,
    valid: Vec<Conversation>,
}

impl Gathering {
    fn read(&mut self, spec: &Spec, source: &Source, progress: &mut dyn FnMut(Progress)) -> Result<SourceReport, CorpusError> {
        let sha256 = check_digest(source)?;
        let mut sieve = Sieve::new(spec.on_bad);
        let mut counts = Counts::default();
        for record in samples(spec, source)? {
            counts.records += 1;
            if counts.records.is_multiple_of(PROGRESS_EVERY) {
                progress(Progress { source: source.name.clone(), records: counts.records });
            }
            if let Some(Located { value, .. }) = sieve.pass(record)? {
                self.keep(value, spec.held_out, &mut counts);
            }
        }
        progress(Progress { source: source.name.clone(), records: counts.records });
        Ok(SourceReport {
            name: source.name.clone(),
            path: source.path.clone(),
            sha256,
            licence: source.licence.name.clone(),
            records: counts.records,
            kept: counts.question_chars.len() as u64,
            duplicates: counts.duplicates,
            skipped: sieve.into_skips(),
            question_chars: Lengths::of(counts.question_chars),
            answer_chars: Lengths::of(counts.answer_chars),
            answer_scripts: counts.scripts,
            oddities: counts.oddities,
        })
    }

    fn keep(&mut self, sample: Sample, share: f64, counts: &mut Counts) {
        if !self.seen.insert(identity(&sample.conversation)) {
            counts.duplicates += 1;
            return;
        }
        counts.add(&sample.conversation);
        *self.questions.entry(normal(&sample.question)).or_default() += 1;
        let side = if held_out(&sample.question, share) { &mut self.valid } else { &mut self.train };
        side.push(sample.conversation);
    }
}

/// The account of one source.
#[derive(Default)]
struct Counts {
    records: u64,
    duplicates: u64,
    question_chars: Vec<u64>,
    answer_chars: Vec<u64>,
    scripts: BTreeMap<Script, u64>,
    oddities: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, conversation: &Conversation) {
        let (mut question, mut answer) = (0, String::new());
        for message in &conversation.messages {
            count_oddities(&message.content, &mut self.oddities);
            if message.role == "assistant" {
                answer.push_str(&message.content);
            } else {
                question += message.content.chars().count() as u64;
            }
        }
        self.question_chars.push(question);
        self.answer_chars.push(answer.chars().count() as u64);
        *self.scripts.entry(Script::of(&answer)).or_default() += 1;
    }
}

fn check_digest(source: &Source) -> Result<String, CorpusError> {
    let found = sha256_file(&source.path)?;
    match &source.sha256 {
        Some(expected) if *expected != found => {
            Err(CorpusError::Digest { file: source.path.clone(), found, expected: expected.clone() })
        }
        _ => Ok(found),
    }
}

fn samples(spec: &Spec, source: &Source) -> Result<Samples, CorpusError> {
    match source.format {
        SourceFormat::Csv => table_samples(spec, source),
        SourceFormat::Chat => Ok(Box::new(read_chat(&source.path)?.map(|record| {
            record.map(|Located { line, value }| {
                let user = value.messages.iter().find(|message| message.role == "user");
                let question = user.map(|message| message.content.clone()).unwrap_or_default();
                Located { line, value: Sample { conversation: value, question } }
            })
        }))),
    }
}

fn table_samples(spec: &Spec, source: &Source) -> Result<Samples, CorpusError> {
    let wrong = |message| CorpusError::Spec { file: spec.file.clone(), line: None, message };
    let (prompt, answer, question) = source.templates().map_err(wrong)?;
    let mut replaces = Vec::new();
    for replace in &source.replace {
        let column = source.column("replace.column", &replace.column).map_err(wrong)?;
        replaces.push((column, replace.from.clone(), replace.to.clone()));
    }
    let options = TableOptions { columns: source.columns.clone(), delimiter: source.delimiter, multiline: source.multiline };
    let (path, columns) = (source.path.clone(), source.columns.clone());
    Ok(Box::new(read_table(&source.path, options)?.map(move |record| {
        let Located { line, value: mut row } = record?;
        for (column, from, to) in &replaces {
            row[*column] = row[*column].replace(from, to);
        }
        row.iter_mut().for_each(|cell| *cell = cell.trim().to_owned());
        for column in prompt.columns().chain(answer.columns()) {
            require(&row, column, &columns).map_err(|fault| CorpusError::bad(Path::new(&path), line, fault))?;
        }
        let messages = vec![Message::new("user", prompt.render(&row)), Message::new("assistant", answer.render(&row))];
        let question = row[question].clone();
        Ok(Located { line, value: Sample { conversation: Conversation { messages }, question } })
    })))
}

fn require(row: &[String], column: usize, columns: &[String]) -> Result<(), Fault> {
    if row[column].is_empty() { Err(Fault::EmptyCell { column: columns[column].clone() }) } else { Ok(()) }
}

/// A digest of everything in a conversation; lengths keep neighbouring texts apart.
fn identity(conversation: &Conversation) -> [u8; 32] {
    let mut sha256 = Sha256::new();
    for message in &conversation.messages {
        for text in [&message.role, &message.content] {
            sha256.update((text.len() as u64).to_le_bytes());
            sha256.update(text.as_bytes());
        }
    }
    sha256.finalize().into()
}

fn split_report(side: &[Conversation]) -> SplitReport {
    let characters = side.iter().flat_map(|c| &c.messages).map(|m| m.content.chars().count() as u64).sum();
    SplitReport { conversations: side.len() as u64, characters }
}

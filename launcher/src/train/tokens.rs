//! The token caches of a run: made once, before any rank starts, and read by all of them.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sirocco_config::{ConfigError, Data, Format, OnBad, Run, RunFile};
use sirocco_ledger::Digest;
use sirocco_policy::{Admitted, Sha256Digest};
use sirocco_tokens::{IngestProgress, TokenCache, TokenCacheInputs, Tokenizer, TokensError, one_per_sequence, pack};

use crate::failure::{Failure, Kind};
use crate::gate::{AdmittedData, DataFile, expect_same};
use crate::output::{grouped, say};

/// Before the progress of tokenising is shown.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records that were passed over and are named; the cache's header names more of them.
const NAMED: usize = 5;

/// The caches of the two sides of the data.
pub(crate) const SIDES: [&str; 2] = ["train.tokens", "valid.tokens"];

/// What tokens are made from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) run: &'a Run,
    pub(crate) tokenizer: &'a Tokenizer,
    /// The files that may be tokenised; no other is read.
    pub(crate) data: &'a [AdmittedData],
}

impl Source<'_> {
    fn admitted(&self, path: &Path) -> Result<&DataFile, Failure> {
        let found = self.data.iter().map(Admitted::thing).find(|file| file.path == path);
        found.ok_or_else(|| {
            let message = format!("{}: its tokens are gone, and the policy was not asked about it", path.display());
            Failure::new(Kind::Failed, message).help("type the same command again")
        })
    }
}

/// What the data of a run amounts to.
#[derive(Debug, Serialize)]
pub(crate) struct Tokens {
    pub(crate) train: Split,
    /// `None` where `[data] valid` is empty.
    pub(crate) valid: Option<Split>,
}

/// One side of the data.
#[derive(Debug, Serialize)]
pub(crate) struct Split {
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    pub(crate) target_tokens: u64,
    /// After packing.
    pub(crate) sequences: u64,
    /// Records that were bad or did not fit.
    pub(crate) skipped: u64,
    /// SHA-256 of the cache.
    #[serde(skip)]
    pub(crate) digest: String,
}

impl Tokens {
    /// The digest of each cache.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&'static str, Digest)> {
        let sides = [Some(&self.train), self.valid.as_ref()].into_iter().zip(SIDES);
        sides.filter_map(|(split, side)| Some((side, split?.digest.parse::<Sha256Digest>().ok()?.into())))
    }

    /// Optimizer steps of the run. `file` is what `run` was made of.
    pub(crate) fn steps(&self, file: &RunFile, run: &Run) -> Result<u64, ConfigError> {
        run.steps(self.train.sequences).map_err(|error| match error {
            ConfigError::Warmup { warmup_steps, steps, .. } => {
                let at = file.to_blame(&["train.warmup_steps", "train.epochs", "train.steps"]);
                ConfigError::Warmup { at, warmup_steps, steps }
            }
            other => other,
        })
    }
}

/// Opens the caches under `tokens`, or makes what is not there, in `made_in`. A cache that is there is what the run began with:
/// it stays, even if the data files have changed since; one of another tokenizer or of other settings is refused. What one that
/// is made again holds is compared by the trainer with what its checkpoint began with.
pub(crate) fn open_or_build(source: &Source<'_>, tokens: &Path, made_in: &Path) -> Result<Tokens, Failure> {
    let (run, digest) = (source.run, source.tokenizer.digest());
    split_by(run, |side, files| {
        let path = tokens.join(side);
        if !path.is_file() {
            return build(source, &made_in.join(side), files);
        }
        let cache = TokenCache::open(&path)?;
        expect_inputs(&cache, run, &digest).map_err(|(what, found, expected)| TokensError::CacheStale {
            path,
            what: what.to_owned(),
            found,
            expected,
        })?;
        Ok(cache)
    })
}

/// Compares what a cache was made with, the data files aside, with what the run says. The error is what, found, expected.
fn expect_inputs(cache: &TokenCache, run: &Run, tokenizer: &str) -> Result<(), (&'static str, String, String)> {
    let made = &cache.header().inputs;
    let (format, length) = (format_of(run), run.data.sequence_length);
    if made.tokenizer != tokenizer {
        return Err(("the tokenizer's digest", made.tokenizer.clone(), tokenizer.to_owned()));
    }
    if made.format != format {
        let name = |format: sirocco_tokens::Format| format!("{format:?}").to_lowercase();
        return Err(("the format", name(made.format), name(format)));
    }
    if made.sequence_length as u64 != length {
        return Err(("sequence_length", made.sequence_length.to_string(), length.to_string()));
    }
    Ok(())
}

fn format_of(run: &Run) -> sirocco_tokens::Format {
    match run.data.format {
        Format::Chat => sirocco_tokens::Format::Chat,
        Format::Text => sirocco_tokens::Format::Text,
    }
}

/// Makes the caches under `tokens`, in place of any that a preparation left there which was broken off.
pub(crate) fn prepare(source: &Source<'_>, tokens: &Path) -> Result<Tokens, Failure> {
    split_by(source.run, |side, files| build(source, &tokens.join(side), files))
}

/// Opens caches that are there.
pub(crate) fn open(run: &Run, tokens: &Path) -> Result<Tokens, Failure> {
    split_by(run, |side, _| Ok(TokenCache::open(&tokens.join(side))?))
}

fn split_by(run: &Run, cache: impl Fn(&str, &[PathBuf]) -> Result<TokenCache, Failure>) -> Result<Tokens, Failure> {
    let train = split(run, &cache(SIDES[0], &run.data.train)?)?;
    let valid = match run.data.valid.as_slice() {
        [] => None,
        files => Some(split(run, &cache(SIDES[1], files)?)?),
    };
    Ok(Tokens { train, valid })
}

fn split(run: &Run, cache: &TokenCache) -> Result<Split, Failure> {
    let (lengths, length) = (cache.lengths(), run.data.sequence_length as usize);
    let sequences = if run.data.packing { pack(&lengths, length, run.seed)? } else { one_per_sequence(&lengths, length)? };
    let sum = |count: fn(&sirocco_tokens::SourceCounts) -> u64| cache.header().sources.iter().map(count).sum();
    Ok(Split {
        documents: cache.len() as u64,
        tokens: sum(|source| source.tokens),
        target_tokens: sum(|source| source.target_tokens),
        sequences: sequences.len() as u64,
        skipped: sum(|source| source.skipped.count),
        digest: cache.digest().to_owned(),
    })
}

fn build(source: &Source<'_>, path: &Path, files: &[PathBuf]) -> Result<TokenCache, Failure> {
    let Source { run, tokenizer, .. } = *source;
    let admitted = files.iter().map(|file| source.admitted(file)).collect::<Result<Vec<_>, _>>()?;
    let Data { sequence_length, on_bad, .. } = run.data;
    let inputs = TokenCacheInputs {
        tokenizer,
        files,
        format: format_of(run),
        sequence_length: sequence_length as usize,
        on_bad: match on_bad {
            OnBad::Fail => sirocco_corpus::OnBad::Fail,
            OnBad::Skip => sirocco_corpus::OnBad::Skip,
        },
    };
    let (start, mut bar) = (Instant::now(), None);
    let result = TokenCache::build(path, &inputs, &mut |seen: IngestProgress| {
        if start.elapsed() >= PATIENCE {
            let bar = bar.get_or_insert_with(|| spinner(files.len()));
            bar.set_message(format!("{} documents, {} tokens", grouped(seen.documents), grouped(seen.tokens)));
            bar.set_position(seen.file as u64);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let cache = result?;
    for (read, asked) in cache.header().sources.iter().zip(admitted) {
        expect_same(&asked.path, &read.sha256, &asked.digest.to_string()).inspect_err(|_| {
            // The failure that is about to be shown matters more.
            let _ = std::fs::remove_file(path);
        })?;
    }
    name_skipped(&cache);
    Ok(cache)
}

fn spinner(files: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("tokenising file {pos} of {len}: {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new(files as u64).with_style(style)
}

/// Skipping is never silent.
fn name_skipped(cache: &TokenCache) {
    for source in cache.header().sources.iter().filter(|source| source.skipped.count > 0) {
        let skipped = &source.skipped;
        say(format_args!("note: {}: {} of {} records skipped", source.file.display(), skipped.count, source.records));
        for place in skipped.places.iter().take(NAMED) {
            say(format_args!("  {}:{}: {}", place.file.display(), place.line, place.reason));
        }
        if skipped.count > NAMED as u64 {
            say(format_args!("  and {} more", skipped.count - NAMED as u64));
        }
    }
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Failure {
        let error = match error {
            TokensError::Corpus(error) => return Failure::from(error),
            error => error,
        };
        let kind = match &error {
            TokensError::Io { action, .. } if !matches!(*action, "read" | "open") => Kind::Failed,
            _ => Kind::Input,
        };
        let help = match &error {
            TokensError::TooLong { found, .. } => {
                format!("set data.sequence_length={found} or more, shorten the conversation, or set data.on_bad=skip")
            }
            TokensError::Record { .. } => {
                "correct the record, or set data.on_bad=skip: such records are then counted and named".to_owned()
            }
            TokensError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                "a model directory holds tokenizer.json beside its weights; sirocco model convert makes one".to_owned()
            }
            TokensError::NoTargets { .. } => {
                "chat data needs answers by the assistant; plain text needs data.format=text".to_owned()
            }
            TokensError::CacheDamaged { path, .. } => {
                let path = path.display();
                format!(
                    "remove {path} to make it again; a run with a checkpoint goes on only if the data files are what they were"
                )
            }
            TokensError::CacheStale { .. } => {
                "put the tokenizer and the settings back that the run began with, or start a new run".to_owned()
            }
            _ => return Failure::new(kind, error),
        };
        Failure::new(kind, error).help(help)
    }
}

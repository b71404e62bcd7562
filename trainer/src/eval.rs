//! `sirocco eval`: loss, perplexity and tokens of a model on data files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sirocco_corpus::OnBad;
use sirocco_model::{Batch, LossSum, Network};
use sirocco_tokens::{Document, Format, TokenCache, TokenCacheInputs, Tokenizer, assemble};

use crate::args::{DataFormat, EvalJob};
use crate::failure::{Failure, print_line};
use crate::samples::{self, Sample};
use crate::{models, threads};

/// Tokens of one forward: enough to fill the matrix products, little memory.
const TOKENS: usize = 2048;

/// The result of `--json`.
#[derive(Serialize)]
struct Report {
    model: PathBuf,
    adapter: Option<PathBuf>,
    /// All files together.
    total: Account,
    sources: Vec<Account>,
    samples: Vec<Sample>,
}

/// One data file, or all.
#[derive(Serialize)]
struct Account {
    file: Option<PathBuf>,
    documents: u64,
    skipped: u64,
    tokens: u64,
    target_tokens: usize,
    /// Mean of −log p over target tokens, natural logarithm.
    loss: f64,
    perplexity: f64,
}

pub(crate) fn run(job: &EvalJob) -> Result<(), Failure> {
    if job.samples > 0 && matches!(job.format, DataFormat::Text) {
        return Err(Failure::usage("--samples answers conversations, and --format is text").help("leave one of the two out"));
    }
    threads::use_threads(job.threads)?;
    let tokenizer = Tokenizer::open(&job.model).map_err(Failure::data)?;
    let network = models::with_adapter(&job.model, job.adapter.as_deref(), job.dtype.into())?;
    // The tokens are as confidential as the data: a directory of an unpredictable name that nobody else can read.
    let scratch = tempfile::Builder::new().prefix("sirocco-eval-").tempdir();
    let scratch = scratch.map_err(|error| Failure::failed(format!("cannot make a directory for temporary files: {error}")))?;
    let cache = tokenise(job, &tokenizer, network.config().longest_document(), scratch.path())?;
    let sums = losses(&network, &cache)?;
    let sources: Vec<Account> = cache
        .header()
        .sources
        .iter()
        .zip(&sums)
        .map(|(source, sum)| Account {
            file: Some(source.file.clone()),
            documents: source.documents,
            skipped: source.skipped.count,
            tokens: source.tokens,
            ..Account::of(*sum)
        })
        .collect();
    let all =
        sums.iter().fold(LossSum::default(), |all, sum| LossSum { sum: all.sum + sum.sum, targets: all.targets + sum.targets });
    let total = Account {
        documents: sources.iter().map(|source| source.documents).sum(),
        skipped: sources.iter().map(|source| source.skipped).sum(),
        tokens: sources.iter().map(|source| source.tokens).sum(),
        ..Account::of(all)
    };
    let samples = match job.data.first() {
        Some(file) if job.samples > 0 => samples::answer(&network, &tokenizer, file, job.samples)?,
        _ => Vec::new(),
    };
    let report = Report { model: job.model.clone(), adapter: job.adapter.clone(), total, sources, samples };
    report.print(job.json)
}

impl Account {
    fn of(sum: LossSum) -> Self {
        let loss = sum.sum / sum.targets as f64;
        Self { file: None, documents: 0, skipped: 0, tokens: 0, target_tokens: sum.targets, loss, perplexity: loss.exp() }
    }

    fn row(&self) -> String {
        let name = self.file.as_deref().map_or_else(|| "all".to_string(), |file| file.display().to_string());
        let Self { documents, skipped, tokens, target_tokens, loss, perplexity, .. } = self;
        format!("{loss:8.4} {perplexity:12.3} {target_tokens:9} {tokens:9} {documents:9} {skipped:7}  {name}")
    }
}

impl Report {
    fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            print_line(&serde_json::to_string(self).map_err(Failure::failed)?);
            return Ok(());
        }
        print_line("    loss   perplexity   targets    tokens documents skipped  file");
        self.sources.iter().for_each(|source| print_line(&source.row()));
        if self.sources.len() > 1 {
            print_line(&self.total.row());
        }
        for sample in &self.samples {
            print_line(&format!("\nprompt     {}\nreference  {}\nanswer     {}", sample.prompt, sample.reference, sample.answer));
        }
        Ok(())
    }
}

fn tokenise(job: &EvalJob, tokenizer: &Tokenizer, longest: usize, scratch: &Path) -> Result<TokenCache, Failure> {
    let format = match job.format {
        DataFormat::Chat => Format::Chat,
        DataFormat::Text => Format::Text,
    };
    let sequence_length = job.sequence_length.map_or(longest, |length| length.min(longest));
    let on_bad = if job.skip_bad { OnBad::Skip } else { OnBad::Fail };
    let inputs = TokenCacheInputs { tokenizer, files: &job.data, format, sequence_length, on_bad };
    TokenCache::build(&scratch.join("eval.tokens"), &inputs, &mut |_| {}).map_err(Failure::data)
}

/// The sum of losses of each source.
fn losses(network: &Network, cache: &TokenCache) -> Result<Vec<LossSum>, Failure> {
    let mut sums = vec![LossSum::default(); cache.header().sources.len()];
    let mut waiting: Vec<Document> = Vec::new();
    let mut tokens = 0;
    for number in 0..cache.len() {
        waiting.push(cache.document(number).map_err(Failure::data)?);
        tokens += waiting.last().map_or(0, |document| document.ids.len());
        let source = cache.source(number).unwrap_or(0);
        if tokens >= TOKENS || cache.source(number + 1) != Some(source) {
            let sum = loss(network, &waiting)?;
            sums[source].sum += sum.sum;
            sums[source].targets += sum.targets;
            waiting.clear();
            tokens = 0;
        }
    }
    Ok(sums)
}

fn loss(network: &Network, documents: &[Document]) -> Result<LossSum, Failure> {
    let flat = assemble(&documents.iter().collect::<Vec<_>>());
    let batch = Batch::new(flat.ids, flat.targets, &flat.offsets, network.config().vocabulary)
        .map_err(|error| Failure::data(format!("{error}: the tokenizer is not the model's")))?;
    network.loss(&batch).map_err(Failure::model)
}

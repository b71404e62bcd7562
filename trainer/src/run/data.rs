//! The run's data: sequences of documents in a token cache, cut into steps, shares and micro-batches.

use std::path::Path;

use sirocco_config::Run;
use sirocco_model::Batch;
use sirocco_tokens::{Document, TokenCache, assemble, one_per_sequence, pack};

use crate::failure::Failure;

/// A token cache as sequences.
pub(crate) struct Sequences {
    /// The name of the cache's file.
    side: String,
    cache: TokenCache,
    /// The documents of each sequence.
    sequences: Vec<Vec<usize>>,
    vocabulary: i64,
}

impl Sequences {
    /// Opens `RUN/tokens/NAME.tokens` and packs it; every rank does the same and gets the same.
    pub(crate) fn open(directory: &Path, name: &str, run: &Run, vocabulary: i64) -> Result<Self, Failure> {
        let side = format!("{name}.tokens");
        let cache = TokenCache::open(&directory.join("tokens").join(&side)).map_err(Failure::data)?;
        let (lengths, most) = (cache.lengths(), run.data.sequence_length as usize);
        let sequences = if run.data.packing { pack(&lengths, most, run.seed) } else { one_per_sequence(&lengths, most) };
        Ok(Self { side, cache, sequences: sequences.map_err(Failure::data)?, vocabulary })
    }

    /// What the ledger calls the token cache: `train.tokens`.
    pub(crate) fn side(&self) -> &str {
        &self.side
    }

    /// SHA-256 of the token cache.
    pub(crate) fn digest(&self) -> &str {
        self.cache.digest()
    }

    /// The data files that it was made from, with their SHA-256.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.cache.header().sources.iter().map(|source| (source.file.as_path(), source.sha256.as_str()))
    }

    /// How many sequences there are.
    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Reads the documents of some sequences.
    fn documents(&self, sequences: &[usize]) -> Result<Vec<Document>, Failure> {
        let numbers = sequences.iter().flat_map(|&sequence| self.sequences[sequence].iter());
        numbers.map(|&document| self.cache.document(document).map_err(Failure::data)).collect()
    }

    /// The batch of some sequences.
    pub(crate) fn batch(&self, sequences: &[usize]) -> Result<Batch, Failure> {
        let documents = self.documents(sequences)?;
        let flat = assemble(&documents.iter().collect::<Vec<_>>());
        Batch::new(flat.ids, flat.targets, &flat.offsets, self.vocabulary)
            .map_err(|error| Failure::data(format!("{error}: the token cache is of another tokenizer than the model")))
    }

    /// Tokens and target tokens of some sequences, without reading them: every rank knows the whole step's denominator.
    pub(crate) fn count(&self, sequences: &[usize]) -> Count {
        let numbers = sequences.iter().flat_map(|&sequence| self.sequences[sequence].iter());
        numbers.filter_map(|&document| self.cache.counts(document)).fold(Count::default(), |sum, (tokens, targets)| Count {
            tokens: sum.tokens + tokens,
            targets: sum.targets + targets,
        })
    }
}

/// Sizes of a global batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// All tokens.
    pub(crate) tokens: usize,
    /// Tokens whose loss counts.
    pub(crate) targets: usize,
}

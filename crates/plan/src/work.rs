//! What is computed: the method, the batch, and what the data is like.

use serde::Serialize;
use sirocco_config::{Dtype, Method, Projection, Run};

/// Which weights are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trained {
    /// Every weight.
    Full,
    /// Two factors on each of these projections.
    Lora {
        /// R.
        rank: u64,
        /// Which projections have factors.
        targets: Vec<Projection>,
    },
}

/// One optimizer step, as far as its cost goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Which weights are trained.
    pub trained: Trained,
    /// Of the base and of matrix products.
    pub dtype: Dtype,
    /// Tokens of a sequence.
    pub sequence_length: u64,
    /// Sequences per forward of a rank.
    pub micro_batch: u64,
    /// Sequences per step over all ranks.
    pub global_batch: u64,
    /// Bytes of a bucket of gradients.
    pub bucket_bytes: u64,
    /// What the sequences hold.
    pub texture: Texture,
}

/// What the sequences hold: it decides the cost of attention and of the head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Texture {
    /// Length of the document in which an average token stands: Σ l² ÷ Σ l over documents of l tokens.
    pub document: f64,
    /// Share of tokens that are targets, 0 to 1: the head is computed for those alone.
    pub targets: f64,
    /// Share of a sequence that is filled with tokens, 0 to 1.
    pub filled: f64,
}

impl Texture {
    /// Sequences that are one document each, every token a target: the most that a run can cost.
    pub fn whole(sequence_length: u64) -> Texture {
        Texture { document: sequence_length as f64, targets: 1.0, filled: 1.0 }
    }

    /// Of documents with so many tokens and so many targets each, packed into sequences.
    pub fn of(documents: &[(usize, usize)], sequence_length: u64, sequences: usize) -> Option<Texture> {
        let tokens: f64 = documents.iter().map(|(length, _)| *length as f64).sum();
        let squares: f64 = documents.iter().map(|(length, _)| (*length as f64).powi(2)).sum();
        let targets: f64 = documents.iter().map(|(_, targets)| *targets as f64).sum();
        let room = sequences as f64 * sequence_length as f64;
        (tokens > 0.0 && room > 0.0).then(|| Texture {
            document: squares / tokens,
            targets: (targets / tokens).min(1.0),
            filled: (tokens / room).min(1.0),
        })
    }
}

impl Work {
    /// What a run file asks for, with sequences as `texture` says.
    pub fn of(run: &Run, texture: Texture) -> Work {
        let trained = match &run.method {
            Method::Full => Trained::Full,
            Method::Lora { rank, targets, .. } => Trained::Lora { rank: *rank, targets: targets.projections().to_vec() },
        };
        Work {
            trained,
            dtype: run.model.dtype,
            sequence_length: run.data.sequence_length,
            micro_batch: run.train.micro_batch,
            global_batch: run.train.global_batch,
            bucket_bytes: run.parallel.bucket_mb << 20,
            texture,
        }
    }

    /// Bytes of an element of base weights and activations.
    pub fn element(&self) -> u64 {
        match self.dtype {
            Dtype::Bf16 => 2,
            Dtype::Fp32 => 4,
        }
    }

    /// R of the factors on a projection, 0 where there are none.
    pub(crate) fn rank_on(&self, projection: Projection) -> u64 {
        match &self.trained {
            Trained::Lora { rank, targets } if targets.contains(&projection) => *rank,
            _ => 0,
        }
    }

    /// Whether the base's own weights are trained.
    pub(crate) fn is_full(&self) -> bool {
        self.trained == Trained::Full
    }

    /// Places for tokens in a micro-batch.
    pub fn micro_batch_tokens(&self) -> u64 {
        self.micro_batch * self.sequence_length
    }

    /// Tokens of a step over all ranks.
    pub fn tokens(&self) -> f64 {
        (self.global_batch * self.sequence_length) as f64 * self.texture.filled
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// LoRA of rank 16 on all projections, 8 sequences of 512, two at a time.
    pub(crate) fn lora() -> Work {
        Work {
            trained: Trained::Lora { rank: 16, targets: Projection::ALL.to_vec() },
            dtype: Dtype::Bf16,
            sequence_length: 512,
            micro_batch: 2,
            global_batch: 8,
            bucket_bytes: 25 << 20,
            texture: Texture::whole(512),
        }
    }

    /// The same with every weight trained.
    pub(crate) fn full() -> Work {
        Work { trained: Trained::Full, ..lora() }
    }

    #[test]
    fn a_token_stands_in_a_long_document_more_often_than_in_a_short_one() {
        let texture = Texture::of(&[(100, 40), (300, 160)], 512, 1).unwrap();
        assert_eq!(texture, Texture { document: 250.0, targets: 0.5, filled: 400.0 / 512.0 });
        assert_eq!(Texture::of(&[], 512, 1), None);
        assert_eq!(Texture::of(&[(10, 5)], 512, 0), None);
    }
}

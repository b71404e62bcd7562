//! Batches of random tokens: for measuring, and for comparing devices.

use sirocco_model::Batch;

use crate::failure::Failure;

/// Tokens that depend on the seed alone, every one a target, in documents of `document` tokens.
pub(crate) fn random_batch(seed: u64, (tokens, document): (usize, usize), vocabulary: i64) -> Result<Batch, Failure> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let ids: Vec<i64> = (0..=tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocabulary as u64) as i64
        })
        .collect();
    let mut offsets: Vec<i64> = (0..tokens).step_by(document).map(|offset| offset as i64).collect();
    offsets.push(tokens as i64);
    Batch::new(ids[..tokens].to_vec(), ids[1..].to_vec(), &offsets, vocabulary).map_err(Failure::model)
}
